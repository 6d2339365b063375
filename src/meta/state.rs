//! The namespace as this machine sees it now: the local database plus what
//! happened since its last commit.
//!
//! Changes are kept beside the database until a commit takes them: first in the
//! *pending* maps, then, while a commit runs, in the *frozen* ones. A read looks
//! at pending, frozen, the clean cache and the database, in this order. All of
//! it is protected by one lock, held only for in-memory work and single-row
//! reads; the order of changes under it is the order of the log.

use super::db::{self, Key, Reader, Table};
use super::row::{Dent, Inode};
use crate::codec::{DecodeError, Reader as Decoder, Writer};
use crate::crypto::Key32;
use crate::data::file::FileState;
use crate::ids::{Hlc, LinkId};
use crate::log::op::{GROUP_OPS_MAX, Group, GroupRows, Op};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use vfs::Timestamp;

/// Clean inodes kept in memory before the oldest are dropped.
const CLEAN_INODES_MAX: usize = 40_000;
/// Bytes of inline data and extended attributes kept with them.
const CLEAN_LEN_MAX: usize = 32 << 20;
/// Clean directory entries kept in memory.
const CLEAN_DENTS_MAX: usize = 60_000;
/// Reads remembered at most; what is read beyond keeps its access time.
const READS_MAX: usize = 20_000;
/// Rows of a directory looked at together at most.
const CHILDREN_MAX: usize = 4096;
/// The root directory.
pub const ROOT: u64 = 1;

/// Shorthand for a state's result.
pub type Result<T> = std::result::Result<T, db::Error>;

/// The place of a directory entry: its directory and the keyed hash of its name.
/// The order within a directory is the order of listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DentKey {
    /// The directory.
    pub parent: u64,
    /// The keyed hash of the name.
    pub hash: [u8; 16],
}

impl DentKey {
    /// The database key.
    #[must_use]
    pub fn bytes(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.parent.to_be_bytes());
        bytes[8..].copy_from_slice(&self.hash);
        bytes
    }

    /// Reads the database key.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (parent, hash) = bytes.split_first_chunk::<8>()?;
        Some(Self { parent: u64::from_be_bytes(*parent), hash: hash.try_into().ok()? })
    }

    /// The position in a listing, at least 3 and below 2^63.
    #[must_use]
    pub fn cookie(&self) -> u64 {
        let (head, _) = self.hash.split_at(8);
        let head = head.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        (head >> 1).max(vfs::Cookie::FIRST_ENTRY)
    }

    /// The last place in `parent` with a position up to `cookie`.
    #[must_use]
    pub fn last_at(parent: u64, cookie: u64) -> Self {
        let mut hash = [0xff; 16];
        if cookie < vfs::Cookie::FIRST_ENTRY {
            // Nothing lies that early; the very first hash is as good as none,
            // since no name hashes to zero.
            hash = [0; 16];
        } else {
            hash[..8].copy_from_slice(&(cookie << 1 | 1).to_be_bytes());
        }
        Self { parent, hash }
    }
}

/// An inode in memory.
#[derive(Debug)]
pub struct Slot {
    /// The inode as of now.
    pub inode: Inode,
    /// For a directory, the one that holds it.
    pub parent: u64,
    /// Open handles.
    pub opens: u32,
    /// Changed since the last freeze.
    pub is_dirty: bool,
    /// Part of the commit that is running.
    pub is_frozen: bool,
    /// Unsaved data, for files that were touched.
    pub file: Option<Box<FileState>>,
    /// Whether the database holds patches of it.
    pub has_patches: bool,
    /// The sweep in which it was last used.
    used_in: u64,
}

impl Slot {
    fn new(inode: Inode, parent: u64) -> Self {
        Self {
            inode,
            parent,
            opens: 0,
            is_dirty: false,
            is_frozen: false,
            file: None,
            has_patches: false,
            used_in: 0,
        }
    }

    fn is_droppable(&self) -> bool {
        !self.is_dirty && !self.is_frozen && self.opens == 0
    }

