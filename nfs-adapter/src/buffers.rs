//! Memory for large records: lent to whoever has the data, and used again.
//!
//! The data of a large write stays where the socket put it, and the buffer goes with it.
//! Copied is what has been read ahead of it, up to 16 KiB; all data of records up to
//! 8 KiB, which lie in the connection's own memory; and data that is less than half of its
//! record. Sizes come in steps of two, so that data which is kept for long does not keep
//! much more memory than it needs.

use bytes::Bytes;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;

/// Room for what stands before and behind the data of a write.
const HEADER_LEN: usize = 4 << 10;
/// Data in the smallest buffer.
const SMALLEST: usize = 16 << 10;
/// Steps from the smallest to the largest.
const STEPS: usize = 7;
/// Data in the largest buffer.
pub(crate) const DATA_MAX: usize = SMALLEST << (STEPS - 1);
/// The longest record.
pub(crate) const RECORD_MAX: usize = DATA_MAX + HEADER_LEN;
/// Bytes in buffers that nobody needs.
const SPARE_MAX: usize = 16 << 20;

/// Buffers that are used again.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    spare: Mutex<Spare>,
}

#[derive(Debug, Default)]
struct Spare {
    by_step: [Vec<Vec<u8>>; STEPS],
    bytes: usize,
}

const fn size(step: usize) -> usize {
    (SMALLEST << step) + HEADER_LEN
}

impl Buffers {
    /// A buffer of at least `len` bytes, which are at most [`RECORD_MAX`].
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> Lent {
        let step = (0..STEPS).find(|step| size(*step) >= len).unwrap_or(STEPS - 1);
        let mut spare = self.spare.lock();
        let found = spare.by_step[step].pop();
        if found.is_some() {
            spare.bytes -= size(step);
        }
        drop(spare);
        let buffer = found.unwrap_or_else(|| vec![0; size(step)]);
        Lent { buffer, range: 0..0, step, home: Arc::clone(self) }
    }

    fn give_back(&self, step: usize, buffer: Vec<u8>) {
        let mut spare = self.spare.lock();
        if spare.bytes + size(step) <= SPARE_MAX {
            spare.bytes += size(step);
            spare.by_step[step].push(buffer);
        }
    }
}

/// A part of a buffer that comes back when it is dropped.
#[derive(Debug)]
pub(crate) struct Lent {
    buffer: Vec<u8>,
    range: Range<usize>,
    step: usize,
    home: Arc<Buffers>,
}

impl Lent {
    /// All of the buffer, to be filled.
    pub(crate) fn whole(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// Shows only the first `len` bytes from now on.
    pub(crate) fn filled(mut self, len: usize) -> Self {
        self.range = 0..len.min(self.buffer.len());
        self
    }

    /// A part of what is shown, with the buffer.
    pub(crate) fn into_bytes(mut self, part: Range<usize>) -> Bytes {
        let end = part.end.min(self.range.len());
        self.range = part.start.min(end)..end;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give_back(self.step, std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::{Buffers, RECORD_MAX, SPARE_MAX};
    use std::sync::Arc;

    #[test]
    fn a_buffer_is_used_again_once_its_data_is_dropped() {
        let buffers = Arc::new(Buffers::default());
        let mut lent = buffers.take(100_000);
        lent.whole()[..5].copy_from_slice(b"hello");
        let place = lent.whole().as_ptr();
        let data = lent.filled(5).into_bytes(1..3);
        assert_eq!(&data[..], b"el");
        let kept = data.clone();
        drop(data);
        assert_ne!(buffers.take(100_000).whole().as_ptr(), place, "still in use");
        drop(kept);
        let places = [buffers.take(100_000).whole().as_ptr(), place];
        assert_eq!(buffers.spare.lock().by_step.iter().flatten().count(), 2);
        assert_eq!(places[0], places[1], "the last to come back is the first to go");
    }

    #[test]
    fn no_buffer_is_much_larger_than_what_it_is_for() {
        let buffers = Arc::new(Buffers::default());
        for len in [16 << 10, 17 << 10, 64 << 10, 65_537, 500_000, RECORD_MAX] {
            let got = buffers.take(len).whole().len();
            assert!(got >= len && got <= 2 * len + 4096, "{len}: {got}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let buffers = Arc::new(Buffers::default());
        let lent: Vec<_> = (0..40).map(|_| buffers.take(RECORD_MAX)).collect();
        drop(lent);
        let spare = buffers.spare.lock();
        assert!(spare.bytes <= SPARE_MAX);
        let kept: usize = spare.by_step.iter().flatten().map(Vec::len).sum();
        assert_eq!(kept, spare.bytes);
    }
}
