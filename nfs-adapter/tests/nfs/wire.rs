//! A client that knows nothing but bytes: what it sends may be wrong in every way.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) const NFS: u32 = 100_003;
pub(crate) const MOUNT: u32 = 100_005;
pub(crate) const LAST: u32 = 1 << 31;
/// Long enough for anything that is not broken.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Words and byte strings, appended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Out(pub(crate) Vec<u8>);

impl Out {
    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn words(self, words: &[u32]) -> Self {
        words.iter().fold(self, |out, word| out.u32(*word))
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(crate) fn opaque(self, bytes: &[u8]) -> Self {
        let mut out = self.u32(bytes.len() as u32).bytes(bytes);
        while !out.0.len().is_multiple_of(4) {
            out.0.push(0);
        }
        out
    }
}

/// Taken off the front; what is not there fails the test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct In<'a>(pub(crate) &'a [u8]);

impl<'a> In<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.bytes(4).try_into().unwrap())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.bytes(8).try_into().unwrap())
    }

    pub(crate) fn bool(&mut self) -> bool {
        match self.u32() {
            0 => false,
            1 => true,
            other => panic!("{other} is no bool"),
        }
    }

    pub(crate) fn opaque(&mut self) -> &'a [u8] {
        let len = self.u32() as usize;
        let taken = self.bytes(len);
        self.bytes(len.wrapping_neg() & 3);
        taken
    }

    /// Nothing may follow.
    pub(crate) fn end(self) {
        assert!(self.0.is_empty(), "{} bytes too many", self.0.len());
    }
}

/// Who says they call.
#[derive(Clone, Debug)]
pub(crate) enum Auth {
    None,
    Sys(u32, u32, Vec<u32>),
}

impl Auth {
    pub(crate) fn root() -> Self {
        Self::Sys(0, 0, Vec::new())
    }

    pub(crate) fn user(uid: u32) -> Self {
        Self::Sys(uid, uid, Vec::new())
    }

    fn put(&self, out: Out) -> Out {
        match self {
            Self::None => out.words(&[0, 0]),
            Self::Sys(uid, gid, groups) => {
                let body = Out::default().u32(0).opaque(b"test").words(&[*uid, *gid]);
                let body = body.u32(groups.len() as u32).words(groups);
                out.u32(1).opaque(&body.0)
            }
        }
    }
}

/// What a reply's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Success,
    /// `accept_stat`.
    Refused(u32),
    /// `reject_stat`, and `auth_stat` or the lowest version.
    Denied(u32, u32),
}

/// A reply, with what follows its header.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) xid: u32,
    pub(crate) verdict: Verdict,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    fn parse(record: &[u8]) -> Self {
        let mut record = In(record);
        let xid = record.u32();
        assert_eq!(record.u32(), 1, "a reply");
        let verdict = if record.u32() == 1 {
            Verdict::Denied(record.u32(), record.u32())
        } else {
            assert_eq!([record.u32(), record.u32()], [0, 0], "an empty verifier");
            match record.u32() {
                0 => Verdict::Success,
                refused => Verdict::Refused(refused),
            }
        };
        Self { xid, verdict, body: record.0.to_vec() }
    }
}

/// The record of a call.
pub(crate) fn call(xid: u32, auth: &Auth, target: (u32, u32, u32), arguments: &[u8]) -> Vec<u8> {
    let (program, version, procedure) = target;
    let header = Out::default().words(&[xid, 0, 2, program, version, procedure]);
    auth.put(header).words(&[0, 0]).bytes(arguments).0
}

/// A record with its mark.
pub(crate) fn marked(record: &[u8]) -> Vec<u8> {
    [&(record.len() as u32 | LAST).to_be_bytes()[..], record].concat()
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    xid: u32,
}

impl Wire {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).unwrap())
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        let xid = u32::from(stream.local_addr().unwrap().port()) << 16;
        Self { stream, xid }
    }

    pub(crate) fn next_xid(&mut self) -> u32 {
        self.xid = self.xid.wrapping_add(1);
        self.xid
    }

    pub(crate) fn send(&mut self, record: &[u8]) {
        self.stream.write_all(&marked(record)).unwrap();
    }

    /// The next record; fails when the connection ends.
    pub(crate) fn record(&mut self) -> io::Result<Vec<u8>> {
        let mut record = Vec::new();
        loop {
            let mut mark = [0; 4];
            self.stream.read_exact(&mut mark)?;
            let mark = u32::from_be_bytes(mark);
            let from = record.len();
            record.resize(from + (mark & !LAST) as usize, 0);
            self.stream.read_exact(&mut record[from..])?;
            if mark & LAST != 0 {
                return Ok(record);
            }
        }
    }

    pub(crate) fn reply(&mut self) -> Reply {
        Reply::parse(&self.record().unwrap())
    }

    /// Whether the server ends the connection, without another word.
    pub(crate) fn is_ended(&mut self) -> bool {
        match self.stream.read(&mut [0; 1]) {
            Ok(0) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
            Ok(_) => false,
        }
    }

    /// Asks and waits.
    pub(crate) fn ask(&mut self, auth: &Auth, target: (u32, u32, u32), arguments: &Out) -> Reply {
        let xid = self.next_xid();
        self.send(&call(xid, auth, target, &arguments.0));
        let reply = self.reply();
        assert_eq!(reply.xid, xid);
        reply
    }

    /// What an NFS procedure answers.
    pub(crate) fn nfs(&mut self, auth: &Auth, procedure: u32, arguments: &Out) -> Vec<u8> {
        let reply = self.ask(auth, (NFS, 3, procedure), arguments);
        assert_eq!(reply.verdict, Verdict::Success, "procedure {procedure}");
        reply.body
    }

    /// The status that an NFS procedure answers.
    pub(crate) fn status(&mut self, auth: &Auth, procedure: u32, arguments: &Out) -> u32 {
        In(&self.nfs(auth, procedure, arguments)).u32()
    }

    /// Mounts; the handle, or the status.
    pub(crate) fn mount(&mut self, auth: &Auth, path: &str) -> Result<Vec<u8>, u32> {
        let reply = self.ask(auth, (MOUNT, 3, 1), &Out::default().opaque(path.as_bytes()));
        assert_eq!(reply.verdict, Verdict::Success);
        let mut body = In(&reply.body);
        match body.u32() {
            0 => {
                let handle = body.opaque().to_vec();
                assert_eq!([body.u32(), body.u32(), body.u32()], [2, 1, 0], "AUTH_SYS, AUTH_NONE");
                body.end();
                Ok(handle)
            }
            status => Err(status),
        }
    }
}
