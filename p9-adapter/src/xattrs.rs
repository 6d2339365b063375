//! Extended attributes that are on their way, and how much of them there may be.

use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vfs::{ErrorKind, Result, XattrMode};

/// The longest value that is taken in; what a file system takes may be less.
const VALUE_LEN_MAX: u64 = 64 << 10;

/// Room for the attributes of one connection.
#[derive(Debug)]
pub(crate) struct Room {
    used: Arc<AtomicUsize>,
    max: usize,
}

/// Some of the room, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    used: Arc<AtomicUsize>,
    len: usize,
}

impl Room {
    pub(crate) fn new(max: usize) -> Self {
        Self { used: Arc::default(), max }
    }

    fn take(&self, len: usize) -> Result<Taken> {
        let taken = Taken { used: Arc::clone(&self.used), len };
        let before = self.used.fetch_add(len, Ordering::Relaxed);
        if before.saturating_add(len) > self.max {
            return Err(vfs::Error::because(ErrorKind::Busy, "too many attributes at a time"));
        }
        Ok(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.used.fetch_sub(self.len, Ordering::Relaxed);
    }
}

/// A value that is being read.
#[derive(Debug)]
pub(crate) struct Reading {
    value: Bytes,
    _room: Taken,
}

impl Reading {
    pub(crate) fn new(value: Bytes, room: &Room) -> Result<Self> {
        Ok(Self { _room: room.take(value.len())?, value })
    }

    pub(crate) fn len(&self) -> u64 {
        self.value.len() as u64
    }

    /// Up to `count` bytes from `offset` on; nothing behind the end.
    pub(crate) fn read(&self, offset: u64, count: u32) -> Bytes {
        let len = self.value.len();
        let start = usize::try_from(offset).map_or(len, |offset| offset.min(len));
        self.value.slice(start..start.saturating_add(count as usize).min(len))
    }
}

/// A value that is being written, and what becomes of it.
#[derive(Debug)]
pub(crate) struct Writing {
    pub(crate) name: Box<[u8]>,
    pub(crate) mode: XattrMode,
    /// How long the client said it is.
    len: usize,
    value: Mutex<Vec<u8>>,
    _room: Taken,
}

impl Writing {
    pub(crate) fn new(name: &[u8], mode: XattrMode, len: u64, room: &Room) -> Result<Self> {
        if len > VALUE_LEN_MAX {
            return Err(ErrorKind::Range.into());
        }
        let len = len as usize;
        Ok(Self { name: name.into(), mode, len, value: Mutex::default(), _room: room.take(len)? })
    }

    /// Takes the next part, which must begin where the last one ended.
    pub(crate) fn write(&self, offset: u64, part: &[u8]) -> Result<()> {
        let mut value = self.value.lock();
        if offset != value.len() as u64 || part.len() > self.len - value.len() {
            return Err(ErrorKind::Invalid.into());
        }
        value.extend_from_slice(part);
        Ok(())
    }

    /// The value once it is whole; `None` removes the attribute. To replace by nothing
    /// is how Linux says that.
    pub(crate) fn finish(&self) -> Result<Option<Bytes>> {
        let value = std::mem::take(&mut *self.value.lock());
        if value.len() != self.len {
            return Err(ErrorKind::Invalid.into());
        }
        let removes = value.is_empty() && self.mode == XattrMode::Replace;
        Ok((!removes).then(|| value.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Reading, Room, Writing};
    use bytes::Bytes;
    use vfs::{ErrorKind, XattrMode};

    fn writing(len: u64, room: &Room) -> vfs::Result<Writing> {
        Writing::new(b"user.a", XattrMode::Either, len, room)
    }

    #[test]
    fn values_are_read_in_parts() {
        let room = Room::new(100);
        let reading = Reading::new(Bytes::from_static(b"value"), &room).unwrap();
        assert_eq!(reading.len(), 5);
        assert_eq!(&reading.read(0, 3)[..], b"val");
        assert_eq!(&reading.read(3, u32::MAX)[..], b"ue");
        for offset in [5, 6, u64::MAX] {
            assert!(reading.read(offset, u32::MAX).is_empty());
        }
    }

    #[test]
    fn values_have_the_length_that_was_said() {
        let room = Room::new(100);
        let value = writing(4, &room).unwrap();
        value.write(0, b"ab").unwrap();
        assert_eq!(value.write(0, b"cd").unwrap_err().kind(), ErrorKind::Invalid, "again");
        assert_eq!(value.write(3, b"d").unwrap_err().kind(), ErrorKind::Invalid, "a gap");
        assert_eq!(value.write(2, b"cde").unwrap_err().kind(), ErrorKind::Invalid, "too much");
        value.write(2, b"cd").unwrap();
        assert_eq!(value.finish().unwrap(), Some(Bytes::from_static(b"abcd")));
        assert!(writing(4, &room).unwrap().finish().is_err(), "too little");
        assert_eq!(writing(0, &room).unwrap().finish().unwrap(), Some(Bytes::new()));
        let removal = Writing::new(b"user.a", XattrMode::Replace, 0, &room).unwrap();
        assert_eq!(removal.finish().unwrap(), None);
    }

    #[test]
    fn there_is_only_so_much_room() {
        let room = Room::new(100);
        assert_eq!(writing(65_537, &room).unwrap_err().kind(), ErrorKind::Range);
        let first = writing(60, &room).unwrap();
        assert_eq!(writing(60, &room).unwrap_err().kind(), ErrorKind::Busy);
        assert!(Reading::new(Bytes::from_static(&[0; 41]), &room).is_err());
        drop(first);
        writing(60, &room).unwrap();
    }
}