    /// Whether a commit that has not begun yet will tell others of new content.
    #[must_use]
    pub fn will_tell_of_content(&self) -> bool {
        let has_new = self.file.as_ref().is_some_and(|file| !file.current.is_empty());
        let can_tell = self.file.as_ref().is_none_or(|file| file.patches.unmerged.is_none());
        can_tell && (has_new || (self.has_patches && !self.is_frozen))
    }

    /// Whether no name leads to it any more.
    #[must_use]
    pub fn is_nameless(&self) -> bool {
        self.inode.nlink == 0
    }
}

/// An inode as a commit takes it.
#[derive(Debug)]
pub struct FrozenInode {
    /// Its number.
    pub ino: u64,
    /// Its state; `None` if it is gone.
    pub inode: Option<Inode>,
    /// For a directory, the one that holds it.
    pub parent: u64,
    /// Whether it has unsaved data.
    pub has_data: bool,
    /// Whether the database holds patches of it.
    pub has_patches: bool,
    /// Bytes its stored content takes.
    pub used: u64,
}

/// What one commit takes: everything that changed up to a moment.
#[derive(Debug)]
pub struct Frozen {
    /// How many changes had happened.
    pub seq: u64,
    /// Inodes.
    pub inodes: Vec<FrozenInode>,
    /// Directory entries.
    pub dents: Arc<BTreeMap<DentKey, Option<Dent>>>,
    /// Places of links.
    pub links: Arc<HashMap<LinkId, Option<DentKey>>>,
    /// The groups of ops.
    pub groups: GroupRows,
    /// The time of the last op.
    pub hlc: Hlc,
    /// How many inodes there are.
    pub inode_count: u64,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of blocks and inline data that files take.
    pub bytes: u64,
    /// Inodes that have a name.
    pub inodes: u64,
}

/// The namespace as of now.
#[derive(Debug)]
pub struct State {
    db: Reader,
    name_key: Key32,
    slots: HashMap<u64, Slot>,
    dirty: HashSet<u64>,
    dents: BTreeMap<DentKey, Option<Dent>>,
    frozen_dents: Arc<BTreeMap<DentKey, Option<Dent>>>,
    links: HashMap<LinkId, Option<DentKey>>,
    frozen_links: Arc<HashMap<LinkId, Option<DentKey>>>,
    clean_dents: quick_cache::unsync::Cache<DentKey, Option<Dent>>,
    groups: GroupRows,
    /// Access times of reads that nothing has recorded yet.
    reads: HashMap<u64, Timestamp>,
    /// The time of the last op.
    pub hlc: Hlc,
    /// Changes so far; a commit covers all up to some number.
    pub seq: u64,
    /// Unsaved file data in memory, bytes.
    pub dirty_bytes: u64,
    /// Bytes written since the last freeze, wherever they are now.
    pub new_bytes: u64,
    /// The same of what a running commit has taken.
    frozen_bytes: u64,
    /// How much there is, as of the last commit in bytes, as of now in inodes.
    pub usage: Usage,
    sweep: u64,
    /// The number of inodes in memory at which unused ones are dropped.
    sweep_at: usize,
    /// Bytes that inodes in memory had at the last sweep, and that came since.
    len: usize,
    /// How many make unused ones be dropped.
    sweep_at_len: usize,
}

impl State {
    /// Starts from what the database holds.
    #[must_use]
    pub fn new(db: Reader, name_key: Key32, hlc: Hlc, usage: Usage) -> Self {
        Self {
            db,
            name_key,
            slots: HashMap::new(),
            dirty: HashSet::new(),
            dents: BTreeMap::new(),
            frozen_dents: Arc::default(),
            links: HashMap::new(),
            frozen_links: Arc::default(),
            clean_dents: quick_cache::unsync::Cache::new(CLEAN_DENTS_MAX),
            groups: GroupRows::default(),
            reads: HashMap::new(),
            hlc,
            seq: 0,
            dirty_bytes: 0,
            new_bytes: 0,
            frozen_bytes: 0,
            usage,
            sweep: 1,
            sweep_at: CLEAN_INODES_MAX,
            len: 0,
            sweep_at_len: CLEAN_LEN_MAX,
        }
    }

