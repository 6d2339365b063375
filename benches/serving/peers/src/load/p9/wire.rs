//! Messages: integers are little-endian, strings have two bytes of length.

use crate::load::Done;
use crate::load::link::{Link, Wire};
use std::io;

/// No fid.
pub(super) const NO_FID: u32 = u32::MAX;
const NO_TAG: u16 = u16::MAX;
/// Length, kind and tag.
const HEADER_LEN: usize = 7;
/// What a message needs besides the data it carries.
pub(super) const IO_OVERHEAD: u32 = 24;
/// The longest answer that makes sense.
const ANSWER_MAX: usize = 2 << 20;
const VERSION: &str = "9P2000.L";

/// Kinds of requests; an answer is its request's plus one.
pub(super) mod kind {
    pub(crate) const LERROR: u8 = 7;
    pub(crate) const LOPEN: u8 = 12;
    pub(crate) const LCREATE: u8 = 14;
    pub(crate) const GETATTR: u8 = 24;
    pub(crate) const READDIR: u8 = 40;
    pub(crate) const FSYNC: u8 = 50;
    pub(crate) const MKDIR: u8 = 72;
    pub(crate) const VERSION: u8 = 100;
    pub(crate) const ATTACH: u8 = 104;
    pub(crate) const WALK: u8 = 110;
    pub(crate) const READ: u8 = 116;
    pub(crate) const WRITE: u8 = 118;
    pub(crate) const CLUNK: u8 = 120;
    pub(crate) const REMOVE: u8 = 122;
}

/// A client.
pub(super) struct P9 {
    link: Link,
    /// Where the message that is being put together begins, and its kind.
    begins: usize,
    kind: u8,
}

impl Wire for P9 {
    /// What follows the header here is the kind and the fields: errors are an answer too.
    fn receive<'a>(&mut self, record: &'a mut Vec<u8>) -> io::Result<(usize, &'a [u8])> {
        let mut header = [0; HEADER_LEN];
        self.link.read(&mut header)?;
        let [a, b, c, d, kind, tag @ ..] = header;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        if !(HEADER_LEN..=ANSWER_MAX).contains(&len) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer has a wrong length"));
        }
        record.resize(len - HEADER_LEN + 1, 0);
        record[0] = kind;
        self.link.read(&mut record[1..])?;
        Ok((u16::from_le_bytes(tag).into(), record))
    }
}

impl P9 {
    pub(super) fn connect(address: &str) -> io::Result<Self> {
        Ok(Self { link: Link::connect(address)?, begins: 0, kind: 0 })
    }

    /// Begins a message; its tag is its slot.
    pub(super) fn begin(&mut self, slot: usize, kind: u8) -> &mut Self {
        self.begin_tagged(slot as u16, kind)
    }

    fn begin_tagged(&mut self, tag: u16, kind: u8) -> &mut Self {
        (self.begins, self.kind) = (self.link.out.len(), kind);
        self.u32(0).bytes(&[kind]).u16(tag)
    }

    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn string(&mut self, text: &str) -> &mut Self {
        self.u16(text.len() as u16).bytes(text.as_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.link.out.extend_from_slice(bytes);
        self
    }

    /// Ends a message.
    pub(super) fn end(&mut self) {
        self.set_len(0);
    }

    fn set_len(&mut self, data_len: usize) {
        let len = (self.link.out.len() - self.begins + data_len) as u32;
        self.link.out[self.begins..self.begins + 4].copy_from_slice(&len.to_le_bytes());
    }

    /// The one answer that is expected.
    pub(super) fn answer(&mut self) -> Done<Vec<u8>> {
        let mut record = Vec::new();
        self.receive(&mut record)?;
        Ok(record)
    }

    /// Ends a message, and waits for its answer. No other may be under way.
    pub(super) fn ask(&mut self) -> Done<Vec<u8>> {
        self.end();
        let (kind, answer) = (self.kind, self.answer()?);
        Take::of(&answer, kind)?;
        Ok(answer)
    }

    /// Agrees on the protocol, and on how long messages are.
    pub(super) fn version(&mut self, msize: u32) -> Done<u32> {
        self.begin_tagged(NO_TAG, kind::VERSION).u32(msize).string(VERSION);
        let answer = self.ask()?;
        let mut answer = Take::of(&answer, kind::VERSION)?;
        let msize = answer.u32()?;
        let len = answer.u16()?.into();
        if answer.bytes(len)? != VERSION.as_bytes() || msize < 4096 {
            return Err("the server speaks something else".into());
        }
        Ok(msize)
    }

    pub(super) fn write(&mut self, slot: usize, fid: u32, offset: u64, data: &[u8]) -> Done {
        self.begin(slot, kind::WRITE).u32(fid).u64(offset).u32(data.len() as u32);
        self.set_len(data.len());
        Ok(self.link.data(data)?)
    }
}

/// The fields of an answer, taken off the front.
pub(super) struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    /// The fields of an answer to a request of this kind, which has to have worked.
    pub(super) fn of(answer: &'a [u8], kind: u8) -> Done<Self> {
        let (answered, fields) = answer.split_first().ok_or("an answer is empty")?;
        let mut fields = Self(fields);
        match *answered {
            kind::LERROR => Err(format!("request {kind} failed: error {}", fields.u32()?).into()),
            answered if answered == kind + 1 => Ok(fields),
            answered => Err(format!("request {kind} got answer {answered}").into()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&mut self, len: usize) -> Done<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or("an answer is too short")?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn u16(&mut self) -> Done<u16> {
        Ok(u16::from_le_bytes(self.bytes(2)?.try_into()?))
    }

    pub(super) fn u32(&mut self) -> Done<u32> {
        Ok(u32::from_le_bytes(self.bytes(4)?.try_into()?))
    }

    pub(super) fn u64(&mut self) -> Done<u64> {
        Ok(u64::from_le_bytes(self.bytes(8)?.try_into()?))
    }
}
