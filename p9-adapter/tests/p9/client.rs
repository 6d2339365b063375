//! A blocking client: messages by the protocol's own description, one at a time, or by
//! hand for what a client usually does not do.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The message size most tests agree on.
pub(crate) const MSIZE: u32 = 128 << 10;
pub(crate) const NO_FID: u32 = u32::MAX;
pub(crate) const NO_ID: u32 = u32::MAX;

// Requests; a reply is one more.
pub(crate) const T_STATFS: u8 = 8;
pub(crate) const T_LOPEN: u8 = 12;
pub(crate) const T_LCREATE: u8 = 14;
pub(crate) const T_SYMLINK: u8 = 16;
pub(crate) const T_MKNOD: u8 = 18;
pub(crate) const T_RENAME: u8 = 20;
pub(crate) const T_READLINK: u8 = 22;
pub(crate) const T_GETATTR: u8 = 24;
pub(crate) const T_SETATTR: u8 = 26;
pub(crate) const T_XATTRWALK: u8 = 30;
pub(crate) const T_XATTRCREATE: u8 = 32;
pub(crate) const T_READDIR: u8 = 40;
pub(crate) const T_FSYNC: u8 = 50;
pub(crate) const T_LOCK: u8 = 52;
pub(crate) const T_GETLOCK: u8 = 54;
pub(crate) const T_LINK: u8 = 70;
pub(crate) const T_MKDIR: u8 = 72;
pub(crate) const T_RENAMEAT: u8 = 74;
pub(crate) const T_UNLINKAT: u8 = 76;
pub(crate) const T_VERSION: u8 = 100;
pub(crate) const T_AUTH: u8 = 102;
pub(crate) const T_ATTACH: u8 = 104;
pub(crate) const T_FLUSH: u8 = 108;
pub(crate) const T_WALK: u8 = 110;
pub(crate) const T_READ: u8 = 116;
pub(crate) const T_WRITE: u8 = 118;
pub(crate) const T_CLUNK: u8 = 120;
pub(crate) const T_REMOVE: u8 = 122;
pub(crate) const R_ERROR: u8 = 7;

// Linux's numbers for open(2).
pub(crate) const O_RDONLY: u32 = 0;
pub(crate) const O_WRONLY: u32 = 1;
pub(crate) const O_RDWR: u32 = 2;
pub(crate) const O_EXCL: u32 = 0o200;
pub(crate) const O_TRUNC: u32 = 0o1000;
pub(crate) const O_APPEND: u32 = 0o2000;
pub(crate) const O_DIRECTORY: u32 = 0o200_000;

// And for errors.
pub(crate) const EPERM: u32 = 1;
pub(crate) const ENOENT: u32 = 2;
pub(crate) const EIO: u32 = 5;
pub(crate) const EBADF: u32 = 9;
pub(crate) const EACCES: u32 = 13;
pub(crate) const EBUSY: u32 = 16;
pub(crate) const EEXIST: u32 = 17;
pub(crate) const ENOTDIR: u32 = 20;
pub(crate) const EISDIR: u32 = 21;
pub(crate) const EINVAL: u32 = 22;
pub(crate) const EMFILE: u32 = 24;
pub(crate) const EROFS: u32 = 30;
pub(crate) const ERANGE: u32 = 34;
pub(crate) const ENODATA: u32 = 61;
pub(crate) const EOPNOTSUPP: u32 = 95;
pub(crate) const ESTALE: u32 = 116;

/// The fields of a message, put together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Put(pub(crate) Vec<u8>);

impl Put {
    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn s(self, text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        self.u16(text.len().try_into().unwrap()).bytes(text)
    }

    /// A whole message of these fields.
    pub(crate) fn message(&self, tag: u16, kind: u8) -> Self {
        let len = u32::try_from(self.0.len() + 7).unwrap();
        Self::default().u32(len).u8(kind).u16(tag).bytes(&self.0)
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
}

/// The fields of a message, taken apart.
#[derive(Debug)]
pub(crate) struct Take<'a>(pub(crate) &'a [u8]);

impl<'a> Take<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        head
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.bytes(1)[0]
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.bytes(2).try_into().unwrap())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes(4).try_into().unwrap())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes(8).try_into().unwrap())
    }

    pub(crate) fn s(&mut self) -> Vec<u8> {
        let len = self.u16();
        self.bytes(len.into()).to_vec()
    }

    pub(crate) fn qid(&mut self) -> Qid {
        Qid { kind: self.u8(), version: self.u32(), path: self.u64() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Qid {
    pub(crate) kind: u8,
    pub(crate) version: u32,
    pub(crate) path: u64,
}

/// What Tgetattr tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) valid: u64,
    pub(crate) qid: Qid,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) nlink: u64,
    pub(crate) rdev: u64,
    pub(crate) size: u64,
    pub(crate) blksize: u64,
    pub(crate) blocks: u64,
    /// Access, modification, change and creation: seconds and nanoseconds.
    pub(crate) times: [(u64, u64); 4],
    pub(crate) generation: u64,
    pub(crate) data_version: u64,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) qid: Qid,
    pub(crate) cookie: u64,
    pub(crate) kind: u8,
    pub(crate) name: Vec<u8>,
}