    /// The database as of the last commit.
    #[must_use]
    pub fn db(&self) -> &Reader {
        &self.db
    }

    /// Where `name` lies in `parent`.
    #[must_use]
    pub fn dent_key(&self, parent: u64, name: &[u8]) -> DentKey {
        let mut hasher = blake3::Hasher::new_keyed(self.name_key.expose());
        hasher.update(&parent.to_be_bytes()).update(name);
        let mut hash = [0; 16];
        hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        DentKey { parent, hash }
    }

    // ------------------------------------------------------------ inodes --

    /// The inode `ino`; `None` if there is none, or no more.
    pub fn slot(&mut self, ino: u64) -> Result<Option<&mut Slot>> {
        if !self.slots.contains_key(&ino) {
            let Some(row) = self.db.get(Table::Ino, Key::ino(ino))? else { return Ok(None) };
            self.keep(ino, &row)?;
        }
        let sweep = self.sweep;
        let found = self.slots.get_mut(&ino);
        let mut found = found.filter(|slot| !(slot.is_nameless() && slot.opens == 0));
        if let Some(slot) = &mut found {
            slot.used_in = sweep;
        }
        Ok(found)
    }

    /// Keeps an inode in memory that the database has.
    fn keep(&mut self, ino: u64, row: &[u8]) -> Result<()> {
        let slot = decode_slot(row).map_err(|e| malformed(Table::Ino, e))?;
        self.drop_unused();
        self.len += slot.inode.extra_len();
        self.slots.insert(ino, slot);
        Ok(())
    }

    /// The inode `ino` if it is in memory; what a commit needs, gone or not.
    pub fn cached_slot(&mut self, ino: u64) -> Option<&mut Slot> {
        self.slots.get_mut(&ino)
    }

    /// A copy of the inode `ino`.
    pub fn inode(&mut self, ino: u64) -> Result<Option<Inode>> {
        Ok(self.slot(ino)?.map(|slot| slot.inode.clone()))
    }

    /// The inode `ino`, about to be changed.
    pub fn change(&mut self, ino: u64) -> Result<Option<&mut Slot>> {
        if self.slot(ino)?.is_none() {
            return Ok(None);
        }
        self.mark_dirty(ino);
        Ok(self.slots.get_mut(&ino))
    }

    /// Makes the next commit save `ino`, which is in memory.
    pub fn mark_dirty(&mut self, ino: u64) {
        if let Some(slot) = self.slots.get_mut(&ino)
            && !slot.is_dirty
        {
            slot.is_dirty = true;
            self.dirty.insert(ino);
        }
    }

    /// Adds an inode that did not exist.
    pub fn add_inode(&mut self, ino: u64, inode: Inode, parent: u64) {
        self.slots.insert(ino, Slot::new(inode, parent));
        self.mark_dirty(ino);
    }

    // ----------------------------------------------------------- entries --

    /// The entry at `key`.
    pub fn dent(&mut self, key: &DentKey) -> Result<Option<Dent>> {
        if let Some(dent) = self.dents.get(key).or_else(|| self.frozen_dents.get(key)) {
            return Ok(dent.clone());
        }
        if let Some(dent) = self.clean_dents.get(key) {
            return Ok(dent.clone());
        }
        // Who asks for an entry asks for its inode next; together they are one transaction.
        let slots = &self.slots;
        let (dent, inode) = self.db.snapshot(|db| {
            let row = db.get(Table::Dent, Key::Bytes(&key.bytes()))?;
            let dent = row.map(|row| Dent::decode(&row)).transpose();
            let dent = dent.map_err(|e| malformed(Table::Dent, e))?;
            let unknown = dent.as_ref().filter(|dent| !slots.contains_key(&dent.ino));
            let inode = unknown.map(|dent| db.get(Table::Ino, Key::ino(dent.ino))).transpose()?;
            Ok::<_, db::Error>((dent, inode.flatten()))
        })?;
        if let (Some(dent), Some(row)) = (&dent, inode) {
            self.keep(dent.ino, &row)?;
        }
        self.clean_dents.insert(*key, dent.clone());
        Ok(dent)
    }

