//! A client of NFS that knows nothing but bytes. Programs of tests take this file in.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

#[path = "../../nfs-adapter/tests/nfs/wire.rs"]
#[expect(dead_code, reason = "the tests of the server need more of it")]
pub(crate) mod wire;

use wire::{Auth, In, NFS, Out, Reply, Wire, call};

pub(crate) const GETATTR: u32 = 1;
pub(crate) const SETATTR: u32 = 2;
pub(crate) const LOOKUP: u32 = 3;
pub(crate) const READ: u32 = 6;
pub(crate) const WRITE: u32 = 7;
pub(crate) const CREATE: u32 = 8;
pub(crate) const REMOVE: u32 = 12;
pub(crate) const RENAME: u32 = 14;
pub(crate) const COMMIT: u32 = 21;
pub(crate) const NO_ENTRY: u32 = 2;
/// How safe a write has to be.
pub(crate) const UNSTABLE: u32 = 0;
pub(crate) const FILE_SYNC: u32 = 2;

/// A client that has mounted, and the caller it is.
pub(crate) struct Client {
    pub(crate) wire: Wire,
    pub(crate) auth: Auth,
    pub(crate) root: Vec<u8>,
}

impl Client {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self::over(Wire::new(addr))
    }

    pub(crate) fn over(mut wire: Wire) -> Self {
        let auth = Auth::user(rustix::process::geteuid().as_raw());
        let root = wire.mount(&auth, "/").unwrap();
        Self { wire, auth, root }
    }

    /// The body of an answer, or the status.
    pub(crate) fn ask(&mut self, procedure: u32, arguments: &Out) -> Result<Vec<u8>, u32> {
        told(&self.wire.ask(&self.auth, (NFS, 3, procedure), arguments))
    }

    /// Asks and does not wait; the number of the call.
    pub(crate) fn send(&mut self, procedure: u32, arguments: &Out) -> u32 {
        let xid = self.wire.next_xid();
        self.wire.send(&call(xid, &self.auth, (NFS, 3, procedure), &arguments.0));
        xid
    }

    /// The next answer, whichever call it is to.
    pub(crate) fn receive(&mut self) -> (u32, Result<Vec<u8>, u32>) {
        let reply = self.wire.reply();
        (reply.xid, told(&reply))
    }

    /// Arguments that name an entry of the root.
    pub(crate) fn name(&self, name: &str) -> Out {
        Out::default().opaque(&self.root).opaque(name.as_bytes())
    }

    pub(crate) fn lookup(&mut self, name: &str) -> Result<Vec<u8>, u32> {
        let arguments = self.name(name);
        Ok(In(&self.ask(LOOKUP, &arguments)?).opaque().to_vec())
    }

    /// Makes a file that is not there yet.
    pub(crate) fn create(&mut self, name: &str, mode: u32) -> Result<Vec<u8>, u32> {
        let arguments = self.name(name).words(&[1, 1, mode, 0, 0, 0, 0, 0]);
        let answer = self.ask(CREATE, &arguments)?;
        let mut body = In(&answer);
        assert!(body.bool(), "a handle");
        Ok(body.opaque().to_vec())
    }

    pub(crate) fn write(&mut self, file: &[u8], content: &[u8], stable: u32) -> Result<(), u32> {
        self.ask(WRITE, &write_at(file, 0, content, stable)).map(drop)
    }

    pub(crate) fn commit(&mut self, file: &[u8]) -> Result<(), u32> {
        self.ask(COMMIT, &Out::default().opaque(file).u64(0).u32(0)).map(drop)
    }

    /// The first mebibyte of a file.
    pub(crate) fn read(&mut self, file: &[u8]) -> Result<Vec<u8>, u32> {
        self.ask(READ, &read_at(file, 0, 1 << 20)).map(|answer| data(&answer))
    }

    pub(crate) fn getattr(&mut self, file: &[u8]) -> Result<Vec<u8>, u32> {
        self.ask(GETATTR, &Out::default().opaque(file))
    }
}

/// Breaks a connection off, as a client does that has heard nothing for too long, and comes
/// again from the same port.
pub(crate) fn reconnect(Wire { stream, .. }: Wire) -> Wire {
    let to = stream.peer_addr().unwrap();
    let from = SocketAddr::from((Ipv4Addr::LOCALHOST, stream.local_addr().unwrap().port()));
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
    for _ in 0..2000 {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        rustix::net::bind(&socket, &from).unwrap();
        match rustix::net::connect(&socket, &to) {
            Ok(()) => return Wire::over(TcpStream::from(socket)),
            // Another test's child may hold the old one until it runs its program.
            Err(Errno::ADDRNOTAVAIL) => std::thread::sleep(Duration::from_millis(5)),
            Err(errno) => panic!("connecting again: {errno}"),
        }
    }
    panic!("the port is never free again");
}

fn told(reply: &Reply) -> Result<Vec<u8>, u32> {
    assert_eq!(reply.verdict, wire::Verdict::Success);
    let mut body = In(&reply.body);
    match body.u32() {
        0 => Ok(body.0.to_vec()),
        status => Err(status),
    }
}

/// Arguments of a write.
pub(crate) fn write_at(file: &[u8], offset: u64, content: &[u8], stable: u32) -> Out {
    let arguments = Out::default().opaque(file).u64(offset);
    arguments.words(&[content.len() as u32, stable]).opaque(content)
}

/// Arguments of a read.
pub(crate) fn read_at(file: &[u8], offset: u64, len: u32) -> Out {
    Out::default().opaque(file).u64(offset).u32(len)
}

/// What a read answered.
pub(crate) fn data(answer: &[u8]) -> Vec<u8> {
    let mut body = In(answer);
    if body.bool() {
        body.bytes(84);
    }
    let (_count, _is_end) = (body.u32(), body.bool());
    body.opaque().to_vec()
}
