//! Commits: everything that changed up to a moment, on this machine's disk.
//!
//! In this order: take what changed; turn unsaved data into blocks and patches;
//! make the packs durable; write one transaction that holds the state, the
//! places of blocks and the ops to send. A crash anywhere leaves the state of
//! the last transaction. A commit that fails keeps what it took and is taken up
//! by the next, so nothing is lost while the process lives.

use super::content::{Saved, Work};
use super::error::told;
use super::{Error, Inner, Numbers, Result};
use crate::data;
use crate::data::blocks::CommitPart;
use crate::data::file::PATCH_OVERHEAD;
use crate::ids::Hlc;
use crate::log::op::{Content, Group, GroupRows, Op};
use crate::meta::db::{self, Key, Table, Txn};
use crate::meta::singles::{Position, Single};
use crate::meta::state::{Frozen, FrozenInode, Usage, encode_slot};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Encoded ops of one group that a commit adds, bytes; a group is never split
/// over segments.
const GROUP_LEN_MAX: usize = 64 << 10;
/// Inodes and entries that may wait for a commit.
const CHANGES_MAX: usize = 1 << 16;
/// Groups a commit may add: enough for every file to have one of its own.
const TICKS: u64 = 1 << 14;

/// What only the running commit touches.
#[derive(Debug, Default)]
pub(crate) struct Committer {
    running: Option<Running>,
    patched: Patched,
    /// The last row of the outbox.
    pub(super) last_outbox: i64,
    /// Files that the last commit should have merged all patches of and could not.
    unmerged: Vec<Error>,
}

/// Files of which the database holds patches, and what those take in memory.
#[derive(Debug, Default)]
struct Patched {
    files: BTreeMap<u64, u64>,
    weight: u64,
}

impl Patched {
    fn set(&mut self, ino: u64, weight: Option<u64>) {
        let before = match weight {
            Some(weight) => self.files.insert(ino, weight),
            None => self.files.remove(&ino),
        };
        self.weight = self.weight + weight.unwrap_or(0) - before.unwrap_or(0);
    }
}

/// A commit that is not on disk yet.
#[derive(Debug)]
struct Running {
    frozen: Frozen,
    merge_all: bool,
    saved: HashMap<u64, Saved>,
    part: CommitPart,
}

impl Committer {
    /// Starts where the database says the last run ended.
    pub(super) fn load(db: &db::Reader) -> db::Result<Self> {
        let last = db.last_key(Table::Outbox)?;
        let mut patched = Patched::default();
        for (ino, count, len) in db.patched_inodes()? {
            patched.set(ino, Some(len + count * PATCH_OVERHEAD));
        }
        Ok(Self { running: None, patched, last_outbox: last, unmerged: Vec::new() })
    }
}

impl Inner {
    /// Commits everything with all patches merged.
    pub(super) async fn commit_merged(&self) -> Result<()> {
        let mut committer = self.committer.lock().await;
        self.commit_for_upload(&mut committer).await.map(drop)
    }

    /// Waits for a commit if so much has changed that it should not become more.
    pub(super) async fn keep_up(&self) -> vfs::Result<()> {
        let changes = self.state.lock().changes();
        if changes > CHANGES_MAX { self.commit().await } else { Ok(()) }
    }

    /// Makes every change so far survive a crash of this machine.
    pub(super) async fn commit(&self) -> vfs::Result<()> {
        let wanted = self.state.lock().seq;
        if self.is_committed(wanted) {
            return Ok(());
        }
        let mut committer = self.committer.lock().await;
        self.finish(&mut committer).await.map_err(told)?;
        if !self.is_committed(wanted) {
            self.run(&mut committer, false).await.map_err(told)?;
        }
        Ok(())
    }

    /// Commits everything, with all patches merged into blocks and the open pack
    /// closed, so that it can be uploaded. Answers of which files the changes could
    /// not be merged, so that the log must not tell of them yet.
    pub(super) async fn commit_for_upload(&self, committer: &mut Committer) -> Result<Vec<Error>> {
        self.finish(committer).await?;
        self.run(committer, true).await?;
        Ok(std::mem::take(&mut committer.unmerged))
    }

