//! Reading: what is unsaved from memory, the rest from blocks.

use super::error::told;
use super::handle::Target;
use super::names::Call;
use super::{Engine, FILE_SIZE_MAX, Handle, Inner};
use crate::data::blocks::BlockType;
use crate::data::layer::{Bottom, Recipe};
use crate::data::manifest;
use crate::log::op::Content;
use bytes::Bytes;
use std::ops::Range;
use std::sync::atomic::Ordering;
use vfs::{Access, At, Context, ErrorKind, ReadData, Result, SeekTo, Segments, rules};

/// Read-ahead window, bytes.
const WINDOW_LEN: u64 = 1 << 20;

/// What a read found out under the lock: enough to do the rest without it.
pub(super) struct ReadPlan {
    pub(super) content: Content,
    pub(super) pieces: Vec<(u64, Range<u64>, Recipe)>,
}

impl Call<'_> {
    /// Plans to read `range`, which lies within the file.
    pub(super) fn plan(&mut self, ino: u64, range: Range<u64>) -> Result<ReadPlan> {
        let block_size = self.inner.block_size;
        let slot = self.state.slot(ino).map_err(told)?.ok_or(ErrorKind::Stale)?;
        let content = slot.inode.content.clone();
        let is_plain = slot.file.is_none() && !slot.has_patches;
        let file = match is_plain {
            true => None,
            false => self.inner.file_of(&mut self.state, ino).map_err(told)?,
        };
        let mut pieces = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let block = at / block_size;
            let end = ((block + 1) * block_size).min(range.end);
            let recipe = match &file {
                Some(file) => file.recipe(block, at..end),
                None => Recipe { limit: u64::MAX, ..Recipe::default() },
            };
            pieces.push((block, at..end, recipe));
            at = end;
        }
        Ok(ReadPlan { content, pieces })
    }
}

impl Inner {
    /// The bytes of one piece.
    pub(super) async fn piece(
        &self,
        content: &Content,
        (block, range, recipe): &(u64, Range<u64>, Recipe),
    ) -> crate::data::Result<Bytes> {
        let len = (range.end - range.start) as usize;
        let block_start = block * self.block_size;
        let (bottom, bottom_start) = if recipe.hides_bottom(range) {
            (Bytes::new(), block_start)
        } else {
            match (recipe.bottom, content) {
                (Bottom::Hole, _) | (Bottom::Stored, Content::Empty) => (Bytes::new(), block_start),
                (Bottom::Stored, Content::Inline(bytes)) => (bytes.clone(), 0),
                (Bottom::Block(id), _) => {
                    (self.blocks.get(BlockType::Data, id).await?, block_start)
                }
                (Bottom::Stored, tree) => {
                    match manifest::lookup(&self.blocks, tree, *block).await? {
                        Some(id) => (self.blocks.get(BlockType::Data, id).await?, block_start),
                        None => (Bytes::new(), block_start),
                    }
                }
            }
        };
        let from = (range.start - bottom_start.min(range.start)) as usize;
        if recipe.is_plain(range) && bottom.len() >= from + len {
            return Ok(bottom.slice(from..from + len));
        }
        let mut out = vec![0; len];
        recipe.assemble(range, &bottom, bottom_start, &mut out);
        Ok(out.into())
    }

