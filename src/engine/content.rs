//! What a commit makes of a file's unsaved data: new blocks, patches, or bytes
//! in the inode.

use super::Inner;
use crate::data::file::{BLOCK_PATCHES_MAX, FileState, Patch, Patches};
use crate::data::layer::{Layer, Recipe};
use crate::data::manifest::{self, Changes};
use crate::data::{Error, Result};
use crate::log::op::{Content, INLINE_LEN_MAX};
use crate::meta::db::{self, Table};
use crate::meta::row::Inode;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Rows of patches that are left alone, however little they come to.
const PATCHES_KEPT_MIN: usize = 64;

/// Blocks of a file that a commit seals side by side.
const SEALED_AT_ONCE: usize = 16;

/// What a commit has to record of one file.
#[derive(Debug, Default)]
pub(super) struct Saved {
    /// The stored content from now on.
    pub(super) content: Content,
    /// Bytes it takes.
    pub(super) used: u64,
    /// Blocks whose patches are obsolete.
    pub(super) unpatched: Vec<u64>,
    /// The first block from which on all patches are obsolete.
    pub(super) unpatched_from: Option<u64>,
    /// New patches, and the blocks they are filed under.
    pub(super) patches: Vec<(u64, Patch)>,
    /// Whether any patches are left, new ones included.
    pub(super) has_patches: bool,
    /// What those take in memory, unless they cannot be merged.
    pub(super) patches_weight: u64,
    /// Why the patches hold everything that is new, whatever they should have been
    /// merged into.
    pub(super) unmerged: Option<Arc<Error>>,
}

/// A file with the patches that the database has of it.
pub(super) fn load_patches(
    rows: Vec<(i64, u64, Vec<u8>)>,
    block_size: u64,
) -> db::Result<FileState> {
    let mut patches = Patches::default();
    for (_, block, row) in rows {
        let patch = Patch::decode(&row)
            .map_err(|source| db::Error::Row { table: Table::Patch.name(), source })?;
        patches.add(block, patch, block_size);
    }
    Ok(FileState { patches: Arc::new(patches), ..FileState::default() })
}

/// A file as a commit sees it: no lock, nothing changes.
pub(super) struct Work<'a> {
    pub(super) inode: &'a Inode,
    pub(super) layer: &'a Layer,
    pub(super) patches: &'a Layer,
    pub(super) patch_rows: &'a BTreeMap<u64, usize>,
    /// Whether patches have to go, because the content will be uploaded.
    pub(super) merge_all: bool,
    /// Why merging need not be tried.
    pub(super) unmerged: Option<Arc<Error>>,
}

impl Work<'_> {
    fn size(&self) -> u64 {
        self.inode.size
    }

    fn range_of(&self, block: u64, block_size: u64) -> Range<u64> {
        let start = block * block_size;
        start.min(self.size())..(start + block_size).min(self.size())
    }

    /// Blocks that the layer or the patches touch.
    fn touched(&self, block_size: u64) -> Vec<u64> {
        let mut blocks = self.layer.extents.blocks(block_size);
        if self.merge_all {
            blocks.extend(self.patch_rows.keys());
        }
        if matches!(self.inode.content, Content::Inline(_)) {
            // It becomes a block of its own.
            blocks.push(0);
        }
        let limit = self.layer.limit;
        if limit < self.size().max(u64::MAX - 1) && !limit.is_multiple_of(block_size) {
            // Cut in the middle: what was behind must not come back.
            blocks.push(limit / block_size);
        }
        blocks.sort_unstable();
        blocks.dedup();
        blocks
    }

    /// Whether what is new in a block is so little that it is kept as patches.
    fn stays_patch(&self, block: u64, range: &Range<u64>, block_size: u64) -> bool {
        let has_cut = self.layer.limit / block_size == block;
        let is_inline = matches!(self.inode.content, Content::Inline(_)) && block == 0;
        if self.merge_all || has_cut || is_inline || self.layer.staged.contains_key(&block) {
            return false;
        }
        let rows = self.patch_rows.get(&block).copied().unwrap_or(0);
        let patched = self.patches.extents.len_in(range.clone());
        let new = self.layer.extents.len_in(range.clone());
        let pieces = self.layer.extents.in_range(range.clone()).count();
        rows + pieces <= BLOCK_PATCHES_MAX && (new + patched) * 2 < range.end - range.start
    }
}

impl Inner {
    /// Turns the unsaved data of a file into what a transaction can record. What
    /// cannot be merged with the stored content is recorded beside it.
    pub(super) async fn save_file(&self, work: &Work<'_>) -> Result<Saved> {
        if let Some(reason) = &work.unmerged {
            return self.keep(work, reason.clone());
        }
        let merged = if work.patches.changes_blocks() {
            // Such patches go together or not at all.
            let mut layer = work.patches.clone();
            layer.put(work.layer, self.block_size);
            let (layer, patches, patch_rows) = (&layer, &Layer::default(), &BTreeMap::new());
            let whole = Work { layer, patches, patch_rows, unmerged: None, ..*work };
            let saved = self.merge(&whole).await;
            saved.map(|saved| Saved { unpatched_from: Some(0), ..saved })
        } else {
            self.merge(work).await
        };
        match merged {
            Err(error) if error.is_about_stored() => self.keep(work, Arc::new(error)),
            other => other,
        }
    }