    /// Takes up a commit that failed.
    async fn finish(&self, committer: &mut Committer) -> Result<()> {
        if committer.running.is_some() { self.work_off(committer).await } else { Ok(()) }
    }

    async fn run(&self, committer: &mut Committer, merge_all: bool) -> Result<()> {
        let merge_all = merge_all || committer.patched.weight > self.settings.patches_max();
        for ino in committer.patched.files.keys().filter(|_| merge_all) {
            let mut state = self.state.lock();
            if self.file_of(&mut state, *ino)?.is_some() {
                state.mark_dirty(*ino);
            }
        }
        let frozen = {
            let mut state = self.state.lock();
            state.record_reads(self.env.now())?;
            state.freeze(TICKS)
        };
        let (saved, part) = (HashMap::new(), CommitPart::default());
        committer.running = Some(Running { frozen, merge_all, saved, part });
        self.work_off(committer).await
    }

    /// Brings a commit to its end; what stays unsaved remembers why.
    async fn work_off(&self, committer: &mut Committer) -> Result<()> {
        let result = self.try_work_off(committer).await;
        if let (Err(error), Some(running)) = (&result, &committer.running) {
            let mut state = self.state.lock();
            for frozen in running.frozen.inodes.iter().filter(|frozen| frozen.has_data) {
                let file = state.cached_slot(frozen.ino).and_then(|slot| slot.file.as_mut());
                if let Some(file) = file {
                    file.failure = Some(error.kind());
                }
            }
        }
        result
    }

    async fn try_work_off(&self, committer: &mut Committer) -> Result<()> {
        let Some(running) = &mut committer.running else { return Ok(()) };
        if self.is_broken.load(Ordering::Acquire) {
            let source = std::io::Error::other("an earlier sync failed; restart to go on");
            return Err(Error::Local { path: self.settings.state_dir.clone(), source });
        }
        self.save_files(running).await?;
        if running.merge_all {
            self.blocks.close_pack();
        }
        let part = blocking(|| self.blocks.prepare_commit());
        running.part.absorb(part.map_err(|error| self.broken_unless_full(error.into()))?);
        let written = blocking(|| self.write_transaction(running, committer.last_outbox));
        let last_outbox = written.map_err(|error| self.broken_unless_full(error.into()))?;
        self.blocks.committed(&running.part);
        self.settle(running);
        committer.unmerged.clear();
        for frozen in &running.frozen.inodes {
            let saved = running.saved.get(&frozen.ino);
            let unmerged = saved.and_then(|saved| saved.unmerged.clone());
            let has_name = frozen.inode.as_ref().is_some_and(|inode| inode.nlink > 0);
            if let Some(source) = unmerged.filter(|_| running.merge_all && has_name) {
                committer.unmerged.push(Error::Unmerged { ino: frozen.ino, source });
            }
            if saved.is_some() || frozen.inode.is_none() {
                let patched = saved.filter(|saved| saved.has_patches);
                committer.patched.set(frozen.ino, patched.map(|saved| saved.patches_weight));
            }
        }
        committer.last_outbox = last_outbox;
        self.has_unsent.store(true, Ordering::Release);
        self.committed.fetch_max(running.frozen.seq, Ordering::AcqRel);
        committer.running = None;
        Ok(())
    }

    /// After a failed sync nobody knows what is on disk, whatever the reason given.
    /// Only a disk that was full before anything was synced has changed nothing:
    /// `write(2)` said so, or SQLite, which tells a failed sync apart.
    fn broken_unless_full(&self, error: Error) -> Error {
        if error.kind() != vfs::ErrorKind::NoSpace {
            self.is_broken.store(true, Ordering::Release);
            log::error!("a commit to the local disk failed, nothing is written any more: {error}");
        }
        error
    }

