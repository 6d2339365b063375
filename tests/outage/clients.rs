//! Clients of each kind. None of them takes an error; those of NFS come again when they
//! are told to, as every client does.

use super::nfs::wire::{In, Out};
use super::nfs::{self, COMMIT, CREATE, FILE_SYNC, GETATTR, LOOKUP, READ, REMOVE, RENAME, WRITE};
use super::p9;
use std::fs::{self, File, OpenOptions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The status that means: come again.
const JUKEBOX: u32 = 10_008;
const NO_ENTRY: u32 = 2;
/// How long a client of NFS stays away. Linux stays away for five seconds.
const AWAY: Duration = Duration::from_millis(200);
/// What nobody waits for, even with such a store.
const LONG: Duration = Duration::from_secs(100);
/// Bytes of a read or write.
const PART: usize = 1 << 18;

/// How often clients of NFS were told to come again.
pub(crate) static COME_AGAIN: AtomicU64 = AtomicU64::new(0);

/// What a client can do with files of the root directory.
pub(crate) trait Client: Send {
    /// Makes a file and waits until it is safe.
    fn write(&mut self, name: &str, content: &[u8]);
    /// Changes a part of a file and waits until that is safe.
    fn patch(&mut self, name: &str, offset: u64, bytes: &[u8]);
    fn read(&mut self, name: &str) -> Vec<u8>;
    fn rename(&mut self, from: &str, to: &str);
    fn remove(&mut self, name: &str);
    /// Begins to read a file, without waiting for what comes of it.
    fn begin_read(&mut self, name: &str);
    /// Asks what needs no store, while reads that were begun may be under way.
    fn glance(&mut self, missing: &str);
}

/// Over NFS; reads that were begun, and what became of them.
pub(crate) struct Nfs {
    client: nfs::Client,
    begun: Option<u32>,
}

impl Nfs {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        let client = nfs::Client::new(addr);
        client.wire.stream.set_read_timeout(Some(LONG)).unwrap();
        Self { client, begun: None }
    }

    /// What a call answers in the end.
    fn ask(&mut self, procedure: u32, arguments: &Out) -> Vec<u8> {
        self.ask_for(procedure, arguments).unwrap_or_else(|status| {
            panic!("procedure {procedure} was answered with status {status}")
        })
    }

    fn ask_for(&mut self, procedure: u32, arguments: &Out) -> Result<Vec<u8>, u32> {
        loop {
            let xid = self.client.send(procedure, arguments);
            let told = loop {
                match self.client.receive() {
                    (number, told) if number == xid => break told,
                    (number, told) => {
                        assert_eq!(self.begun.take(), Some(number));
                        assert!(matches!(told, Ok(_) | Err(JUKEBOX)), "{told:?}");
                    }
                }
            };
            if told != Err(JUKEBOX) {
                return told;
            }
            COME_AGAIN.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(AWAY);
        }
    }

    fn find(&mut self, name: &str) -> Vec<u8> {
        let arguments = self.client.name(name);
        In(&self.ask(LOOKUP, &arguments)).opaque().to_vec()
    }
}

impl Client for Nfs {
    fn write(&mut self, name: &str, content: &[u8]) {
        let arguments = self.client.name(name).words(&[0, 1, 0o644, 0, 0, 0, 0, 0]);
        let answer = self.ask(CREATE, &arguments);
        let mut answer = In(&answer);
        assert!(answer.bool(), "a handle");
        let file = answer.opaque().to_vec();
        for (number, part) in content.chunks(PART).enumerate() {
            let offset = (number * PART) as u64;
            self.ask(WRITE, &nfs::write_at(&file, offset, part, nfs::UNSTABLE));
        }
        self.ask(COMMIT, &Out::default().opaque(&file).u64(0).u32(0));
    }

    fn patch(&mut self, name: &str, offset: u64, bytes: &[u8]) {
        let file = self.find(name);
        self.ask(WRITE, &nfs::write_at(&file, offset, bytes, FILE_SYNC));
    }

    fn read(&mut self, name: &str) -> Vec<u8> {
        let file = self.find(name);
        let mut content = Vec::new();
        loop {
            let answer = self.ask(READ, &nfs::read_at(&file, content.len() as u64, PART as u32));
            let part = nfs::data(&answer);
            content.extend_from_slice(&part);
            if part.len() < PART {
                return content;
            }
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        let root = self.client.root.clone();
        let arguments = self.client.name(from).opaque(&root).opaque(to.as_bytes());
        self.ask(RENAME, &arguments);
    }

    fn remove(&mut self, name: &str) {
        let arguments = self.client.name(name);
        self.ask(REMOVE, &arguments);
    }

    fn begin_read(&mut self, name: &str) {
        if self.begun.is_none() {
            let file = self.find(name);
            self.begun = Some(self.client.send(READ, &nfs::read_at(&file, 0, PART as u32)));
        }
    }

    fn glance(&mut self, missing: &str) {
        let root = Out::default().opaque(&self.client.root);
        self.ask(GETATTR, &root);
        let arguments = self.client.name(missing);
        assert_eq!(self.ask_for(LOOKUP, &arguments), Err(NO_ENTRY));
    }
}

/// Over 9P, with the root as fid 0.
pub(crate) struct P9 {
    client: p9::Client,
    begun: Option<u32>,
}

/// Tags of reads that were begun, and of what was asked beside them.
const BEGUN: u16 = 2;
const BESIDE: u16 = 3;

impl P9 {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        let mut client = p9::Client::over_tcp(stream.try_clone().unwrap());
        stream.set_read_timeout(Some(LONG)).unwrap();
        client.version(1 << 20, "9P2000.L");
        client.attach(0, rustix::process::geteuid().as_raw()).unwrap();
        Self { client, begun: None }
    }

