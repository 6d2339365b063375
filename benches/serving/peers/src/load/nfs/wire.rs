//! Calls and replies (RFC 5531, RFC 1813).

use crate::load::Done;
use crate::load::link::{Link, Wire};
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

const NFS: u32 = 100_003;
const MOUNT: u32 = 100_005;
const VERSION: u32 = 3;
const LAST: u32 = 1 << 31;
/// Call number, kind, verdict, verifier and status.
const REPLY_HEADER_LEN: usize = 24;
/// A call's number says which slot it is of.
const SLOT_BITS: u32 = 6;
/// The longest reply that makes sense.
const REPLY_MAX: usize = 2 << 20;

/// Numbers of procedures.
pub(super) mod procedure {
    pub(crate) const GETATTR: u32 = 1;
    pub(crate) const LOOKUP: u32 = 3;
    pub(crate) const READ: u32 = 6;
    pub(crate) const WRITE: u32 = 7;
    pub(crate) const CREATE: u32 = 8;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const REMOVE: u32 = 12;
    pub(crate) const READDIRPLUS: u32 = 17;
    pub(crate) const FSINFO: u32 = 19;
    pub(crate) const COMMIT: u32 = 21;
}

/// A client, who says it is root.
pub(super) struct Nfs {
    link: Link,
    sequence: u32,
    /// Where the call that is being put together begins.
    begins: usize,
}

impl Wire for Nfs {
    fn receive<'a>(&mut self, record: &'a mut Vec<u8>) -> io::Result<(usize, &'a [u8])> {
        let strange = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut mark = [0; 4];
        self.link.read(&mut mark)?;
        let mark = u32::from_be_bytes(mark);
        let len = (mark & !LAST) as usize;
        if mark & LAST == 0 || !(REPLY_HEADER_LEN..=REPLY_MAX).contains(&len) {
            return Err(strange("a reply is in fragments, too short or too long"));
        }
        record.resize(len, 0);
        self.link.read(record)?;
        let (header, body) = record.split_at(REPLY_HEADER_LEN);
        let words: Vec<_> =
            header.as_chunks().0.iter().map(|word| u32::from_be_bytes(*word)).collect();
        match words[..] {
            [xid, 1, 0, 0, 0, 0] => Ok(((xid & ((1 << SLOT_BITS) - 1)) as usize, body)),
            _ => Err(strange(&format!("a call was refused: {words:?}"))),
        }
    }
}

impl Nfs {
    pub(super) fn connect(address: &str) -> io::Result<Self> {
        // Numbers of calls that another process made must not come again.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self { link: Link::connect(address)?, sequence: now.as_millis() as u32, begins: 0 })
    }

    /// Begins a call.
    pub(super) fn begin(&mut self, slot: usize, procedure: u32) -> &mut Self {
        self.begin_of(NFS, slot, procedure)
    }

    fn begin_of(&mut self, program: u32, slot: usize, procedure: u32) -> &mut Self {
        self.begins = self.link.out.len();
        self.sequence = self.sequence.wrapping_add(1);
        let xid = self.sequence << SLOT_BITS | slot as u32;
        // The mark, the call, AUTH_SYS of root without groups, and no verifier.
        let header = [0, xid, 0, 2, program, VERSION, procedure, 1, 20, 0, 0, 0, 0, 0, 0, 0];
        header.into_iter().fold(self, Self::u32)
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.link.out.extend_from_slice(bytes);
        self
    }

    pub(super) fn opaque(&mut self, bytes: &[u8]) -> &mut Self {
        let padding = bytes.len().wrapping_neg() % 4;
        self.u32(bytes.len() as u32).bytes(bytes).bytes(&[0; 3][..padding])
    }

    /// Ends a call.
    pub(super) fn end(&mut self) {
        self.mark(0);
    }

    fn mark(&mut self, data_len: usize) {
        let len = self.link.out.len() - self.begins - 4 + data_len;
        let mark = (len as u32 | LAST).to_be_bytes();
        self.link.out[self.begins..self.begins + 4].copy_from_slice(&mark);
    }