    async fn save_files(&self, running: &mut Running) -> Result<()> {
        let mut out_of_reach: Option<Arc<data::Error>> = None;
        for frozen in &running.frozen.inodes {
            let Some(inode) = &frozen.inode else { continue };
            if !frozen.has_data || running.saved.contains_key(&frozen.ino) {
                continue;
            }
            let (layer, patches) = {
                let mut state = self.state.lock();
                let Some(file) = state.cached_slot(frozen.ino).and_then(|slot| slot.file.as_mut())
                else {
                    continue;
                };
                (file.frozen.clone().unwrap_or_default(), file.patches.clone())
            };
            let merge_all = running.merge_all;
            // Without the store, every further file would take as long to find out.
            let is_stored = matches!(inode.content, Content::Tree { .. });
            let unmerged = patches.unmerged.clone().filter(|_| !merge_all);
            let unmerged = unmerged.or_else(|| out_of_reach.clone().filter(|_| is_stored));
            let work = Work {
                inode,
                layer: &layer,
                patches: &patches.layer,
                patch_rows: &patches.rows,
                merge_all,
                unmerged,
            };
            let saved = self.save_file(&work).await?;
            if let Some(reason) = &saved.unmerged {
                log::warn!("changes to inode {} stay apart: {reason}", frozen.ino);
                if reason.is_out_of_reach() {
                    out_of_reach = Some(reason.clone());
                }
            }
            running.saved.insert(frozen.ino, saved);
        }
        Ok(())
    }

    /// Ops that tell of the new content of files, in groups of bounded size.
    fn write_groups(&self, running: &Running) -> GroupRows {
        let mut rows = GroupRows::default();
        let mut hlc = running.frozen.hlc.0 - TICKS;
        let (mut ops, mut len) = (Vec::new(), 0);
        let mut flush = |ops: &mut Vec<Op>, len: &mut usize| {
            if !ops.is_empty() {
                hlc = (hlc + 1).min(running.frozen.hlc.0);
                rows.push(&Group { hlc: Hlc(hlc), ops: std::mem::take(ops) });
                *len = 0;
            }
        };
        for frozen in &running.frozen.inodes {
            let (Some(inode), Some(saved)) = (&frozen.inode, running.saved.get(&frozen.ino)) else {
                continue;
            };
            if inode.nlink == 0 || saved.has_patches {
                continue;
            }
            let op = Op::Write {
                ino: frozen.ino,
                size: inode.size,
                used: saved.used,
                mtime: inode.mtime,
                ctime: inode.ctime,
                content: saved.content.clone(),
            };
            len += crate::log::op::INLINE_LEN_MAX.min(inode.size as usize) + 128;
            ops.push(op);
            if len >= GROUP_LEN_MAX || ops.len() >= crate::log::op::GROUP_OPS_MAX {
                flush(&mut ops, &mut len);
            }
        }
        flush(&mut ops, &mut len);
        rows
    }

    /// Answers the last row of the outbox, given the last one before.
    fn write_transaction(&self, running: &Running, mut outbox: i64) -> db::Result<i64> {
        let write_groups = self.write_groups(running);
        let mut numbers = *self.numbers.lock();
        numbers.reserved = numbers.next + Numbers::RESERVE;
        let usage = self.usage_after(running);
        let position = Position { next_number: numbers.reserved, hlc: running.frozen.hlc, usage };
        self.db.write(|txn| {
            running.part.save(txn)?;
            save_state(txn, &running.frozen, &running.saved)?;
            for row in running.frozen.groups.iter().chain(write_groups.iter()) {
                outbox += 1;
                txn.put(Table::Outbox, Key::Int(outbox), row)?;
            }
            position.save(txn)
        })?;
        self.numbers.lock().reserved = numbers.reserved;
        Ok(outbox)
    }

    fn usage_after(&self, running: &Running) -> Usage {
        let bytes = self.state.lock().usage.bytes;
        let mut usage = Usage { bytes, inodes: running.frozen.inode_count };
        for frozen in &running.frozen.inodes {
            if let Some(saved) = running.saved.get(&frozen.ino) {
                let before = frozen.inode.as_ref().map_or(0, |inode| inode.used);
                usage.bytes = (usage.bytes + saved.used).saturating_sub(before);
            }
            if frozen.inode.is_none() {
                usage.bytes = usage.bytes.saturating_sub(frozen.used);
            }
        }
        usage
    }