/// A change of attributes; what is not valid is zero.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Change {
    pub(crate) valid: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) atime: (u64, u64),
    pub(crate) mtime: (u64, u64),
}

pub(crate) trait Socket: Read + Write + Send {}
impl Socket for TcpStream {}
impl Socket for UnixStream {}

/// One message as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) kind: u8,
    pub(crate) tag: u16,
    pub(crate) fields: Vec<u8>,
}

/// Fields of the answer, or the error number.
pub(crate) type Called<T = Vec<u8>> = Result<T, u32>;

pub(crate) struct Client {
    socket: Box<dyn Socket>,
    fid_next: u32,
}

impl Client {
    pub(crate) fn over_tcp(socket: TcpStream) -> Self {
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { socket: Box::new(socket), fid_next: 100 }
    }

    pub(crate) fn over_unix(socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { socket: Box::new(socket), fid_next: 100 }
    }

    /// A fid that is free, if only these are used.
    pub(crate) fn fid(&mut self) -> u32 {
        self.fid_next += 1;
        self.fid_next
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        // A server that had enough does not take it.
        let _ = self.socket.write_all(bytes);
    }

    pub(crate) fn send(&mut self, tag: u16, kind: u8, fields: &Put) {
        self.send_raw(&fields.message(tag, kind).0);
    }

