//! Copying between files: whole blocks are shared, the rest is copied.

use super::error::told;
use super::handle::Target;
use super::names::Call;
use super::{Engine, FILE_SIZE_MAX, Handle};
use crate::data::layer::{Bottom, Recipe};
use crate::data::manifest;
use crate::ids::BlockId;
use crate::log::op::Content;
use bytes::Bytes;
use std::ops::Range;
use vfs::{Access, Allocate, At, Context, ErrorKind, Kind, Result, SeekTo, rules};

/// Bytes that are copied, as opposed to shared, in one call at most: they are
/// all in memory before any of them takes effect.
const COPIED_LEN_MAX: u64 = 16 << 20;

/// Blocks that are copied or shared in one call at most.
const BLOCKS_MAX: u64 = 8192;

/// What was copied in one step, bytes.
enum Part {
    Hole(u64),
    Data(u64),
}

/// What a piece of the source becomes in the target.
enum Piece {
    /// A block as it is; `None` is a hole.
    Shared(u64, Option<BlockId>),
    /// Bytes at an offset of the target.
    Copied(u64, Bytes),
}

impl Engine {
    pub(super) async fn do_copy(
        &self,
        cx: Context<'_>,
        from: (At<'_, Handle>, u64),
        to: (At<'_, Handle>, u64),
        len: u64,
    ) -> Result<u64> {
        let mut done = 0;
        loop {
            let (from, to) = ((from.0, from.1 + done), (to.0, to.1 + done));
            match self.copy_part(cx, from, to, len - done).await? {
                Part::Hole(part) => done += part,
                Part::Data(part) => return Ok(done + part),
            }
        }
    }

    /// Copies the hole that the source begins with, or else data.
    async fn copy_part(
        &self,
        cx: Context<'_>,
        from: (At<'_, Handle>, u64),
        to: (At<'_, Handle>, u64),
        len: u64,
    ) -> Result<Part> {
        self.inner.check_writable()?;
        self.inner.make_room(len.min(COPIED_LEN_MAX), self.patience).await?;
        let (source, target) = (Target::of(from.0), Target::of(to.0));
        source.check(source.can_read)?;
        target.check(target.can_write)?;
        let mut range = {
            let mut call = Call::begin(&self.inner);
            let (from_attr, to_attr) = (call.attr(source.ino)?, call.attr(target.ino)?);
            for (attr, target, want) in
                [(&from_attr, source, Access::READ), (&to_attr, target, Access::WRITE)]
            {
                if !target.is_open || attr.kind != Kind::Regular {
                    rules::may_change_data(cx.cred, attr, want, cx.dac)?;
                }
            }
            let len = len.min(from_attr.size.saturating_sub(from.1));
            rules::range_end(to.1, len, FILE_SIZE_MAX)?;
            let overlaps = from.1 < to.1 + len && to.1 < from.1 + len;
            if source.ino == target.ino && overlaps && len > 0 {
                return Err(ErrorKind::Invalid.into());
            }
            from.1..from.1 + len
        };
        if range.is_empty() {
            return Ok(Part::Data(0));
        }
        // A hole is made in one go, however long it is.
        let data = match self.do_seek(cx, from.0, range.start, SeekTo::Data).await {
            Err(error) if error.kind() == ErrorKind::NoSuchOffset => range.end,
            other => other?.min(range.end),
        };
        if data - range.start >= self.inner.block_size {
            let (len, zero) = (data - range.start, Allocate::Zero { keep_size: false });
            self.do_allocate(cx, to.0, to.1, len, zero).await?;
            return Ok(Part::Hole(len));
        }
        range.end = range.end.min(range.start + BLOCKS_MAX * self.inner.block_size);
        let plan = {
            let mut call = Call::begin(&self.inner);
            self.inner.check_quota(&call.state, range.end - range.start)?;
            call.plan(source.ino, range.clone())?
        };
        let shift = |at: u64| at - range.start + to.1;
        let is_aligned = range.start % self.inner.block_size == to.1 % self.inner.block_size;
        let (mut pieces, mut copied, mut done) = (Vec::new(), 0, range.start);
        for piece in &plan.pieces {
            let (block, at, recipe) = piece;
            // Part of a block is never shared: what the source has behind that
            // part would show once the target grows.
            let is_whole = at.end - at.start == self.inner.block_size;
            let shared = match is_aligned && is_whole {
                true => self.shared(&plan.content, *block, at, recipe).await?,
                false => None,
            };
            match shared {
                Some(id) => pieces.push(Piece::Shared(shift(at.start) / self.inner.block_size, id)),
                None => {
                    let bytes = self.inner.piece(&plan.content, piece).await.map_err(told)?;
                    copied += bytes.len() as u64;
                    pieces.push(Piece::Copied(shift(at.start), bytes));
                }
            }
            done = at.end;
            if copied >= COPIED_LEN_MAX {
                break;
            }
        }
        let unsaved = self.put_pieces(cx, target.ino, pieces, to.1..shift(done))?;
        self.inner.seal_soon(target.ino, unsaved)?;
        Ok(Part::Data(done - range.start))
    }

    /// The block that stands for all of `range`, if there is just one.
    async fn shared(
        &self,
        content: &Content,
        block: u64,
        range: &Range<u64>,
        recipe: &Recipe,
    ) -> Result<Option<Option<BlockId>>> {
        if !recipe.overlays.is_empty()
            || (recipe.limit < range.end && recipe.bottom != Bottom::Hole)
        {
            return Ok(None);
        }
        Ok(match (recipe.bottom, content) {
            (Bottom::Block(id), _) => Some(Some(id)),
            (Bottom::Hole, _) | (Bottom::Stored, Content::Empty) => Some(None),
            (Bottom::Stored, Content::Inline(_)) => None,
            (Bottom::Stored, tree) => {
                Some(manifest::lookup(&self.inner.blocks, tree, block).await.map_err(told)?)
            }
        })
    }

    /// Puts the pieces of `range` in place; answers how much of the file is unsaved.
    fn put_pieces(
        &self,
        cx: Context<'_>,
        ino: u64,
        pieces: Vec<Piece>,
        range: Range<u64>,
    ) -> Result<u64> {
        let mut call = Call::begin(&self.inner);
        let before = call.attr(ino)?;
        self.inner.claim(&mut call.state, range.end - range.start)?;
        let unsaved = call.with_file(ino, |file, block_size| {
            for piece in pieces {
                match piece {
                    Piece::Copied(at, bytes) => file.current.extents.insert(at, bytes),
                    Piece::Shared(block, id) => {
                        let range = block * block_size..(block + 1) * block_size;
                        file.current.extents.remove(range);
                        file.current.staged.insert(block, id);
                    }
                }
            }
            file.current.extents.len()
        })?;
        call.touch_data(cx, &before, before.size.max(range.end))?;
        Ok(unsaved)
    }
}