    /// Asks for blocks ahead of a reader that goes front to back, if fetching
    /// them takes long.
    fn read_ahead(&self, handle: &Handle, content: &Content, range: &Range<u64>, size: u64) {
        let is_sequential = handle.read_end.swap(range.end, Ordering::Relaxed) == range.start;
        let windows = u64::from(self.settings.prefetch_count);
        if !is_sequential || windows == 0 || self.store.capabilities().is_local {
            return;
        }
        let until = (range.end + windows * WINDOW_LEN).min(size);
        let from = handle.fetched_to.load(Ordering::Relaxed).max(range.end);
        if until < from + WINDOW_LEN && until < size || from >= until {
            return;
        }
        let (Some(inner), Ok(runtime)) =
            (self.itself.upgrade(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        handle.fetched_to.store(until, Ordering::Relaxed);
        let content = content.clone();
        runtime.spawn(async move {
            let blocks = from / inner.block_size..until.div_ceil(inner.block_size);
            // What fails ahead of time fails again, and is told, in time.
            let Ok(found) = manifest::blocks_in(&inner.blocks, &content, blocks).await else {
                return;
            };
            for (_, id) in found {
                if inner.blocks.get(BlockType::Data, id).await.is_err() {
                    return;
                }
            }
        });
    }
}

impl Engine {
    pub(super) async fn do_read(
        &self,
        cx: Context<'_>,
        file: At<'_, Handle>,
        offset: u64,
        len: u32,
    ) -> Result<ReadData> {
        let target = Target::of(file);
        target.check(target.can_read)?;
        let (plan, range, size) = {
            let mut call = Call::begin(&self.inner);
            let attr = call.attr(target.ino)?;
            if target.is_open && attr.kind != vfs::Kind::Regular {
                return Err(ErrorKind::IsDirectory.into());
            }
            if !target.is_open {
                rules::may_change_data(cx.cred, &attr, Access::READ, cx.dac)?;
            }
            let end = rules::range_end(offset, len.into(), FILE_SIZE_MAX)
                .unwrap_or(FILE_SIZE_MAX)
                .min(attr.size);
            let range = offset.min(end)..end;
            let plan = call.plan(target.ino, range.clone())?;
            call.touch_atime(&attr)?;
            (plan, range, attr.size)
        };
        if let At::Open(handle) = file {
            self.inner.read_ahead(handle, &plan.content, &range, size);
        }
        let mut data = Segments::default();
        for piece in &plan.pieces {
            data.push(self.inner.piece(&plan.content, piece).await.map_err(told)?);
        }
        Ok(ReadData { data, eof: range.end >= size })
    }

    pub(super) async fn do_seek(
        &self,
        cx: Context<'_>,
        file: At<'_, Handle>,
        offset: u64,
        to: SeekTo,
    ) -> Result<u64> {
        let target = Target::of(file);
        let mut at = offset;
        loop {
            let (plan, touched, size) = {
                let mut call = Call::begin(&self.inner);
                let attr = call.attr(target.ino)?;
                if attr.kind != vfs::Kind::Regular || !target.is_open {
                    rules::may_change_data(cx.cred, &attr, Access::READ, cx.dac)?;
                }
                if offset >= attr.size {
                    return Err(ErrorKind::NoSuchOffset.into());
                }
                if at >= attr.size {
                    return match to {
                        SeekTo::Hole => Ok(attr.size),
                        SeekTo::Data => Err(ErrorKind::NoSuchOffset.into()),
                    };
                }
                let end = ((at / self.inner.block_size + 1) * self.inner.block_size).min(attr.size);
                let plan = call.plan(target.ino, at..end)?;
                let slot = call.state.slot(target.ino).map_err(told)?.ok_or(ErrorKind::Stale)?;
                let block = at / self.inner.block_size;
                let file = slot.file.as_ref();
                let touched = file.and_then(|f| f.next_touched(block + 1, self.inner.block_size));
                (plan, touched, attr.size)
            };
            let mut next = None;
            let Some((block, range, recipe)) = plan.pieces.first() else { return Ok(at) };
            let is_data = !recipe.overlays.is_empty()
                || match (recipe.bottom, &plan.content) {
                    (Bottom::Hole, _) => {
                        // Behind a cut nothing shows of what is below.
                        let is_cut = recipe.limit <= range.start;
                        next = is_cut.then(|| touched.unwrap_or(u64::MAX));
                        false
                    }
                    (Bottom::Stored, Content::Empty) => {
                        next = Some(touched.unwrap_or(u64::MAX));
                        false
                    }
                    (Bottom::Block(_), _) => true,
                    (Bottom::Stored, Content::Inline(_)) => *block == 0,
                    (Bottom::Stored, tree) => {
                        let found =
                            manifest::next_block(&self.inner.blocks, tree, *block..u64::MAX)
                                .await
                                .map_err(told)?;
                        // Nothing but a hole up to there.
                        next = Some(found.unwrap_or(u64::MAX).min(touched.unwrap_or(u64::MAX)));
                        found == Some(*block)
                    }
                };
            if is_data == (to == SeekTo::Data) {
                return Ok(at);
            }
            at = match next.filter(|_| !is_data) {
                Some(next) => next.saturating_mul(self.inner.block_size).clamp(range.end, size),
                None => range.end.min(size),
            };
        }
    }
}
