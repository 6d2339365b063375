//! The unsaved data of one file: layers over its stored content.

use super::layer::{Layer, Recipe};
use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::BlockId;
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// Most patches of one block before they are merged into it.
pub const BLOCK_PATCHES_MAX: usize = 64;

/// What each patch takes in memory besides its bytes.
pub const PATCH_OVERHEAD: u64 = 256;

/// Blocks in one row at most.
const ROW_BLOCKS_MAX: usize = 1024;

/// A committed change that is not in the stored content yet. Applied in the order
/// of their rows, the patches of a file make up a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patch {
    /// Bytes at an offset.
    Bytes(u64, Bytes),
    /// Whole blocks by number; `None` is a hole.
    Blocks(Vec<(u64, Option<BlockId>)>),
    /// Nothing that was there at or behind this offset shows any more.
    Cut(u64),
}

impl Patch {
    /// What a layer consists of, each with the block it is filed under.
    #[must_use]
    pub fn all_of(layer: &Layer, block_size: u64) -> Vec<(u64, Self)> {
        let cut = (layer.limit != u64::MAX).then_some((0, Self::Cut(layer.limit)));
        let mut patches: Vec<_> = cut.into_iter().collect();
        let staged: Vec<_> = layer.staged.iter().map(|(block, id)| (*block, *id)).collect();
        patches.extend(staged.chunks(ROW_BLOCKS_MAX).map(|b| (0, Self::Blocks(b.to_vec()))));
        for block in layer.extents.blocks(block_size) {
            let pieces = layer.extents.in_range(block * block_size..(block + 1) * block_size);
            patches.extend(pieces.map(|(offset, bytes)| (block, Self::Bytes(offset, bytes))));
        }
        patches
    }

    fn apply(self, layer: &mut Layer, block_size: u64) {
        match self {
            Self::Bytes(offset, bytes) => layer.extents.insert(offset, bytes),
            Self::Blocks(blocks) => {
                for (block, id) in blocks {
                    layer.set_block(block, id, block_size);
                }
            }
            Self::Cut(size) => layer.truncate(size, block_size),
        }
    }

    /// The encoding of its row.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Self::Bytes(offset, bytes) => drop(w.u8(1).u64(*offset).lp(bytes)),
            Self::Blocks(blocks) => {
                w.u8(2).list(blocks, |w, (block, id)| {
                    w.u64(*block).opt(*id, |w, id| {
                        w.raw(&id.0);
                    });
                });
            }
            Self::Cut(size) => drop(w.u8(3).u64(*size)),
        }
        w.into_vec()
    }

    /// Reads a row.
    pub fn decode(row: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(row);
        let kind = r.code("patch", |code| (1..=3).contains(&code).then_some(code))?;
        let patch = match kind {
            1 => {
                let offset = r.u64("offset")?;
                Self::Bytes(offset, Bytes::copy_from_slice(r.lp("patch", row.len())?))
            }
            2 => Self::Blocks(r.list("blocks", ROW_BLOCKS_MAX, 9, |r| {
                Ok((r.u64("block")?, r.opt("id", |r| Ok(BlockId(r.array("id")?)))?))
            })?),
            _ => Self::Cut(r.u64("size")?),
        };
        r.finish("patch")?;
        Ok(patch)
    }
}

/// Committed changes that are not in the stored content yet: small writes, and
/// whatever could not be merged with it.
#[derive(Clone, Debug, Default)]
pub struct Patches {
    /// What they make visible.
    pub layer: Layer,
    /// How many rows each block has.
    pub rows: BTreeMap<u64, usize>,
    /// Why they could not be merged, so that only an upload tries again.
    pub unmerged: Option<Arc<super::Error>>,
}

impl Patches {
    /// Adds one that the database holds, filed under `block`.
    pub fn add(&mut self, block: u64, patch: Patch, block_size: u64) {
        patch.apply(&mut self.layer, block_size);
        *self.rows.entry(block).or_default() += 1;
    }

    /// Forgets those of a block, which now lie in the block itself.
    pub fn forget(&mut self, block: u64, block_size: u64) {
        self.rows.remove(&block);
        self.layer.extents.remove(block * block_size..(block + 1) * block_size);
    }