    fn open(&mut self, name: &str, flags: u32) -> u32 {
        let fid = self.client.walked(0, &[name]).unwrap();
        self.client.open(fid, flags).unwrap();
        fid
    }

    fn sync_and_close(&mut self, fid: u32) {
        self.client.call(p9::T_FSYNC, &p9::Put::default().u32(fid).u32(0)).unwrap();
        self.close(fid);
    }

    fn close(&mut self, fid: u32) {
        self.client.call(p9::T_CLUNK, &p9::Put::default().u32(fid)).unwrap();
    }

    fn write_all(&mut self, fid: u32, offset: u64, content: &[u8]) {
        for (number, part) in content.chunks(PART).enumerate() {
            let count = self.client.write(fid, offset + (number * PART) as u64, part).unwrap();
            assert_eq!(count as usize, part.len());
        }
    }
}

impl Client for P9 {
    fn write(&mut self, name: &str, content: &[u8]) {
        let fid = self.client.file(0, name, b"");
        self.write_all(fid, 0, content);
        self.sync_and_close(fid);
    }

    fn patch(&mut self, name: &str, offset: u64, bytes: &[u8]) {
        let fid = self.open(name, p9::O_RDWR);
        self.write_all(fid, offset, bytes);
        self.sync_and_close(fid);
    }

    fn read(&mut self, name: &str) -> Vec<u8> {
        let fid = self.open(name, p9::O_RDONLY);
        let mut content = Vec::new();
        loop {
            let part = self.client.read(fid, content.len() as u64, PART as u32).unwrap();
            content.extend_from_slice(&part);
            if part.is_empty() {
                self.close(fid);
                return content;
            }
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.client.rename((0, from), (0, to)).unwrap();
    }

    fn remove(&mut self, name: &str) {
        self.client.unlink(0, name, 0).unwrap();
    }

    fn begin_read(&mut self, name: &str) {
        if self.begun.is_none() {
            let fid = self.open(name, p9::O_RDONLY);
            let read = p9::Put::default().u32(fid).u64(0).u32(PART as u32);
            self.client.send(BEGUN, p9::T_READ, &read);
            self.begun = Some(fid);
        }
    }

    fn glance(&mut self, missing: &str) {
        let put = p9::Put::default;
        let mut answered = None;
        for (kind, fields) in [
            (p9::T_GETATTR, put().u32(0).u64(0x3fff)),
            (p9::T_WALK, put().u32(0).u32(1).u16(1).s(missing)),
        ] {
            self.client.send(BESIDE, kind, &fields);
            loop {
                let answer = self.client.receive();
                if answer.tag == BESIDE {
                    break;
                }
                assert_eq!((answer.tag, answer.kind), (BEGUN, p9::T_READ + 1));
                answered = self.begun.take();
            }
        }
        if let Some(fid) = answered {
            self.close(fid);
        }
    }
}

/// Through a mount.
pub(crate) struct Mounted {
    root: PathBuf,
    begun: Option<std::thread::JoinHandle<()>>,
}

impl Mounted {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, begun: None }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

impl Drop for Mounted {
    /// The mount is busy as long as somebody reads.
    fn drop(&mut self) {
        if let Some(begun) = self.begun.take() {
            begun.join().unwrap();
        }
    }
}

impl Client for Mounted {
    fn write(&mut self, name: &str, content: &[u8]) {
        let file = File::create_new(self.at(name)).unwrap();
        file.write_all_at(content, 0).unwrap();
        file.sync_all().unwrap();
    }

    fn patch(&mut self, name: &str, offset: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(self.at(name)).unwrap();
        file.write_all_at(bytes, offset).unwrap();
        file.sync_all().unwrap();
    }

    fn read(&mut self, name: &str) -> Vec<u8> {
        fs::read(self.at(name)).unwrap()
    }

    fn rename(&mut self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).unwrap();
    }

    fn remove(&mut self, name: &str) {
        fs::remove_file(self.at(name)).unwrap();
    }

    fn begin_read(&mut self, name: &str) {
        if self.begun.as_ref().is_some_and(std::thread::JoinHandle::is_finished) {
            self.begun.take().unwrap().join().unwrap();
        }
        let path = self.at(name);
        let begin = || std::thread::spawn(move || drop(fs::read(path).unwrap()));
        self.begun.get_or_insert_with(begin);
    }

    fn glance(&mut self, missing: &str) {
        let error = fs::metadata(self.at(missing)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
}
