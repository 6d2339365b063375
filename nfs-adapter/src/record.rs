//! Record marking (RFC 5531 §11): records as they come out of a connection.
//!
//! Small calls are read many at a time and looked at where they lie. A large one is read
//! into a buffer of its own, which goes on with its data. What a mark claims is held
//! against the longest record before there is any memory for it.

use crate::buffers::{Buffers, Lent, RECORD_MAX};
use crate::rpc::{LAST_FRAGMENT, MARK_LEN};
use bytes::Bytes;
use listen::Probation;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

/// Bytes read ahead.
const AHEAD_LEN: usize = 16 << 10;
/// The longest record that is looked at where it was read.
const SMALL_MAX: usize = 8 << 10;
/// Pieces of one record; nobody needs more than one.
const FRAGMENTS_MAX: usize = 1024;

/// A call as it was received.
#[derive(Debug)]
pub(crate) enum Record<'a> {
    /// It lies in the connection's own memory.
    Small {
        /// All of it.
        bytes: &'a [u8],
        /// Whether more has been received behind it.
        is_followed: bool,
    },
    /// It has a buffer of its own.
    Large(Lent),
}

impl Record<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Small { bytes, .. } => bytes,
            Self::Large(lent) => lent.as_ref(),
        }
    }

    /// Whether the client has said more before this was answered.
    pub(crate) fn is_followed(&self) -> bool {
        matches!(self, Self::Small { is_followed: true, .. })
    }

    /// A part of the record that outlives it, copied only if it is small.
    pub(crate) fn into_data(self, part: Range<usize>) -> Bytes {
        match self {
            Self::Small { bytes, .. } => {
                Bytes::copy_from_slice(bytes.get(part).unwrap_or_default())
            }
            // Little data would keep all of the buffer in memory.
            Self::Large(lent) if part.len() < lent.as_ref().len() / 2 => {
                Bytes::copy_from_slice(lent.as_ref().get(part).unwrap_or_default())
            }
            Self::Large(lent) => lent.into_bytes(part),
        }
    }
}

/// The receiving half of a connection.
#[derive(Debug)]
pub(crate) struct Incoming<R> {
    stream: R,
    buffers: Arc<Buffers>,
    ahead: Box<[u8]>,
    /// What of `ahead` has been read and not looked at.
    unread: Range<usize>,
    /// Of a sender who may be a stranger.
    probation: Option<Arc<Probation>>,
}

impl<R: Read> Incoming<R> {
    pub(crate) fn new(stream: R, buffers: Arc<Buffers>) -> Self {
        let ahead: Box<[u8]> = vec![0; AHEAD_LEN].into();
        Self { stream, buffers, ahead, unread: 0..0, probation: None }
    }

    /// Reads no more from somebody who has been a stranger for too long.
    pub(crate) fn watch(&mut self, probation: Arc<Probation>) {
        self.probation = Some(probation);
    }

    /// Whether the next record is here already, so that asking for it does not wait.
    pub(crate) fn has_record(&self) -> bool {
        let unread = &self.ahead[self.unread.clone()];
        let Some((mark, rest)) = unread.split_first_chunk() else { return false };
        let mark = u32::from_be_bytes(*mark);
        mark & LAST_FRAGMENT != 0 && (mark & !LAST_FRAGMENT) as usize <= rest.len()
    }

