//! Requests as they are read, replies as they are written.

use super::{Attr, Header, Opcode};
use std::time::Duration;

/// A request that ends too early or holds a name without an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl From<Malformed> for vfs::Error {
    fn from(_: Malformed) -> Self {
        vfs::Error::because(vfs::ErrorKind::Invalid, "the kernel's request is not understood")
    }
}

/// What is left to be read of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arguments<'a>(&'a [u8]);

impl<'a> Arguments<'a> {
    /// Takes a request apart that has been read whole.
    pub(crate) fn of(request: &'a [u8]) -> Result<(Header, Self), Malformed> {
        let mut rest = Self(request);
        let len = rest.u32()?;
        let opcode = Opcode::of(rest.u32()?);
        let (unique, ino) = (rest.u64()?, rest.u64()?);
        let (uid, gid) = (rest.u32()?, rest.u32()?);
        let _process = rest.u32()?;
        // Extensions lie behind the arguments; their length counts units of 8 bytes.
        let behind = usize::from(u16::from_ne_bytes(rest.take()?)) * 8;
        rest.skip(2)?;
        let end = rest.0.len().checked_sub(behind).ok_or(Malformed)?;
        if len as usize != request.len() {
            return Err(Malformed);
        }
        Ok((Header { opcode, unique, ino, uid, gid }, Self(&rest.0[..end])))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_ne_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_ne_bytes)
    }

    /// The length in the arguments of a read or a write.
    pub(crate) fn transfer_len(mut self) -> u32 {
        self.skip(16).and_then(|()| self.u32()).unwrap_or(0)
    }

    /// Passes over `count` bytes that mean nothing here.
    pub(crate) fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.0 = self.0.get(count..).ok_or(Malformed)?;
        Ok(())
    }

    /// Bytes up to a NUL.
    pub(crate) fn name(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.0.iter().position(|byte| *byte == 0).ok_or(Malformed)?;
        let (name, rest) = self.0.split_at(len);
        self.0 = &rest[1..];
        Ok(name)
    }

    /// The next `len` bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }
}

/// The fields of a reply, in order.
#[derive(Debug, Default)]
pub(crate) struct Body(Vec<u8>);

impl Body {
    pub(crate) fn with_capacity(len: usize) -> Self {
        Self(Vec::with_capacity(len))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.push_u32(value);
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.push_u64(value);
        self
    }

    pub(crate) fn zeros(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn push_u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_ne_bytes());
    }

    fn push_u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_ne_bytes());
    }

    fn push_attr(&mut self, attr: &Attr) {
        let times = [attr.atime, attr.mtime, attr.ctime];
        [attr.ino, attr.size, attr.blocks].into_iter().for_each(|value| self.push_u64(value));
        times.iter().for_each(|(seconds, _)| self.push_u64(seconds.cast_unsigned()));
        times.iter().for_each(|(_, nanoseconds)| self.push_u32(*nanoseconds));
        let Attr { mode, nlink, uid, gid, rdev, blksize, .. } = *attr;
        let flags = 0;
        [mode, nlink, uid, gid, rdev, blksize, flags]
            .iter()
            .for_each(|value| self.push_u32(*value));
    }

    /// Attributes and for how long they hold.
    pub(crate) fn attr(mut self, attr: &Attr, ttl: Duration) -> Self {
        self.push_u64(ttl.as_secs());
        self.push_u32(ttl.subsec_nanos());
        self.push_u32(0);
        self.push_attr(attr);
        self
    }

    /// What a name leads to, and for how long it and its attributes hold. Inode numbers
    /// are never reused, so there is only ever one generation.
    pub(crate) fn entry(mut self, attr: &Attr, ttl: Duration) -> Self {
        self.push_entry(attr, ttl);
        self
    }

    fn push_entry(&mut self, attr: &Attr, ttl: Duration) {
        let generation = 0;
        let seconds = ttl.as_secs();
        [attr.ino, generation, seconds, seconds].iter().for_each(|value| self.push_u64(*value));
        self.push_u32(ttl.subsec_nanos());
        self.push_u32(ttl.subsec_nanos());
        self.push_attr(attr);
    }

    /// A handle and what the kernel may do with it.
    pub(crate) fn opened(mut self, handle: u64, flags: u32) -> Self {
        self.push_u64(handle);
        self.push_u32(flags);
        self.push_u32(0);
        self
    }

    /// An entry of a listing.
    pub(crate) fn push_listed(&mut self, ino: u64, cookie: u64, mode: u32, name: &[u8]) {
        self.push_u64(ino);
        self.push_u64(cookie);
        self.push_u32(name.len() as u32);
        // As in `d_type`: the type bits of a mode, moved down.
        self.push_u32(mode >> 12);
        self.0.extend_from_slice(name);
        self.0.resize(self.0.len().next_multiple_of(8), 0);
    }

    /// The same with attributes.
    pub(crate) fn push_listed_plus(
        &mut self,
        (attr, ttl): (&Attr, Duration),
        cookie: u64,
        name: &[u8],
    ) {
        self.push_entry(attr, ttl);
        self.push_listed(attr.ino, cookie, attr.mode, name);
    }
}

