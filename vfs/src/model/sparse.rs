//! The bytes of a file, kept in blocks; a block that is missing is a hole.
//!
//! The length is not kept here. Invariant: no byte at or after the file's length
//! is other than zero, so that a file can grow by changing its length alone.

use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(super) struct Sparse {
    block: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Sparse {
    pub(super) fn new(block: u64) -> Self {
        Self { block, blocks: BTreeMap::new() }
    }

    /// Bytes of storage in use.
    pub(super) fn used(&self) -> u64 {
        self.blocks.len() as u64 * self.block
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        for (start, bytes) in self.pieces(offset, offset + len as u64) {
            let at = (start - offset) as usize;
            data[at..at + bytes.len()].copy_from_slice(bytes);
        }
        data
    }

    pub(super) fn write(&mut self, mut offset: u64, mut data: &[u8]) {
        while !data.is_empty() {
            let at = (offset % self.block) as usize;
            let len = data.len().min(self.block as usize - at);
            let block = self
                .blocks
                .entry(offset / self.block)
                .or_insert_with(|| vec![0; self.block as usize]);
            block[at..at + len].copy_from_slice(&data[..len]);
            offset += len as u64;
            data = &data[len..];
        }
    }

    /// Makes a range read as zeros; blocks wholly inside become holes.
    pub(super) fn clear(&mut self, start: u64, end: u64) {
        let size = self.block;
        self.blocks.retain(|&index, block| {
            let first = index * size;
            let (from, to) = (start.max(first), end.min(first + size));
            if from >= to {
                return true;
            }
            block[(from - first) as usize..(to - first) as usize].fill(0);
            to - from < size
        });
    }

    /// The stored bytes of a range, in order, with the offset of each run.
    pub(super) fn pieces(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let size = self.block;
        let blocks = self.blocks.range(start / size..end.div_ceil(size).max(start / size));
        blocks.filter_map(move |(&index, block)| {
            let first = index * size;
            let (from, to) = (start.max(first), end.min(first + size));
            (from < to).then(|| (from, &block[(from - first) as usize..(to - first) as usize]))
        })
    }

    /// The first stored byte at or after `offset`.
    pub(super) fn next_data(&self, offset: u64) -> Option<u64> {
        let index = self.blocks.range(offset / self.block..).next()?.0;
        Some(offset.max(index * self.block))
    }

    /// The first byte at or after `offset` that is not stored.
    pub(super) fn next_hole(&self, offset: u64) -> u64 {
        let mut index = offset / self.block;
        if !self.blocks.contains_key(&index) {
            return offset;
        }
        while self.blocks.contains_key(&index) {
            index += 1;
        }
        index * self.block
    }
}
