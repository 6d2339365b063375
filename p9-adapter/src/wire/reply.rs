//! Replies as they are written.

use super::{GETATTR_ALL, HEADER_LEN, Qid, file_type, kind};
use bytes::Bytes;
use vfs::{Attr, Segments, Timestamp};

/// One reply, its tag still missing. Data behind the fields stays where it is.
#[derive(Debug)]
pub(crate) struct Reply {
    fields: Vec<u8>,
    data: Segments,
}

impl Reply {
    /// The reply to a request of `kind`, with room for `len` bytes of fields.
    pub(crate) fn to(kind: u8, len: usize) -> Self {
        Self::of(kind + 1, len)
    }

    fn of(kind: u8, len: usize) -> Self {
        let mut fields = Vec::with_capacity(HEADER_LEN + len);
        fields.extend_from_slice(&[0, 0, 0, 0, kind, 0, 0]);
        Self { fields, data: Segments::default() }
    }

    /// The reply that something failed: a Linux error number.
    pub(crate) fn error(errno: i32) -> Self {
        Self::of(kind::LERROR, 4).u32(errno.unsigned_abs())
    }

    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.fields.push(value);
        self
    }

    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.fields.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.fields.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.fields.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A string, which is cut at the longest that can be said; callers know better.
    pub(crate) fn string(mut self, bytes: &[u8]) -> Self {
        let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
        self = self.u16(bytes.len() as u16);
        self.fields.extend_from_slice(bytes);
        self
    }

    pub(crate) fn qid(self, qid: Qid) -> Self {
        self.u8(qid.kind).u32(0).u64(qid.path)
    }

    fn time(self, time: Timestamp) -> Self {
        self.u64(time.seconds.cast_unsigned()).u64(time.nanoseconds.into())
    }

    /// Every attribute there is, whichever were asked for: they are all at hand.
    pub(crate) fn attr(self, attr: &Attr, block_size: u32) -> Self {
        let (type_bits, device) = file_type(attr.kind);
        self.u64(GETATTR_ALL)
            .qid(Qid::of(attr))
            .u32(type_bits | u32::from(attr.mode & 0o7777))
            .u32(attr.uid)
            .u32(attr.gid)
            .u64(attr.nlink.into())
            .u64(device.into())
            .u64(attr.size)
            .u64(block_size.into())
            .u64(attr.used.div_ceil(512))
            .time(attr.atime)
            .time(attr.mtime)
            .time(attr.ctime)
            .time(attr.btime)
            .u64(0)
            .u64(attr.change)
    }

    /// An entry of a directory.
    pub(crate) fn entry(self, qid: Qid, cookie: u64, kind: u8, name: &[u8]) -> Self {
        self.qid(qid).u64(cookie).u8(kind).string(name)
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.fields.len() + self.data.len()
    }

    /// Puts a count that was not known before where room was left for it.
    pub(crate) fn patch_u16(self, at: usize, value: u16) -> Self {
        self.patch(at, &value.to_le_bytes())
    }

    /// The same, in four bytes.
    pub(crate) fn patch_u32(self, at: usize, value: u32) -> Self {
        self.patch(at, &value.to_le_bytes())
    }

    fn patch(mut self, at: usize, value: &[u8]) -> Self {
        if let Some(place) = self.fields.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
        self
    }

    /// Data behind the fields, which counts it.
    pub(crate) fn data(self, data: Segments) -> Self {
        let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
        Self { data, ..self.u32(count) }
    }

    /// Addresses the reply; it is whole then.
    pub(crate) fn address(&mut self, tag: u16) {
        let len = u32::try_from(self.len()).unwrap_or(u32::MAX);
        self.fields[..4].copy_from_slice(&len.to_le_bytes());
        self.fields[5..HEADER_LEN].copy_from_slice(&tag.to_le_bytes());
    }

    /// The reply as it lies in memory.
    pub(crate) fn parts(&self) -> (&[u8], &[Bytes]) {
        (&self.fields, self.data.as_slices())
    }
}
