//! Bytes at offsets: what was written to a file and is not yet in blocks.
//!
//! Extents never overlap and are kept in order. A write replaces what it
//! covers; small writes that follow each other grow one extent. The cost of an
//! operation is logarithmic in the number of extents plus what it replaces.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;

/// Extents up to this length grow in place when a write continues them.
const GROW_LEN_MAX: usize = 128 * 1024;
/// What is left of an extent is copied if it is not longer than this: it would else keep
/// all of the memory of the write it came from, which nobody counts.
const COPY_LEN_MAX: usize = 128 * 1024;

/// Non-overlapping byte runs of one file, by offset.
#[derive(Clone, Debug, Default)]
pub struct Extents {
    map: BTreeMap<u64, Bytes>,
    len: u64,
}

fn end_of(start: u64, bytes: &Bytes) -> u64 {
    start + bytes.len() as u64
}

/// The part of `bytes`, which lie at `start`, that is inside `range`.
fn clip(start: u64, bytes: &Bytes, range: &Range<u64>) -> Option<(u64, Bytes)> {
    let from = start.max(range.start);
    let to = end_of(start, bytes).min(range.end);
    (from < to).then(|| (from, bytes.slice((from - start) as usize..(to - start) as usize)))
}

/// What stays of an extent that was cut: of its own, if it is short.
fn remnant(bytes: Bytes) -> Bytes {
    if bytes.len() <= COPY_LEN_MAX { Bytes::copy_from_slice(&bytes) } else { bytes }
}

impl Extents {
    /// Bytes held.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Number of runs.
    #[must_use]
    pub fn count(&self) -> usize {
        self.map.len()
    }