/// Bytes that [`Body::push_listed`] adds.
pub(crate) fn listed_len(name: &[u8]) -> usize {
    (24 + name.len()).next_multiple_of(8)
}

/// Bytes that [`Body::push_listed_plus`] adds.
pub(crate) fn listed_plus_len(name: &[u8]) -> usize {
    128 + listed_len(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(opcode: u32, body: &[u8]) -> Vec<u8> {
        let len = 40 + body.len() as u32;
        let header = Body::default().u32(len).u32(opcode).u64(7).u64(1).u32(1000).u32(100);
        header.u32(4242).u32(0).bytes(body).0
    }

    #[test]
    fn a_request_is_taken_apart() {
        let bytes = request(45, &Body::default().u64(9).u32(1).u32(0).bytes(b"old\0new\0").0);
        let (header, mut rest) = Arguments::of(&bytes).unwrap();
        assert_eq!(header.opcode, Opcode::RenameWithFlags);
        assert_eq!((header.unique, header.ino, header.uid, header.gid), (7, 1, 1000, 100));
        assert_eq!((rest.u64(), rest.u32(), rest.u32()), (Ok(9), Ok(1), Ok(0)));
        assert_eq!((rest.name(), rest.name()), (Ok(&b"old"[..]), Ok(&b"new"[..])));
        assert_eq!(rest.name(), Err(Malformed));
    }

    #[test]
    fn what_ends_too_early_is_refused() {
        let bytes = request(1, b"name\0");
        for len in 0..bytes.len() {
            assert!(Arguments::of(&bytes[..len]).is_err());
        }
        let (_, mut rest) = Arguments::of(&bytes).unwrap();
        assert_eq!(rest.u64(), Err(Malformed));
        assert_eq!(rest.bytes(6), Err(Malformed));
        assert_eq!(rest.skip(6), Err(Malformed));
        let unended = request(1, b"name");
        assert_eq!(Arguments::of(&unended).unwrap().1.name(), Err(Malformed));
        let mut extended = request(35, b"name\0\0\0\0");
        extended[36] = 1;
        assert_eq!(Arguments::of(&extended).unwrap().1.bytes(1), Err(Malformed));
        extended[36] = 2;
        assert!(Arguments::of(&extended).is_err());
    }

    #[test]
    fn replies_have_the_kernels_sizes() {
        let (attr, ttl) = (Attr::default(), Duration::from_millis(1500));
        assert_eq!(Body::default().attr(&attr, ttl).len(), 104);
        assert_eq!(Body::default().entry(&attr, ttl).len(), 128);
        assert_eq!(Body::default().opened(1, 0).len(), 16);
        for name in [&b"a"[..], b"12345678", b"123456789"] {
            let (mut plain, mut plus) = (Body::default(), Body::default());
            plain.push_listed(5, 6, 0o100_644, name);
            plus.push_listed_plus((&attr, ttl), 6, name);
            assert_eq!((plain.len(), plus.len()), (listed_len(name), listed_plus_len(name)));
            assert_eq!(plain.0[20], 8, "a regular file");
        }
    }
}
