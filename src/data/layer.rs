//! What changed in a file since a certain state of it.
//!
//! A file is read through a stack of layers over its stored content: the
//! current one, perhaps one that is being committed, and the patches kept in
//! the local database. Each says which bytes and blocks are new and up to where
//! anything below it still shows.

use super::extents::Extents;
use crate::crypto::BlockId;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;

/// Changes on top of something lower.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Of what lies below, only bytes before this offset still show.
    pub limit: u64,
    /// Whole blocks that are already sealed; `None` is a hole.
    pub staged: BTreeMap<u64, Option<BlockId>>,
    /// Bytes on top of those.
    pub extents: Extents,
}

impl Default for Layer {
    fn default() -> Self {
        Self { limit: u64::MAX, staged: BTreeMap::new(), extents: Extents::default() }
    }
}

impl Layer {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.limit == u64::MAX && self.staged.is_empty() && self.extents.is_empty()
    }

    /// Cuts the file at `size`: nothing at or beyond it shows any more.
    pub fn truncate(&mut self, size: u64, block_size: u64) {
        self.limit = self.limit.min(size);
        self.extents.remove(size..u64::MAX);
        let first_gone = size.div_ceil(block_size);
        self.staged.split_off(&first_gone);
        let partial = size / block_size;
        if !size.is_multiple_of(block_size)
            && self.staged.get(&partial).is_some_and(Option::is_some)
        {
            // The sealed block still holds the old tail: hide it under zeros.
            let hidden = (partial + 1) * block_size - size;
            self.extents.insert(size, Bytes::from(vec![0; hidden as usize]));
        }
    }
}

impl Layer {
    /// Puts the changes of a higher layer on top.
    pub fn put(&mut self, upper: &Self, block_size: u64) {
        if upper.limit != u64::MAX {
            self.truncate(upper.limit, block_size);
        }
        for (block, id) in &upper.staged {
            self.set_block(*block, *id, block_size);
        }
        for (offset, bytes) in upper.extents.iter() {
            self.extents.insert(offset, bytes.clone());
        }
    }

    /// Makes a whole block be this one.
    pub fn set_block(&mut self, block: u64, id: Option<BlockId>, block_size: u64) {
        self.extents.remove(block * block_size..(block + 1) * block_size);
        self.staged.insert(block, id);
    }

    /// Whether it does more than to put bytes on top.
    #[must_use]
    pub fn changes_blocks(&self) -> bool {
        self.limit != u64::MAX || !self.staged.is_empty()
    }
}

/// How to put one block of a file together.
#[derive(Debug, Default)]
pub struct Recipe {
    /// The sealed block at the bottom, if a layer names one.
    pub bottom: Bottom,
    /// Of the bottom, only bytes before this offset of the file show.
    pub limit: u64,
    /// What lies on top, lowest first, at offsets of the file.
    pub overlays: Vec<(u64, Bytes)>,
}

/// What lies below all layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bottom {
    /// The file's stored content.
    #[default]
    Stored,
    /// This block.
    Block(BlockId),
    /// Zeros.
    Hole,
}

impl Recipe {
    /// Looks through `layers`, topmost first, at `range`, which lies in `block`.
    #[must_use]
    pub fn new<'a>(
        layers: impl IntoIterator<Item = &'a Layer>,
        block: u64,
        range: Range<u64>,
    ) -> Self {
        let mut recipe = Self { limit: u64::MAX, ..Self::default() };
        for layer in layers {
            let shown = range.start..range.end.min(recipe.limit);
            // Reversed now, so that all overlays can be reversed in the end.
            let mut found: Vec<_> = layer.extents.in_range(shown).collect();
            found.reverse();
            recipe.overlays.append(&mut found);
            if let Some(staged) = layer.staged.get(&block) {
                recipe.bottom = staged.map_or(Bottom::Hole, Bottom::Block);
                break;
            }
            recipe.limit = recipe.limit.min(layer.limit);
        }
        recipe.overlays.reverse();
        if recipe.limit <= range.start {
            recipe.bottom = Bottom::Hole;
        }
        recipe
    }

    /// Whether nothing lies on top of the bottom in the part asked for.
    #[must_use]
    pub fn is_plain(&self, range: &Range<u64>) -> bool {
        self.overlays.is_empty() && self.limit >= range.end
    }

    /// Whether the overlays alone make up `range`.
    #[must_use]
    pub fn hides_bottom(&self, range: &Range<u64>) -> bool {
        let mut covered = Extents::default();
        for (offset, bytes) in &self.overlays {
            covered.insert(*offset, bytes.clone());
        }
        covered.covers(range.clone())
    }

    /// Fills `out`, which stands for `range`, given the bottom block's bytes
    /// (perhaps shorter than the block) and the offset at which they begin.
    pub fn assemble(&self, range: &Range<u64>, bottom: &[u8], bottom_start: u64, out: &mut [u8]) {
        out.fill(0);
        let bottom_end = (bottom_start + bottom.len() as u64).min(self.limit);
        let (from, to) = (range.start.max(bottom_start), range.end.min(bottom_end));
        if from < to {
            let source = &bottom[(from - bottom_start) as usize..(to - bottom_start) as usize];
            out[(from - range.start) as usize..(to - range.start) as usize].copy_from_slice(source);
        }
        for (offset, bytes) in &self.overlays {
            let at = (offset - range.start) as usize;
            out[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }
}