    /// Keeps what is new as patches, which takes nothing of what is stored.
    fn keep(&self, work: &Work<'_>, reason: Arc<Error>) -> Result<Saved> {
        let block_size = self.block_size;
        let (mut new, mut all) = (work.layer.clone(), work.patches.clone());
        all.put(work.layer, block_size);
        for block in work.layer.extents.blocks(block_size) {
            let range = block * block_size..(block + 1) * block_size;
            if range.end <= work.size() && all.extents.covers(range.clone()) {
                let mut bytes = Vec::with_capacity(block_size as usize);
                all.extents.in_range(range).for_each(|(_, piece)| bytes.extend_from_slice(&piece));
                let id = self.seal_block(&bytes)?;
                new.set_block(block, id, block_size);
                all.set_block(block, id, block_size);
            }
        }
        let (rows, whole) = (work.patch_rows.values().sum(), Patch::all_of(&all, block_size));
        // Most of what many rows say is overwritten by later ones.
        let (patches, unpatched_from) = match PATCHES_KEPT_MIN.max(2 * whole.len()) < rows {
            true => (whole, Some(0)),
            false => (Patch::all_of(&new, block_size), None),
        };
        let (content, used) = (work.inode.content.clone(), work.inode.used);
        let (unpatched, has_patches, unmerged) = (Vec::new(), true, Some(reason));
        let saved = Saved { content, used, unpatched, unpatched_from, patches, ..Saved::default() };
        Ok(Saved { has_patches, unmerged, ..saved })
    }

    async fn merge(&self, work: &Work<'_>) -> Result<Saved> {
        if work.size() <= INLINE_LEN_MAX as u64 {
            return self.save_inline(work).await;
        }
        let block_size = self.block_size;
        let mut saved = Saved::default();
        let mut changes: Changes = work.layer.staged.clone();
        let mut merged = Vec::new();
        let first_gone = match work.layer.limit {
            u64::MAX => u64::MAX,
            limit => limit.div_ceil(block_size),
        };
        if first_gone != u64::MAX {
            saved.unpatched_from = Some(first_gone);
        }
        for block in work.touched(block_size) {
            let range = work.range_of(block, block_size);
            if range.is_empty() {
                continue;
            }
            if work.stays_patch(block, &range, block_size) {
                // Copied, because patches stay and what was written may lie in something
                // much larger.
                let new = work.layer.extents.in_range(range).map(|(offset, bytes)| {
                    (block, Patch::Bytes(offset, Bytes::copy_from_slice(&bytes)))
                });
                saved.patches.extend(new);
                continue;
            }
            merged.push((block, self.merged(work, block, range).await?));
            if merged.len() == SEALED_AT_ONCE {
                self.seal_into(&mut changes, &mut merged)?;
            }
        }
        self.seal_into(&mut changes, &mut merged)?;
        saved.unpatched = changes.keys().copied().collect();
        let old_blocks = match work.inode.content {
            Content::Tree { .. } => work.inode.used / block_size,
            _ => 0,
        };
        let (content, used_blocks) = if changes.is_empty() && first_gone == u64::MAX {
            (work.inode.content.clone(), old_blocks)
        } else {
            let old = (&work.inode.content, old_blocks);
            manifest::update(&self.blocks, old, first_gone, &changes).await?
        };
        saved.used = used_blocks * block_size;
        saved.content = content;
        let is_left = |block: &u64| !changes.contains_key(block) && *block < first_gone;
        saved.has_patches = !saved.patches.is_empty() || work.patch_rows.keys().any(is_left);
        Ok(saved)
    }

    fn seal_into(&self, changes: &mut Changes, merged: &mut Vec<(u64, Bytes)>) -> Result<()> {
        let sealed = self.env.map(merged, |(_, bytes)| self.seal_block(bytes));
        for ((block, _), id) in merged.drain(..).zip(sealed) {
            changes.insert(block, id?);
        }
        Ok(())
    }

    async fn save_inline(&self, work: &Work<'_>) -> Result<Saved> {
        let mut bytes = self.merged(work, 0, 0..work.size()).await?.to_vec();
        let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(len);
        let content = if bytes.is_empty() { Content::Empty } else { Content::Inline(bytes.into()) };
        let used = if content == Content::Empty { 0 } else { work.size() };
        Ok(Saved { content, used, unpatched_from: Some(0), ..Saved::default() })
    }

    /// The bytes of `range` in one block, all layers taken together.
    async fn merged(&self, work: &Work<'_>, block: u64, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let recipe = Recipe::new([work.layer, work.patches], block, range.clone());
        self.piece(&work.inode.content, &(block, range, recipe)).await
    }
}
