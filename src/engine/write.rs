//! Writing: into memory at once, into blocks when a file has gathered enough.

use super::error::told;
use super::handle::Target;
use super::names::Call;
use super::{Engine, FILE_SIZE_MAX, Handle, Inner, Patience};
use crate::data::blocks::BlockType;
use crate::data::file::FileState;
use crate::data::manifest;
use bytes::Bytes;
use std::sync::atomic::Ordering;
use vfs::{
    Access, Allocate, At, Attr, Context, ErrorKind, Result, Segments, Stability, Wcc, WriteAt,
    Written, rules,
};

/// Unsaved bytes of one file at which its full blocks are sealed.
const SEAL_AHEAD_LEN: u64 = 2 << 20;
/// At so many its writers help, because it grows faster than the one who seals.
const HELP_SEALING_LEN: u64 = 8 << 20;
/// Blocks sealed at a time without looking again.
const SEAL_AHEAD_BLOCKS: usize = 4;

impl Call<'_> {
    /// Changes a file's unsaved data and keeps count of it.
    pub(super) fn with_file<T>(
        &mut self,
        ino: u64,
        change: impl FnOnce(&mut FileState, u64) -> T,
    ) -> Result<T> {
        let block_size = self.inner.block_size;
        let file = self.inner.file_of(&mut self.state, ino).map_err(told)?;
        let file = file.ok_or(ErrorKind::Stale)?;
        let before = file.current.extents.len();
        let value = change(file, block_size);
        let after = file.current.extents.len();
        self.state.dirty_bytes = self.state.dirty_bytes + after - before;
        Ok(value)
    }

    /// Records that a file's data changed and has this length now.
    pub(super) fn touch_data(&mut self, cx: Context<'_>, before: &Attr, size: u64) -> Result<()> {
        let time = rules::op_time(self.now, [before.ctime]);
        let mode = rules::mode_after_write(cx.cred, before, cx.dac);
        let ino = before.ino.get();
        self.with_file(ino, |file, _| {
            // A new length alone has to reach the log as well.
            if file.current.is_empty() {
                file.current.limit = before.size.min(size);
            }
        })?;
        let slot = self.state.change(ino).map_err(told)?.ok_or(ErrorKind::Stale)?;
        // What has no name any more is nobody else's business.
        let drops_bits = slot.inode.mode != mode && !slot.is_nameless();
        slot.inode.size = size;
        slot.inode.mtime = time;
        slot.inode.ctime = time;
        slot.inode.mode = mode;
        let mut ops = Vec::new();
        if drops_bits {
            ops.push(crate::log::op::Op::SetAttr {
                ino,
                mode: Some(mode),
                uid: None,
                gid: None,
                atime: None,
                mtime: None,
                ctime: time,
            });
        }
        let now = self.now;
        self.state.record(ops, now);
        self.drop_capability(ino)
    }

    /// Takes a file's capabilities away, if it has any.
    pub(super) fn drop_capability(&mut self, ino: u64) -> Result<()> {
        let slot = self.state.slot(ino).map_err(told)?.ok_or(ErrorKind::Stale)?;
        if !slot.inode.xattrs.contains_key(rules::CAPABILITY) {
            return Ok(());
        }
        let (name, ctime) = (Bytes::from_static(rules::CAPABILITY), slot.inode.ctime);
        self.apply(crate::log::op::Op::SetXattr { ino, name, value: None, ctime })
    }
}

impl Engine {
    pub(super) async fn do_write(
        &self,
        cx: Context<'_>,
        file: At<'_, Handle>,
        at: WriteAt,
        data: Segments,
        stability: Stability,
    ) -> Result<Written> {
        self.inner.check_writable()?;
        self.inner.make_room(data.len() as u64, self.patience).await?;
        let target = Target::of(file);
        target.check(target.can_write)?;
        let count = u32::try_from(data.len()).map_err(|_| ErrorKind::Invalid)?;
        let (wcc, unsaved) = {
            let mut call = Call::begin(&self.inner);
            let before = call.attr(target.ino)?;
            if !target.is_open {
                rules::may_change_data(cx.cred, &before, Access::WRITE, cx.dac)?;
            }
            let offset = match at {
                WriteAt::Offset(offset) | WriteAt::Late(offset) => offset,
                WriteAt::End => before.size,
            };
            let end = rules::range_end(offset, count.into(), FILE_SIZE_MAX)?;
            if count > 0 {
                self.inner.claim(&mut call.state, count.into())?;
                let mut place = offset;
                let unsaved = call.with_file(target.ino, |file, _| {
                    for slice in data.as_slices() {
                        file.current.extents.insert(place, slice.clone());
                        place += slice.len() as u64;
                    }
                    worth_sealing(file)
                })?;
                call.touch_data(cx, &before, before.size.max(end))?;
                if let WriteAt::Late(_) = at
                    && let Some(slot) = call.state.change(target.ino).map_err(told)?
                {
                    slot.inode.mtime = before.mtime;
                }
                (Wcc::new(&before, call.attr(target.ino)?), unsaved)
            } else {
                (Wcc::new(&before, before.clone()), 0)
            }
        };
        self.inner.seal_soon(target.ino, unsaved)?;
        self.make_stable(stability, Some(target.ino)).await?;
        Ok(Written { count, wcc, stability, verifier: self.inner.verifier })
    }