    /// One past the last byte held.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.map.last_key_value().map_or(0, |(start, bytes)| end_of(*start, bytes))
    }

    /// Puts `bytes` at `offset`, replacing what was there.
    pub fn insert(&mut self, offset: u64, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let end = end_of(offset, &bytes);
        self.remove(offset..end);
        self.len += bytes.len() as u64;
        if self.grow_previous(offset, &bytes) {
            return;
        }
        self.map.insert(offset, bytes);
    }

    /// Appends to the extent that ends at `offset`, if it is small and nobody
    /// else holds its memory.
    fn grow_previous(&mut self, offset: u64, bytes: &Bytes) -> bool {
        let Some(mut entry) = self.map.range_mut(..offset).next_back() else { return false };
        let (start, previous) = (*entry.0, &mut entry.1);
        if end_of(start, previous) != offset || previous.len() + bytes.len() > GROW_LEN_MAX {
            return false;
        }
        match std::mem::take(*previous).try_into_mut() {
            Ok(mut growing) => {
                growing.extend_from_slice(bytes);
                **previous = growing.freeze();
                true
            }
            Err(shared) => {
                **previous = shared;
                false
            }
        }
    }

    /// Forgets everything in `range`.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        if let Some((&start, bytes)) = self.map.range_mut(..range.start).next_back() {
            let end = end_of(start, bytes);
            if end > range.start {
                let whole = bytes.clone();
                *bytes = remnant(whole.slice(..(range.start - start) as usize));
                self.len -= end - range.start;
                if let Some((at, rest)) = clip(start, &whole, &(range.end..u64::MAX)) {
                    self.len += rest.len() as u64;
                    self.map.insert(at, remnant(rest));
                    return;
                }
            }
        }
        let covered: Vec<u64> = self.map.range(range.clone()).map(|(start, _)| *start).collect();
        for start in covered {
            let Some(bytes) = self.map.remove(&start) else { continue };
            self.len -= bytes.len() as u64;
            if let Some((at, rest)) = clip(start, &bytes, &(range.end..u64::MAX)) {
                self.len += rest.len() as u64;
                self.map.insert(at, remnant(rest));
            }
        }
    }

    /// The runs inside `range`, clipped to it, in order.
    pub fn in_range(&self, range: Range<u64>) -> impl Iterator<Item = (u64, Bytes)> + '_ {
        let first =
            self.map.range(..=range.start).next_back().map_or(range.start, |(start, _)| *start);
        let end = range.end.max(first);
        self.map.range(first..end).filter_map(move |(start, bytes)| clip(*start, bytes, &range))
    }

    /// Bytes held inside `range`.
    #[must_use]
    pub fn len_in(&self, range: Range<u64>) -> u64 {
        self.in_range(range).map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// Whether every byte of `range` is held.
    #[must_use]
    pub fn covers(&self, range: Range<u64>) -> bool {
        self.len_in(range.clone()) == range.end.saturating_sub(range.start)
    }

    /// The first byte held at or after `offset`.
    #[must_use]
    pub fn next_held(&self, offset: u64) -> Option<u64> {
        if let Some((start, bytes)) = self.map.range(..=offset).next_back()
            && end_of(*start, bytes) > offset
        {
            return Some(offset);
        }
        self.map.range(offset..).next().map(|(start, _)| *start)
    }

    /// Every run, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Bytes)> + '_ {
        self.map.iter().map(|(start, bytes)| (*start, bytes))
    }

    /// The numbers of the blocks of `block_size` bytes that are touched.
    #[must_use]
    pub fn blocks(&self, block_size: u64) -> Vec<u64> {
        let mut blocks = Vec::new();
        for (start, bytes) in &self.map {
            let last = (end_of(*start, bytes) - 1) / block_size;
            let mut block = start / block_size;
            if blocks.last() == Some(&block) {
                block += 1;
            }
            blocks.extend(block..=last);
        }
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// Expands to a byte or nothing per offset.
    fn flat(extents: &Extents, len: usize) -> Vec<Option<u8>> {
        let mut out = vec![None; len];
        let mut last_end = 0;
        for (start, bytes) in extents.iter() {
            assert!(start >= last_end, "overlap");
            last_end = end_of(start, bytes);
            for (i, byte) in bytes.iter().enumerate() {
                out[start as usize + i] = Some(*byte);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn behaves_like_an_array(ops in prop::collection::vec((any::<bool>(), 0u64..200, 0u64..60, any::<u8>()), 1..60)) {
            let mut model = vec![None; 300];
            let mut extents = Extents::default();
            for (write, offset, len, byte) in ops {
                let range = offset as usize..(offset + len) as usize;
                if write {
                    extents.insert(offset, Bytes::from(vec![byte; len as usize]));
                    model[range.clone()].fill(Some(byte));
                } else {
                    extents.remove(offset..offset + len);
                    model[range.clone()].fill(None);
                }
                prop_assert_eq!(&flat(&extents, 300), &model);
                prop_assert_eq!(extents.len(), model.iter().flatten().count() as u64);
                let held: Vec<u8> = extents.in_range(offset..offset + len).flat_map(|(_, b)| b.to_vec()).collect();
                let expected: Vec<u8> = model[range].iter().flatten().copied().collect();
                prop_assert_eq!(held, expected);
                let next = model[offset as usize..].iter().position(Option::is_some).map(|i| i as u64 + offset);
                prop_assert_eq!(extents.next_held(offset), next);
                let mut blocks: Vec<u64> = (0..300u64).filter(|i| model[*i as usize].is_some()).map(|i| i / 16).collect();
                blocks.dedup();
                prop_assert_eq!(extents.blocks(16), blocks);
            }
        }
    }

    #[test]
    fn appends_grow_one_extent() {
        let mut extents = Extents::default();
        for i in 0..100 {
            extents.insert(i * 10, Bytes::from(vec![1; 10]));
        }
        assert_eq!((extents.count(), extents.len()), (1, 1000));
    }

    #[test]
    fn short_remnants_do_not_keep_the_memory_of_long_writes() {
        struct Buffer(Vec<u8>, #[expect(dead_code, reason = "only held")] Arc<()>);
        impl AsRef<[u8]> for Buffer {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        let alive = Arc::new(());
        let mut extents = Extents::default();
        // Each write leaves four bytes of the one before it.
        for i in 0..8 {
            let buffer = Buffer(vec![1; 1 << 20], Arc::clone(&alive));
            extents.insert(i * 4, Bytes::from_owner(buffer));
        }
        assert_eq!(extents.len(), (1 << 20) + 28);
        assert_eq!(Arc::strong_count(&alive), 2, "only the last write is held");
    }
}