    /// Puts or clears the entry at `key`, and the place of its link.
    pub(super) fn set_dent(&mut self, key: DentKey, dent: Option<Dent>) {
        self.clean_dents.remove(&key);
        if let Some(dent) = &dent {
            self.links.insert(dent.link, Some(key));
        }
        self.dents.insert(key, dent);
    }

    /// Forgets a link.
    pub(super) fn drop_link(&mut self, link: LinkId) {
        self.links.insert(link, None);
    }

    /// Where `link` is.
    pub fn link_place(&mut self, link: LinkId) -> Result<Option<DentKey>> {
        if let Some(place) = self.links.get(&link).or_else(|| self.frozen_links.get(&link)) {
            return Ok(*place);
        }
        let Some(row) = self.db.get(Table::Link, Key::Bytes(&link.0))? else { return Ok(None) };
        Ok(DentKey::from_bytes(&row))
    }

    /// Entries of a directory behind `after`, in listing order: at least one if
    /// there is any, and whether nothing follows.
    pub fn children(&mut self, after: DentKey, max: usize) -> Result<(Vec<(DentKey, Dent)>, bool)> {
        let end = DentKey { parent: after.parent, hash: [0xff; 16] };
        let (mut from, mut max) = (after, max);
        loop {
            let rows = self.db.range(
                Table::Dent,
                Key::Bytes(&from.bytes()),
                Key::Bytes(&end.bytes()),
                max,
            )?;
            let is_last = rows.len() < max;
            let mut merged = BTreeMap::new();
            for (key, row) in rows {
                let Some(key) = DentKey::from_bytes(&key) else { continue };
                let dent = Dent::decode(&row).map_err(|e| malformed(Table::Dent, e))?;
                merged.insert(key, Some(dent));
            }
            let upper = match merged.last_key_value() {
                Some((key, _)) if !is_last => *key,
                _ => end,
            };
            let range = (Bound::Excluded(from), Bound::Included(upper));
            for overlay in [&*self.frozen_dents, &self.dents] {
                for (key, dent) in overlay.range(range) {
                    merged.insert(*key, dent.clone());
                }
            }
            let found: Vec<_> =
                merged.into_iter().filter_map(|(key, dent)| Some((key, dent?))).collect();
            if is_last || !found.is_empty() {
                return Ok((found, is_last));
            }
            // All of these are gone since the last commit; there may be many more.
            (from, max) = (upper, (2 * max).min(CHILDREN_MAX));
        }
    }

    /// Whether a directory has no entries.
    pub fn is_empty_dir(&mut self, ino: u64) -> Result<bool> {
        let start = DentKey { parent: ino, hash: [0; 16] };
        Ok(self.children(start, 4)?.0.is_empty())
    }

    // ------------------------------------------------------------- reads --

    /// Notes that an inode was read. That alone is nothing to save or to upload: it
    /// is recorded with the next change of anything, as `lazytime` does on ext4.
    pub fn touch_atime(&mut self, ino: u64, time: Timestamp) {
        if self.reads.len() < READS_MAX || self.reads.contains_key(&ino) {
            self.reads.insert(ino, time);
        }
    }

    /// When an inode was read, if that is not recorded yet.
    #[must_use]
    pub fn read_at(&self, ino: u64) -> Option<Timestamp> {
        self.reads.get(&ino).copied()
    }

    /// Forgets that an inode was read, because its access time was set.
    pub(super) fn forget_read(&mut self, ino: u64) {
        self.reads.remove(&ino);
    }

    /// Records the access times of reads, if there is anything else to record.
    pub fn record_reads(&mut self, now: Timestamp) -> Result<()> {
        if self.is_clean() {
            return Ok(());
        }
        let mut reads: Vec<_> = std::mem::take(&mut self.reads).into_iter().collect();
        reads.sort_unstable_by_key(|(ino, _)| *ino);
        let mut ops = Vec::new();
        for (ino, time) in reads {
            let Some(slot) = self.change(ino)? else { continue };
            slot.inode.atime = time;
            if slot.is_nameless() {
                continue;
            }
            ops.push(Op::SetAttr {
                ino,
                mode: None,
                uid: None,
                gid: None,
                atime: Some(time),
                mtime: None,
                ctime: slot.inode.ctime,
            });
            if ops.len() == GROUP_OPS_MAX {
                self.record(std::mem::take(&mut ops), now);
            }
        }
        self.record(ops, now);
        Ok(())
    }