    /// Makes memory agree with what the transaction wrote.
    fn settle(&self, running: &mut Running) {
        let usage = self.usage_after(running);
        let mut state = self.state.lock();
        state.usage.bytes = usage.bytes;
        for frozen in &running.frozen.inodes {
            let Some(slot) = state.cached_slot(frozen.ino) else { continue };
            let opens = slot.opens;
            let Some(saved) = running.saved.get_mut(&frozen.ino) else {
                if let Some(file) = slot.file.as_mut().filter(|_| frozen.inode.is_none()) {
                    file.frozen = None;
                }
                let is_unused = opens == 0 && !slot.is_dirty;
                if is_unused && slot.file.as_ref().is_some_and(|file| file.is_dispensable()) {
                    slot.file = None;
                }
                continue;
            };
            slot.inode.content = saved.content.clone();
            slot.inode.used = saved.used;
            slot.has_patches = saved.has_patches;
            let Some(file) = &mut slot.file else { continue };
            file.frozen = None;
            // Nothing was lost after all.
            file.failure = None;
            let patches = Arc::make_mut(&mut file.patches);
            patches.unmerged = saved.unmerged.clone();
            if let Some(first) = saved.unpatched_from {
                patches.forget_from(first, self.block_size);
            }
            for block in &saved.unpatched {
                patches.forget(*block, self.block_size);
            }
            for (block, patch) in &saved.patches {
                patches.add(*block, patch.clone(), self.block_size);
            }
            // What cannot be merged is no reason to try.
            saved.patches_weight = saved.unmerged.as_ref().map_or(patches.weight(), |_| 0);
            if opens == 0 && file.is_dispensable() {
                slot.file = None;
            }
        }
        state.thaw(&running.frozen);
    }
}

/// Writes the rows of everything that changed.
pub(super) fn save_state(
    txn: &Txn<'_>,
    frozen: &Frozen,
    saved: &HashMap<u64, Saved>,
) -> db::Result<()> {
    for entry in &frozen.inodes {
        save_inode(txn, entry, saved.get(&entry.ino))?;
    }
    for (key, dent) in &*frozen.dents {
        let bytes = key.bytes();
        match dent {
            Some(dent) => txn.put(Table::Dent, Key::Bytes(&bytes), &dent.encode())?,
            None => txn.delete(Table::Dent, Key::Bytes(&bytes))?,
        }
    }
    for (link, place) in &*frozen.links {
        match place {
            Some(place) => txn.put(Table::Link, Key::Bytes(&link.0), &place.bytes())?,
            None => txn.delete(Table::Link, Key::Bytes(&link.0))?,
        }
    }
    Ok(())
}

fn save_inode(txn: &Txn<'_>, entry: &FrozenInode, saved: Option<&Saved>) -> db::Result<()> {
    let ino = entry.ino;
    let Some(inode) = &entry.inode else {
        txn.delete(Table::Ino, Key::ino(ino))?;
        txn.delete(Table::Orphan, Key::ino(ino))?;
        return if entry.has_patches { txn.delete_patches(ino, 0, u64::MAX) } else { Ok(()) };
    };
    if inode.nlink == 0 {
        txn.put(Table::Orphan, Key::ino(ino), &[])?;
    }
    let Some(saved) = saved else {
        let row = encode_slot(inode, entry.parent, entry.has_patches);
        return txn.put(Table::Ino, Key::ino(ino), &row);
    };
    let mut inode = inode.clone();
    inode.content = saved.content.clone();
    inode.used = saved.used;
    let row = encode_slot(&inode, entry.parent, saved.has_patches);
    txn.put(Table::Ino, Key::ino(ino), &row)?;
    if entry.has_patches {
        if let Some(first) = saved.unpatched_from {
            txn.delete_patches(ino, first, u64::MAX)?;
        }
        for block in &saved.unpatched {
            txn.delete_patches(ino, *block, *block)?;
        }
    }
    for (block, patch) in &saved.patches {
        txn.add_patch(ino, *block, &patch.encode())?;
    }
    Ok(())
}

/// Runs what blocks, without holding up others on a runtime's worker.
pub(super) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(work)
        }
        _ => work(),
    }
}