    /// Ends a call, and waits for its reply. No other may be under way.
    pub(super) fn ask<'a>(&mut self, record: &'a mut Vec<u8>) -> Done<&'a [u8]> {
        self.end();
        Ok(self.receive(record)?.1)
    }

    /// Writes, without asking for safety. Data is a multiple of four long.
    pub(super) fn write(&mut self, slot: usize, file: &[u8], offset: u64, data: &[u8]) -> Done {
        let len = data.len() as u32;
        self.begin(slot, procedure::WRITE).opaque(file).u64(offset).u32(len).u32(0).u32(len);
        self.mark(data.len());
        Ok(self.link.data(data)?)
    }

    /// Asks that all of a file be safe.
    pub(super) fn put_commit(&mut self, slot: usize, file: &[u8]) {
        self.begin(slot, procedure::COMMIT).opaque(file).u64(0).u32(0);
        self.end();
    }

    pub(super) fn commit_now(&mut self, file: &[u8]) -> Done {
        self.begin(0, procedure::COMMIT).opaque(file).u64(0).u32(0);
        In::of(self.ask(&mut Vec::new())?).map(drop)
    }

    /// A call about a name, not ended.
    pub(super) fn put_name(&mut self, slot: usize, procedure: u32, dir: &[u8], name: &str) {
        self.begin(slot, procedure).opaque(dir).opaque(name.as_bytes());
    }

    /// Asks for a file as `open(2)` with `O_CREAT` does.
    pub(super) fn put_create(&mut self, slot: usize, dir: &[u8], name: &str) {
        self.put_name(slot, procedure::CREATE, dir, name);
        // Unchecked; a mode, and nothing else.
        [0, 1, 0o644, 0, 0, 0, 0, 0].into_iter().fold(&mut *self, Self::u32);
        self.end();
    }

    pub(super) fn create(&mut self, dir: &[u8], name: &str) -> Done<Vec<u8>> {
        self.put_create(0, dir, name);
        let mut record = Vec::new();
        created(self.receive(&mut record)?.1)
    }

    pub(super) fn make_dir(&mut self, dir: &[u8], name: &str) -> Done<Vec<u8>> {
        self.put_name(0, procedure::MKDIR, dir, name);
        [1, 0o755, 0, 0, 0, 0, 0].into_iter().fold(&mut *self, Self::u32);
        created(self.ask(&mut Vec::new())?)
    }

    /// The handle of an export.
    pub(super) fn mount(&mut self, path: &str) -> Done<Vec<u8>> {
        self.begin_of(MOUNT, 0, 1).opaque(path.as_bytes());
        Ok(In::of(self.ask(&mut Vec::new())?)?.opaque()?.to_vec())
    }

    /// The longest read and the longest write.
    pub(super) fn limits(&mut self, root: &[u8]) -> Done<(u32, u32)> {
        self.begin(0, procedure::FSINFO).opaque(root);
        let mut record = Vec::new();
        let mut reply = In::of(self.ask(&mut record)?)?;
        reply.attributes()?;
        let read_max = reply.u32()?;
        reply.bytes(8)?;
        Ok((read_max, reply.u32()?))
    }
}

/// The handle of what was created.
pub(super) fn created(reply: &[u8]) -> Done<Vec<u8>> {
    let mut reply = In::of(reply)?;
    match reply.u32()? {
        1 => Ok(reply.opaque()?.to_vec()),
        _ => Err("there is no handle".into()),
    }
}

/// The fields of a reply, taken off the front.
pub(super) struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    /// What follows the status, which has to be that of success.
    pub(super) fn of(reply: &'a [u8]) -> Done<Self> {
        let mut fields = Self(reply);
        match fields.u32()? {
            0 => Ok(fields),
            status => Err(format!("status {status}").into()),
        }
    }

    pub(super) fn bytes(&mut self, len: usize) -> Done<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or("a reply is too short")?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn u32(&mut self) -> Done<u32> {
        Ok(u32::from_be_bytes(self.bytes(4)?.try_into()?))
    }

    pub(super) fn u64(&mut self) -> Done<u64> {
        Ok(u64::from_be_bytes(self.bytes(8)?.try_into()?))
    }

    pub(super) fn opaque(&mut self) -> Done<&'a [u8]> {
        let len = self.u32()? as usize;
        let taken = self.bytes(len)?;
        self.bytes(len.wrapping_neg() % 4)?;
        Ok(taken)
    }

    /// Passes over attributes that may be there.
    pub(super) fn attributes(&mut self) -> Done {
        if self.u32()? == 1 {
            self.bytes(84)?;
        }
        Ok(())
    }

    /// Passes over what may be said of an inode before and after.
    pub(super) fn wcc(&mut self) -> Done {
        if self.u32()? == 1 {
            self.bytes(24)?;
        }
        self.attributes()
    }
}