    pub(super) async fn do_allocate(
        &self,
        cx: Context<'_>,
        file: At<'_, Handle>,
        offset: u64,
        len: u64,
        what: Allocate,
    ) -> Result<Wcc> {
        self.inner.check_writable()?;
        // As Linux does: a range of nothing is refused whatever it is a range of.
        if len == 0 {
            return Err(ErrorKind::Invalid.into());
        }
        let target = Target::of(file);
        target.check(target.can_write)?;
        let end = rules::range_end(offset, len, FILE_SIZE_MAX)?;
        // Zeros are written where a block is not covered: at either end.
        self.inner.make_room(2 * self.inner.block_size, self.patience).await?;
        loop {
            let before = {
                let mut call = Call::begin(&self.inner);
                let before = call.attr(target.ino)?;
                if !target.is_open || before.kind != vfs::Kind::Regular {
                    rules::may_change_data(cx.cred, &before, Access::WRITE, cx.dac)?;
                }
                before
            };
            let (keep_size, zeroes) = match what {
                Allocate::Reserve { keep_size } => (keep_size, false),
                Allocate::PunchHole => (true, true),
                Allocate::Zero { keep_size } => (keep_size, true),
            };
            let zero_end = end.min(before.size);
            // What is stored in the range is found without the lock; if a commit
            // changed it meanwhile, it is looked up again.
            let content = self.inner.content_of(target.ino)?;
            let stored = if zeroes && offset < zero_end {
                let block_size = self.inner.block_size;
                let blocks = offset / block_size..zero_end.div_ceil(block_size);
                manifest::blocks_in(&self.inner.blocks, &content, blocks).await.map_err(told)?
            } else {
                Vec::new()
            };
            let mut call = Call::begin(&self.inner);
            let now = call.attr(target.ino)?;
            let slot = call.state.slot(target.ino).map_err(told)?.ok_or(ErrorKind::Stale)?;
            if slot.inode.content != content || now.size < zero_end {
                continue;
            }
            if zeroes && offset < zero_end {
                let stored: Vec<u64> = stored.into_iter().map(|(block, _)| block).collect();
                let has_inline = matches!(content, crate::log::op::Content::Inline(_));
                call.with_file(target.ino, |file, block_size| {
                    file.zero(offset..zero_end, block_size, &stored, has_inline);
                })?;
            } else {
                self.inner.check_quota(&call.state, if keep_size { 0 } else { len })?;
            }
            let size = if keep_size { now.size } else { now.size.max(end) };
            call.touch_data(cx, &now, size)?;
            return Ok(Wcc::new(&now, call.attr(target.ino)?));
        }
    }

    /// Makes everything so far at least as safe as asked; if it is about one file,
    /// that others cannot be uploaded does not matter.
    pub(super) async fn make_stable(&self, stability: Stability, file: Option<u64>) -> Result<()> {
        let inner = &self.inner;
        match stability {
            Stability::Buffered => Ok(()),
            Stability::Journaled => {
                if inner.state.lock().dirty_bytes > SEAL_AHEAD_LEN {
                    // It takes long; whoever called may have others to serve.
                    tokio::task::yield_now().await;
                }
                inner.commit().await
            }
            Stability::Uploaded => {
                let wait = self.wait();
                loop {
                    let told = inner.sync_to_store(|ino| file.is_none_or(|file| file == ino)).await;
                    if !wait.tries_again(told.as_ref().err()).await {
                        return told;
                    }
                }
            }
        }
    }
}

/// Unsaved bytes of a file in which full blocks may be found; 0 if it was looked for
/// them not long ago.
pub(super) fn worth_sealing(file: &FileState) -> u64 {
    let len = file.current.extents.len();
    if len < file.sealed_from { 0 } else { len }
}

/// A full block and the pieces it is in.
type Picked = (u64, Vec<(u64, Bytes)>);