    /// The next message; `None` when the server hangs up.
    pub(crate) fn try_receive(&mut self) -> Option<Answer> {
        let mut header = [0; 7];
        match self.socket.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("no answer came")
            }
            Err(_) => return None,
        }
        let mut header = Take(&header);
        let (len, kind, tag) = (header.u32(), header.u8(), header.u16());
        let mut fields = vec![0; len as usize - 7];
        self.socket.read_exact(&mut fields).unwrap();
        Some(Answer { kind, tag, fields })
    }

    pub(crate) fn receive(&mut self) -> Answer {
        self.try_receive().expect("the server hung up")
    }

    pub(crate) fn call(&mut self, kind: u8, fields: &Put) -> Called {
        self.send(1, kind, fields);
        let answer = self.receive();
        assert_eq!(answer.tag, 1);
        if answer.kind == R_ERROR {
            return Err(Take(&answer.fields).u32());
        }
        assert_eq!(answer.kind, kind + 1);
        Ok(answer.fields)
    }

    pub(crate) fn version(&mut self, msize: u32, version: &str) -> (u32, Vec<u8>) {
        let answer = self.call(T_VERSION, &Put::default().u32(msize).s(version)).unwrap();
        let mut answer = Take(&answer);
        (answer.u32(), answer.s())
    }

    pub(crate) fn attach(&mut self, fid: u32, uid: u32) -> Called<Qid> {
        self.attach_as(fid, "", "", uid)
    }

    pub(crate) fn attach_as(&mut self, fid: u32, user: &str, tree: &str, uid: u32) -> Called<Qid> {
        let put = Put::default().u32(fid).u32(NO_FID).s(user).s(tree).u32(uid);
        self.call(T_ATTACH, &put).map(|answer| Take(&answer).qid())
    }

    pub(crate) fn walk<N: AsRef<[u8]>>(
        &mut self,
        fid: u32,
        new_fid: u32,
        names: &[N],
    ) -> Called<Vec<Qid>> {
        let put = Put::default().u32(fid).u32(new_fid).u16(names.len() as u16);
        let put = names.iter().fold(put, Put::s);
        let answer = self.call(T_WALK, &put)?;
        let mut answer = Take(&answer);
        Ok((0..answer.u16()).map(|_| answer.qid()).collect())
    }

    /// Another fid for what is at the end of the way.
    pub(crate) fn walked(&mut self, fid: u32, names: &[&str]) -> Called<u32> {
        let new_fid = self.fid();
        let qids = self.walk(fid, new_fid, names)?;
        if qids.len() == names.len() { Ok(new_fid) } else { Err(ENOENT) }
    }

    pub(crate) fn open(&mut self, fid: u32, flags: u32) -> Called<(Qid, u32)> {
        let answer = self.call(T_LOPEN, &Put::default().u32(fid).u32(flags))?;
        let mut answer = Take(&answer);
        Ok((answer.qid(), answer.u32()))
    }

    /// Creates a file in the directory of `fid`, which becomes the file's.
    pub(crate) fn create(
        &mut self,
        fid: u32,
        name: impl AsRef<[u8]>,
        flags: u32,
        mode: u32,
        gid: u32,
    ) -> Called<Qid> {
        let put = Put::default().u32(fid).s(name).u32(flags).u32(mode).u32(gid);
        self.call(T_LCREATE, &put).map(|answer| Take(&answer).qid())
    }

    /// A new file with content, left open for reading and writing.
    pub(crate) fn file(&mut self, dir: u32, name: &str, content: &[u8]) -> u32 {
        let fid = self.walked(dir, &[]).unwrap();
        self.create(fid, name, O_RDWR | O_EXCL, 0o644, NO_ID).unwrap();
        self.write(fid, 0, content).unwrap();
        fid
    }

    pub(crate) fn read(&mut self, fid: u32, offset: u64, count: u32) -> Called {
        let put = Put::default().u32(fid).u64(offset).u32(count);
        self.call(T_READ, &put).map(|answer| data(&answer))
    }

    pub(crate) fn write(&mut self, fid: u32, offset: u64, content: &[u8]) -> Called<u32> {
        let put = Put::default().u32(fid).u64(offset).u32(content.len() as u32).bytes(content);
        self.call(T_WRITE, &put).map(|answer| Take(&answer).u32())
    }

    pub(crate) fn clunk(&mut self, fid: u32) -> Called<()> {
        self.call(T_CLUNK, &Put::default().u32(fid)).map(drop)
    }

    pub(crate) fn stat(&mut self, fid: u32) -> Called<Stat> {
        let answer = self.call(T_GETATTR, &Put::default().u32(fid).u64(0x3fff))?;
        let mut take = Take(&answer);
        let stat = Stat {
            valid: take.u64(),
            qid: take.qid(),
            mode: take.u32(),
            uid: take.u32(),
            gid: take.u32(),
            nlink: take.u64(),
            rdev: take.u64(),
            size: take.u64(),
            blksize: take.u64(),
            blocks: take.u64(),
            times: std::array::from_fn(|_| (take.u64(), take.u64())),
            generation: take.u64(),
            data_version: take.u64(),
        };
        assert!(take.0.is_empty());
        Ok(stat)
    }

    pub(crate) fn change(&mut self, fid: u32, change: &Change) -> Called<()> {
        let put = Put::default().u32(fid).u32(change.valid).u32(change.mode);
        let put = put.u32(change.uid).u32(change.gid).u64(change.size);
        let put = put.u64(change.atime.0).u64(change.atime.1);
        let put = put.u64(change.mtime.0).u64(change.mtime.1);
        self.call(T_SETATTR, &put).map(drop)
    }

    pub(crate) fn list(&mut self, fid: u32, after: u64, count: u32) -> Called<Vec<Listed>> {
        let answer = self.call(T_READDIR, &Put::default().u32(fid).u64(after).u32(count))?;
        let listed = data(&answer);
        assert!(listed.len() <= count as usize);
        let mut take = Take(&listed);
        let mut entries = Vec::new();
        while !take.0.is_empty() {
            let (qid, cookie, kind) = (take.qid(), take.u64(), take.u8());
            entries.push(Listed { qid, cookie, kind, name: take.s() });
        }
        Ok(entries)
    }

    pub(crate) fn make_dir(&mut self, dir: u32, name: impl AsRef<[u8]>, mode: u32) -> Called<Qid> {
        let put = Put::default().u32(dir).s(name).u32(mode).u32(NO_ID);
        self.call(T_MKDIR, &put).map(|answer| Take(&answer).qid())
    }

    pub(crate) fn unlink(&mut self, dir: u32, name: impl AsRef<[u8]>, flags: u32) -> Called<()> {
        self.call(T_UNLINKAT, &Put::default().u32(dir).s(name).u32(flags)).map(drop)
    }

    pub(crate) fn rename(
        &mut self,
        from: (u32, impl AsRef<[u8]>),
        to: (u32, impl AsRef<[u8]>),
    ) -> Called<()> {
        let put = Put::default().u32(from.0).s(from.1).u32(to.0).s(to.1);
        self.call(T_RENAMEAT, &put).map(drop)
    }

    /// Takes (1: for writing, 0: for reading) or drops (2) a lock; gives the status.
    pub(crate) fn lock(
        &mut self,
        fid: u32,
        kind: u8,
        (start, len): (u64, u64),
        (process, machine): (u32, &str),
    ) -> Called<u8> {
        let put = locking(fid, (kind, WAITS), (start, len), (process, machine));
        self.call(T_LOCK, &put).map(|answer| Take(&answer).u8())
    }
}

/// The flag of a lock that its program waits for (`F_SETLKW`).
pub(crate) const WAITS: u32 = 1;

/// The fields of a `Tlock`.
pub(crate) fn locking(
    fid: u32,
    (kind, flags): (u8, u32),
    (start, len): (u64, u64),
    (process, machine): (u32, &str),
) -> Put {
    let put = Put::default().u32(fid).u8(kind).u32(flags).u64(start).u64(len);
    put.u32(process).s(machine)
}

/// What follows a count.
fn data(answer: &[u8]) -> Vec<u8> {
    let mut take = Take(answer);
    let count = take.u32();
    assert_eq!(take.0.len(), count as usize);
    take.0.to_vec()
}