    /// The next record; `None` when the other side has no more to say.
    ///
    /// A read timeout of the stream ends a record that stopped in the middle, and lets the
    /// time between two records be as long as it likes.
    pub(crate) fn next(&mut self) -> io::Result<Option<Record<'_>>> {
        let Some((mut len, mut is_last)) = self.mark(true)? else { return Ok(None) };
        if is_last && len <= SMALL_MAX {
            self.fill(len, false)?;
            let start = self.unread.start;
            self.unread.start += len;
            let bytes = &self.ahead[start..start + len];
            return Ok(Some(Record::Small { bytes, is_followed: !self.unread.is_empty() }));
        }
        let (mut record, mut filled, mut fragments) = (self.buffers.take(len), 0, 1);
        loop {
            if record.whole().len() < filled + len {
                let mut larger = self.buffers.take(filled + len);
                larger.whole()[..filled].copy_from_slice(&record.whole()[..filled]);
                record = larger;
            }
            self.take_into(&mut record.whole()[filled..filled + len])?;
            filled += len;
            if is_last {
                return Ok(Some(Record::Large(record.filled(filled))));
            }
            let next = self.mark(false)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            (len, is_last) = next;
            fragments += 1;
            if filled + len > RECORD_MAX || fragments > FRAGMENTS_MAX {
                return Err(too_long());
            }
        }
    }

    /// Length of the next fragment, and whether it is the last of its record.
    fn mark(&mut self, begins_record: bool) -> io::Result<Option<(usize, bool)>> {
        if !self.fill(MARK_LEN, begins_record)? {
            return Ok(None);
        }
        let Some((mark, _)) = self.ahead[self.unread.clone()].split_first_chunk() else {
            return Ok(None);
        };
        let mark = u32::from_be_bytes(*mark);
        self.unread.start += MARK_LEN;
        let len = (mark & !LAST_FRAGMENT) as usize;
        if len > RECORD_MAX {
            return Err(too_long());
        }
        Ok(Some((len, mark & LAST_FRAGMENT != 0)))
    }

    /// Reads until `len` bytes are there to be looked at; false if the stream has ended
    /// where it may.
    fn fill(&mut self, len: usize, may_end: bool) -> io::Result<bool> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.start + len > self.ahead.len() {
            self.ahead.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        while self.unread.len() < len {
            let is_between = may_end && self.unread.is_empty();
            let place = &mut self.ahead[self.unread.end..];
            match read(&mut self.stream, self.probation.as_deref(), place) {
                Ok(0) if is_between => return Ok(false),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.unread.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The timeout, and nothing has been begun.
                Err(error) if is_between && is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Moves the next bytes into `place`: first what was read ahead, the rest directly.
    fn take_into(&mut self, place: &mut [u8]) -> io::Result<()> {
        let count = self.unread.len().min(place.len());
        let (from_ahead, rest) = place.split_at_mut(count);
        from_ahead.copy_from_slice(&self.ahead[self.unread.start..self.unread.start + count]);
        self.unread.start += count;
        let mut filled = 0;
        while filled < rest.len() {
            match read(&mut self.stream, self.probation.as_deref(), &mut rest[filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Reads what is there; fails if it is no longer wanted. What comes byte by byte is asked
/// about with each.
fn read(
    stream: &mut impl Read,
    probation: Option<&Probation>,
    place: &mut [u8],
) -> io::Result<usize> {
    if let Some(probation) = probation {
        probation.check()?;
    }
    stream.read(place)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a record is longer than any call can be")
}

#[cfg(test)]
mod tests {
    use super::{AHEAD_LEN, Incoming, RECORD_MAX, Record, SMALL_MAX};
    use crate::buffers::Buffers;
    use crate::rpc::LAST_FRAGMENT;
    use proptest::prelude::*;
    use std::io::{self, Read};

    /// Hands out a few bytes at a time.
    struct Slowly<'a>(&'a [u8], usize);

    impl Read for Slowly<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(buffer.len());
            (&mut self.0).take(count as u64).read(buffer)
        }
    }

    fn fragment(data: &[u8], is_last: bool) -> Vec<u8> {
        let mark = data.len() as u32 | if is_last { LAST_FRAGMENT } else { 0 };
        [&mark.to_be_bytes()[..], data].concat()
    }

    fn all(stream: &[u8], step: usize) -> io::Result<Vec<Vec<u8>>> {
        let mut incoming = Incoming::new(Slowly(stream, step), Default::default());
        let mut records = Vec::new();
        while let Some(record) = incoming.next()? {
            records.push(record.bytes().to_vec());
        }
        Ok(records)
    }

    #[test]
    fn records_of_every_size_come_whole_and_in_order() {
        let sizes = [0, 1, 100, SMALL_MAX, SMALL_MAX + 1, 40, AHEAD_LEN * 3, 0, RECORD_MAX, 7];
        let expected: Vec<Vec<u8>> = sizes.iter().map(|size| vec![*size as u8; *size]).collect();
        let stream: Vec<u8> = expected.iter().flat_map(|data| fragment(data, true)).collect();
        for step in [1000, 5000, usize::MAX] {
            assert!(all(&stream, step).unwrap() == expected, "in steps of {step}");
        }
    }

    #[test]
    fn fragments_are_put_together() {
        let data: Vec<u8> = (0..100_000).map(|at| at as u8).collect();
        let mut stream = Vec::new();
        for (index, part) in data.chunks(30_000).enumerate() {
            stream.extend(fragment(part, index == 3));
        }
        stream
            .extend([fragment(b"", false), fragment(b"ab", false), fragment(b"c", true)].concat());
        let records = all(&stream, 777).unwrap();
        assert!(records == [data, b"abc".to_vec()]);
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_there() {
        let refused = |stream: &[u8]| {
            all(stream, usize::MAX).is_err_and(|error| error.kind() == io::ErrorKind::InvalidData)
        };
        assert!(refused(&[0x7f, 0xff, 0xff, 0xff]), "2 GiB");
        assert!(refused(&((RECORD_MAX as u32 + 1) | LAST_FRAGMENT).to_be_bytes()));
        let half = fragment(&vec![0; RECORD_MAX / 2 + 1], false);
        assert!(refused(&[&half[..], &half[..]].concat()), "in fragments");
        assert!(refused(&[0; 4 * 2000]), "endless empty fragments");
    }

    #[test]
    fn a_stream_may_end_between_records_only() {
        let stream = fragment(&[1; 100], true);
        assert_eq!(all(&stream, 9).unwrap().len(), 1);
        for cut in [1, 3, 4, 50, 103] {
            let ended = all(&stream[..cut], usize::MAX).unwrap_err();
            assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof, "after {cut} bytes");
        }
    }

    #[test]
    fn large_data_stays_where_it_was_read() {
        let stream = fragment(&[5; 50_000], true);
        let buffers = std::sync::Arc::<Buffers>::default();
        let mut incoming = Incoming::new(&stream[..], buffers);
        let Some(record @ Record::Large(_)) = incoming.next().unwrap() else { unreachable!() };
        let place = record.bytes()[100..].as_ptr();
        let data = record.into_data(100..40_000);
        assert_eq!((data.as_ptr(), data.len()), (place, 39_900));
    }

    #[test]
    fn it_is_known_when_the_next_record_is_there() {
        let stream = [fragment(&[1; 10], true), fragment(&[2; 20], true), vec![0x80, 0]].concat();
        let mut incoming = Incoming::new(&stream[..], Default::default());
        assert!(!incoming.has_record(), "nothing is read before it is asked for");
        assert!(incoming.next().unwrap().is_some_and(|record| record.is_followed()));
        assert!(incoming.has_record());
        assert!(incoming.next().unwrap().is_some_and(|record| record.is_followed()));
        assert!(!incoming.has_record(), "half a mark");
        let mut alone = Incoming::new(&stream[..14], Default::default());
        assert!(alone.next().unwrap().is_some_and(|record| !record.is_followed()));
    }

    proptest! {
        #[test]
        fn any_bytes_make_records_or_an_error(
            stream in proptest::collection::vec(any::<u8>(), 0..400),
            step in 1_usize..50,
        ) {
            if let Ok(records) = all(&stream, step) {
                prop_assert!(records.iter().map(Vec::len).sum::<usize>() <= stream.len());
            }
        }
    }
}
