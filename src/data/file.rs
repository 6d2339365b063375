//! The unsaved data of one file: layers over its stored content.

use super::layer::{Layer, Recipe};
use crate::codec::{DecodeError, Reader, Writer};
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

/// Most patches of one block before they are merged into it.
pub const BLOCK_PATCHES_MAX: usize = 16;

/// One patch as the database has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchRow {
    /// Its row.
    pub id: i64,
    /// Where it starts in the file.
    pub offset: u64,
    /// Its length, bytes.
    pub len: u64,
}

/// Small committed writes that are not in blocks yet.
#[derive(Debug, Default)]
pub struct Patches {
    /// What they make visible.
    pub layer: Layer,
    /// The rows, by block.
    pub rows: BTreeMap<u64, Vec<PatchRow>>,
}

impl Patches {
    /// Adds one that the database holds.
    pub fn add(&mut self, block: u64, row: PatchRow, bytes: Bytes) {
        self.layer.extents.insert(row.offset, bytes);
        self.rows.entry(block).or_default().push(row);
    }

    /// Forgets those of a block, which now lie in the block itself.
    pub fn forget(&mut self, block: u64, block_size: u64) {
        self.rows.remove(&block);
        self.layer.extents.remove(block * block_size..(block + 1) * block_size);
    }

    /// Forgets everything from `block` on.
    pub fn forget_from(&mut self, block: u64, block_size: u64) {
        self.rows.split_off(&block);
        self.layer.extents.remove(block * block_size..u64::MAX);
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The encoding of one patch's row.
    #[must_use]
    pub fn encode(offset: u64, bytes: &[u8]) -> Vec<u8> {
        let mut w = Writer::with_capacity(12 + bytes.len());
        w.u64(offset).lp(bytes);
        w.into_vec()
    }

    /// Reads a patch's row: where it starts and what it holds.
    pub fn decode(row: &[u8]) -> Result<(u64, Bytes), DecodeError> {
        let mut r = Reader::new(row);
        let offset = r.u64("offset")?;
        let bytes = Bytes::copy_from_slice(r.lp("patch", row.len())?);
        r.finish("patch")?;
        Ok((offset, bytes))
    }
}

/// What a file has on top of its stored content.
#[derive(Debug, Default)]
pub struct FileState {
    /// Changes since the last freeze.
    pub current: Layer,
    /// Changes that a running commit has taken.
    pub frozen: Option<Layer>,
    /// Committed changes that are not in blocks.
    pub patches: Patches,
    /// Blocks of `current` that some thread is sealing right now.
    pub sealing: HashSet<u64>,
    /// Why an earlier unsaved write could not be kept, until it was reported.
    pub failure: Option<vfs::ErrorKind>,
}

impl FileState {
    /// Hands the current changes to a commit; says whether there are any, or
    /// patches that could be merged.
    pub fn freeze(&mut self) -> bool {
        debug_assert!(self.frozen.is_none(), "one commit at a time");
        if self.current.is_empty() && self.patches.is_empty() {
            return false;
        }
        self.frozen = Some(std::mem::take(&mut self.current));
        true
    }

    /// The layers, topmost first.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.current)
            .chain(&self.frozen)
            .chain(std::iter::once(&self.patches.layer))
    }

    /// How to put `range`, which lies in `block`, together.
    #[must_use]
    pub fn recipe(&self, block: u64, range: Range<u64>) -> Recipe {
        Recipe::new(self.layers(), block, range)
    }

    /// The first block at or behind `block` that any layer says something of.
    #[must_use]
    pub fn next_touched(&self, block: u64, block_size: u64) -> Option<u64> {
        let in_layer = |layer: &Layer| {
            let staged = layer.staged.range(block..).next().map(|(block, _)| *block);
            let held = layer.extents.next_held(block * block_size).map(|at| at / block_size);
            staged.into_iter().chain(held).min()
        };
        self.layers().filter_map(in_layer).min()
    }

    /// Whether nothing is left that the stored content does not have.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.current.is_empty() && self.frozen.is_none()
    }
}

impl FileState {
    /// Makes `range` read as zeros. `stored` are the blocks of it that the stored
    /// content has; with `has_inline` the stored content is one short run.
    pub fn zero(&mut self, range: Range<u64>, block_size: u64, stored: &[u64], has_inline: bool) {
        let first_whole = range.start.div_ceil(block_size);
        let end_whole = range.end / block_size;
        let blocks_of = |layer: &Layer| {
            let mut blocks: Vec<u64> = layer.staged.keys().copied().collect();
            blocks.extend(layer.extents.blocks(block_size));
            blocks
        };
        let mut held: Vec<u64> = self.layers().flat_map(blocks_of).collect();
        held.extend_from_slice(stored);
        held.extend(has_inline.then_some(0));
        held.sort_unstable();
        held.dedup();
        self.current.extents.remove(range.clone());
        for block in held {
            if (first_whole..end_whole).contains(&block) {
                self.current.staged.insert(block, None);
            } else {
                let start = (block * block_size).max(range.start);
                let end = ((block + 1) * block_size).min(range.end);
                if start < end {
                    self.current
                        .extents
                        .insert(start, Bytes::from(vec![0; (end - start) as usize]));
                }
            }
        }
    }
}