    // ------------------------------------------------------------ commit --

    /// Records what a call did, for the log.
    pub fn record(&mut self, ops: Vec<Op>, now: Timestamp) {
        self.seq += 1;
        if ops.is_empty() {
            return;
        }
        self.hlc = self.hlc.next(now);
        self.groups.push(&Group { hlc: self.hlc, ops });
    }

    /// Whether a commit would have anything to do.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.dirty.is_empty()
            && self.dents.is_empty()
            && self.links.is_empty()
            && self.groups.is_empty()
    }

    /// Inodes and entries that wait for a commit.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.dirty.len() + self.dents.len()
    }

    /// Takes everything that changed for a commit, which may add `ticks` groups of
    /// its own. What is taken stays visible until [`State::thaw`].
    pub fn freeze(&mut self, ticks: u64) -> Frozen {
        self.frozen_dents = Arc::new(std::mem::take(&mut self.dents));
        self.frozen_links = Arc::new(std::mem::take(&mut self.links));
        let mut inodes = Vec::with_capacity(self.dirty.len());
        let mut dirty: Vec<u64> = self.dirty.drain().collect();
        dirty.sort_unstable();
        for ino in dirty {
            let Some(slot) = self.slots.get_mut(&ino) else { continue };
            slot.is_dirty = false;
            slot.is_frozen = true;
            let has_data = slot.file.as_mut().is_some_and(|file| file.freeze());
            let is_gone = slot.is_nameless() && slot.opens == 0;
            inodes.push(FrozenInode {
                ino,
                inode: (!is_gone).then(|| slot.inode.clone()),
                parent: slot.parent,
                has_data,
                has_patches: slot.has_patches,
                used: slot.inode.used,
            });
        }
        // Times for the groups that the commit adds itself, before any later op.
        self.hlc = Hlc(self.hlc.0 + ticks);
        self.dirty_bytes = 0;
        // A commit that failed may have left some.
        self.frozen_bytes += std::mem::take(&mut self.new_bytes);
        Frozen {
            seq: self.seq,
            inodes,
            dents: self.frozen_dents.clone(),
            links: self.frozen_links.clone(),
            groups: std::mem::take(&mut self.groups),
            hlc: self.hlc,
            inode_count: self.usage.inodes,
        }
    }

    /// Ends a commit whose transaction is on disk.
    pub fn thaw(&mut self, frozen: &Frozen) {
        self.frozen_dents = Arc::default();
        self.frozen_links = Arc::default();
        self.frozen_bytes = 0;
        for (key, dent) in &*frozen.dents {
            self.clean_dents.insert(*key, dent.clone());
        }
        for frozen in &frozen.inodes {
            let Some(slot) = self.slots.get_mut(&frozen.ino) else { continue };
            slot.is_frozen = false;
            self.len += slot.inode.extra_len();
            if slot.is_nameless() && slot.opens == 0 && !slot.is_dirty {
                self.slots.remove(&frozen.ino);
            }
        }
        self.drop_unused();
    }

    /// What files take, in bytes, with all that is not saved yet counted in full.
    #[must_use]
    pub fn claimed_bytes(&self) -> u64 {
        self.usage.bytes + self.frozen_bytes + self.new_bytes
    }

    /// Keeps the number of clean inodes in memory and what is in them bounded: one pass
    /// drops those that were not used since the pass before, the next all that it must.
    /// The next sweep is not before as much has come as this one left.
    fn drop_unused(&mut self) {
        if self.slots.len() < self.sweep_at && self.len < self.sweep_at_len {
            return;
        }
        let sweep = self.sweep;
        self.retain(|slot| !slot.is_droppable() || slot.used_in == sweep);
        if self.slots.len() >= CLEAN_INODES_MAX / 2 || self.len >= CLEAN_LEN_MAX / 2 {
            self.retain(|slot| !slot.is_droppable());
        }
        self.sweep_at = CLEAN_INODES_MAX.max(2 * self.slots.len());
        self.sweep_at_len = CLEAN_LEN_MAX.max(2 * self.len);
        self.sweep += 1;
    }

    fn retain(&mut self, keeps: impl Fn(&Slot) -> bool) {
        self.slots.retain(|_, slot| keeps(slot));
        self.len = self.slots.values().map(|slot| slot.inode.extra_len()).sum();
    }
}