    /// Forgets everything from `block` on.
    pub fn forget_from(&mut self, block: u64, block_size: u64) {
        if block == 0 {
            (self.layer, self.rows) = Default::default();
        }
        self.rows.split_off(&block);
        self.layer.extents.remove(block * block_size..u64::MAX);
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes they take in memory, about.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let pieces = self.layer.extents.count() + self.layer.staged.len();
        self.layer.extents.len() + pieces as u64 * PATCH_OVERHEAD
    }
}

/// What a file has on top of its stored content.
#[derive(Debug, Default)]
pub struct FileState {
    /// Changes since the last freeze.
    pub current: Layer,
    /// Changes that a running commit has taken.
    pub frozen: Option<Arc<Layer>>,
    /// Committed changes that are not in blocks. Only a commit changes them, when it
    /// has let go of the copy it works with.
    pub patches: Arc<Patches>,
    /// Blocks of `current` that some thread is sealing right now.
    pub sealing: HashSet<u64>,
    /// Bytes that `current` has to hold before it is worth looking for full blocks
    /// again: the last look found none.
    pub sealed_from: u64,
    /// Why the last commit could not save it, until that was reported or it is saved.
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
        self.frozen = Some(Arc::new(std::mem::take(&mut self.current)));
        self.sealed_from = 0;
        true
    }

    /// The layers, topmost first.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.current)
            .chain(self.frozen.as_deref())
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

    /// Whether the database says all that there is to say, and nothing is gained by keeping
    /// it: patches would have to be read again, all of them. There are never many, since a
    /// commit merges them then, but for those that cannot be merged.
    #[must_use]
    pub fn is_dispensable(&self) -> bool {
        let has_patches = !self.patches.is_empty() && self.patches.unmerged.is_none();
        self.is_clean() && self.failure.is_none() && !has_patches
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: u64 = 16;

    /// What `layer` makes of a file whose bytes are all 0xff, and whose sealed
    /// blocks hold their id's first byte.
    fn shown(layer: &Layer, len: u64) -> Vec<u8> {
        let block_of = |at| {
            let (block, range) = (at / BLOCK, at..at + 1);
            let recipe = Recipe::new([layer], block, range.clone());
            let stored = match recipe.bottom {
                super::super::layer::Bottom::Stored => vec![0xff; BLOCK as usize],
                super::super::layer::Bottom::Block(id) => vec![id.0[0]; BLOCK as usize],
                super::super::layer::Bottom::Hole => Vec::new(),
            };
            let mut out = [0];
            recipe.assemble(&range, &stored, block * BLOCK, &mut out);
            out[0]
        };
        (0..len).map(block_of).collect()
    }

    fn change(layer: &mut Layer, (kind, at, len, byte): (u8, u64, u64, u8)) {
        match kind {
            0 => layer.truncate(at, BLOCK),
            1 => layer.set_block(at / BLOCK, Some(BlockId([byte; 32])), BLOCK),
            2 => layer.set_block(at / BLOCK, None, BLOCK),
            _ => layer.extents.insert(at, vec![byte; len as usize].into()),
        }
    }

    proptest! {
        #[test]
        fn patches_of_layers_make_up_what_the_changes_did(
            changes in prop::collection::vec((0..5u8, 0..100u64, 1..40u64, 1..255u8), 1..20),
            commits in 1..5usize,
        ) {
            let (mut direct, mut stacked) = (Layer::default(), Layer::default());
            let mut patches = Patches::default();
            for changes in changes.chunks(changes.len().div_ceil(commits)) {
                let mut layer = Layer::default();
                for one in changes {
                    change(&mut layer, *one);
                    change(&mut direct, *one);
                }
                stacked.put(&layer, BLOCK);
                for (block, patch) in Patch::all_of(&layer, BLOCK) {
                    let patch = Patch::decode(&patch.encode()).unwrap();
                    patches.add(block, patch, BLOCK);
                }
            }
            let expected = shown(&direct, 160);
            prop_assert_eq!(shown(&stacked, 160), expected.clone());
            prop_assert_eq!(shown(&patches.layer, 160), expected);
        }
    }
}