impl Inner {
    /// Waits until `len` more bytes may be held in memory and on the local disk,
    /// and it is known exactly what is in use if that matters.
    pub(super) async fn make_room(&self, len: u64, patience: Patience) -> Result<()> {
        let (unsaved, is_tight) = {
            let state = self.state.lock();
            (state.dirty_bytes, self.is_beyond_quota(&state, len) && !state.is_clean())
        };
        if is_tight || unsaved + len > self.settings.unsaved_max() {
            self.commit().await?;
        }
        self.wait_for_store(patience).await
    }

    /// The stored content of a file.
    pub(super) fn content_of(&self, ino: u64) -> Result<crate::log::op::Content> {
        let mut state = self.state.lock();
        let slot = state.slot(ino).map_err(told)?.ok_or(ErrorKind::Stale)?;
        Ok(slot.inode.content.clone())
    }

    /// Has full blocks of a file that has gathered many sealed, so that a commit has
    /// little left to do.
    pub(super) fn seal_soon(&self, ino: u64, unsaved: u64) -> Result<()> {
        let is_handed_over = || unsaved < HELP_SEALING_LEN && self.background.seal(ino);
        if unsaved < SEAL_AHEAD_LEN || is_handed_over() {
            return Ok(());
        }
        self.seal_ahead(ino)
    }

    /// Seals full blocks of a file. What fails here stays unsaved and fails in a commit.
    pub(super) fn seal_ahead(&self, ino: u64) -> Result<()> {
        loop {
            let picked = self.pick_full_blocks(ino)?;
            if picked.is_empty() {
                return Ok(());
            }
            let mut has_failed = false;
            for (block, pieces) in picked {
                let sealed = self.seal_pieces(&pieces).ok();
                has_failed |= sealed.is_none();
                let mut state = self.state.lock();
                let Some(file) = self.file_of(&mut state, ino).map_err(told)? else {
                    return Ok(());
                };
                file.sealing.remove(&block);
                let range = block * self.block_size..(block + 1) * self.block_size;
                let is_same = |a: &(u64, Bytes), b: &(u64, Bytes)| {
                    a.0 == b.0 && a.1.len() == b.1.len() && a.1.as_ptr() == b.1.as_ptr()
                };
                let now: Vec<_> = file.current.extents.in_range(range.clone()).collect();
                let unchanged = now.len() == pieces.len()
                    && now.iter().zip(&pieces).all(|(a, b)| is_same(a, b));
                if let (Some(id), true) = (sealed, unchanged) {
                    file.current.extents.remove(range);
                    file.current.staged.insert(block, id);
                    state.dirty_bytes = state.dirty_bytes.saturating_sub(self.block_size);
                }
            }
            if has_failed {
                return Ok(());
            }
        }
    }

    fn pick_full_blocks(&self, ino: u64) -> Result<Vec<Picked>> {
        let mut state = self.state.lock();
        let Some(file) = self.file_of(&mut state, ino).map_err(told)? else {
            return Ok(Vec::new());
        };
        if file.current.extents.len() < SEAL_AHEAD_LEN / 2 || worth_sealing(file) == 0 {
            return Ok(Vec::new());
        }
        let mut picked = Vec::new();
        for block in file.current.extents.blocks(self.block_size) {
            let range = block * self.block_size..(block + 1) * self.block_size;
            if file.sealing.contains(&block) || !file.current.extents.covers(range.clone()) {
                continue;
            }
            picked.push((block, file.current.extents.in_range(range).collect()));
            if picked.len() == SEAL_AHEAD_BLOCKS {
                break;
            }
        }
        if picked.is_empty() {
            // All there is are pieces: looking again at each write would cost more the
            // more of them there are.
            file.sealed_from = file.current.extents.len() + SEAL_AHEAD_LEN / 2;
        }
        file.sealing.extend(picked.iter().map(|(block, _): &Picked| *block));
        Ok(picked)
    }

    fn seal_pieces(&self, pieces: &[(u64, Bytes)]) -> Result<Option<crate::ids::BlockId>> {
        let joined;
        let plain = match pieces {
            [(_, only)] => &only[..],
            _ => {
                let slices: Vec<&[u8]> = pieces.iter().map(|(_, bytes)| &bytes[..]).collect();
                joined = slices.concat();
                &joined[..]
            }
        };
        self.seal_block(plain).map_err(told)
    }

    /// Keeps the plaintext of a block; nothing but zeros is a hole.
    pub(super) fn seal_block(
        &self,
        plain: &[u8],
    ) -> crate::data::Result<Option<crate::ids::BlockId>> {
        if plain.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        self.blocks.add(BlockType::Data, plain).map(Some)
    }

    /// Whether a commit has covered every change up to `seq`.
    pub(super) fn is_committed(&self, seq: u64) -> bool {
        self.committed.load(Ordering::Acquire) >= seq
    }
}