pub(crate) fn malformed(table: Table, source: DecodeError) -> db::Error {
    db::Error::Row { table: table.name(), source }
}

/// A row of the inode table: the inode, where a directory is, whether there
/// are patches.
pub fn encode_slot(inode: &Inode, parent: u64, has_patches: bool) -> Vec<u8> {
    let mut w = Writer::with_capacity(160);
    inode.encode(&mut w);
    w.u64(parent).bool(has_patches);
    w.into_vec()
}

/// Parses a row of the inode table into inode, parent and whether there are patches.
pub fn decode_inode_row(row: &[u8]) -> std::result::Result<(Inode, u64, bool), DecodeError> {
    let mut r = Decoder::new(row);
    let inode = Inode::decode(&mut r)?;
    let (parent, has_patches) = (r.u64("parent")?, r.bool("has patches")?);
    r.finish("inode row")?;
    Ok((inode, parent, has_patches))
}

fn decode_slot(row: &[u8]) -> std::result::Result<Slot, DecodeError> {
    let (inode, parent, has_patches) = decode_inode_row(row)?;
    let mut slot = Slot::new(inode, parent);
    slot.has_patches = has_patches;
    Ok(slot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Key32;
    use crate::env::Env;
    use crate::log::op::Node;
    use vfs::Timestamp;

    #[test]
    fn reading_alone_keeps_a_bounded_number_of_inodes_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let db = db::Db::open(dir.path(), &Key32::copy_of(&[1; 32]), Env::real()).unwrap();
        let inodes = 3 * CLEAN_INODES_MAX as u64;
        let row = |ino| {
            let inode = Inode::new(Node::Regular, 0o644, 1, 2, Timestamp::default());
            (ino, encode_slot(&Inode { nlink: 1, ..inode }, 0, false))
        };
        db.write(|txn| {
            let mut rows = (1..=inodes).map(row);
            rows.try_for_each(|(ino, row)| txn.put(Table::Ino, Key::ino(ino), &row))
        })
        .unwrap();
        let mut state =
            State::new(db.reader().unwrap(), Key32::copy_of(&[0; 32]), Hlc(0), Usage::default());
        state.slot(1).unwrap().unwrap().opens = 1;
        for ino in 1..=inodes {
            assert!(state.slot(ino).unwrap().is_some());
            assert!(state.slots.len() <= CLEAN_INODES_MAX, "{} inodes", state.slots.len());
        }
        assert_eq!(state.cached_slot(1).unwrap().opens, 1, "what is open stays");
    }

    #[test]
    fn inodes_with_much_in_them_are_fewer_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let db = db::Db::open(dir.path(), &Key32::copy_of(&[1; 32]), Env::real()).unwrap();
        let (len, inodes) = (3000, 3 * CLEAN_LEN_MAX as u64 / 3000);
        let content = crate::log::op::Content::Inline(vec![7; len].into());
        let inode = Inode::new(Node::Regular, 0o644, 1, 2, Timestamp::default());
        let row = encode_slot(&Inode { nlink: 1, content, ..inode }, 0, false);
        db.write(|txn| (1..=inodes).try_for_each(|ino| txn.put(Table::Ino, Key::ino(ino), &row)))
            .unwrap();
        let mut state =
            State::new(db.reader().unwrap(), Key32::copy_of(&[0; 32]), Hlc(0), Usage::default());
        for ino in 1..=inodes {
            assert!(state.slot(ino).unwrap().is_some());
            assert!(state.slots.len() * len <= CLEAN_LEN_MAX + len, "{}", state.slots.len());
        }
    }
}
