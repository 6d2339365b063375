//! The packs this machine knows of, the ones it is writing, and the blocks whose
//! places are not in the database yet.

use super::{Error, Keyring, Result};
use crate::codec::{DecodeError, Reader as Decoder, Writer};
use crate::crypto::EpochKeys;
use crate::data::pack::{self, DirEntry, PackWriter, decode_entry, encode_entry};
use crate::data::parts::parse_pack_id;
use crate::env::Env;
use crate::ids::{BlockId, Hash, PackId};
use crate::log::record::PackInfo;
use crate::meta::db::{self, Key, Reader, Table, Txn};
use crate::meta::row::{BlockPlace, PackRow, PackState};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Pack files kept open for reading.
const FILES_MAX: usize = 128;

struct Known {
    row: PackRow,
    /// Rises with every pack, so that older ones are uploaded first.
    order: u64,
    is_local: bool,
    file: Option<Arc<File>>,
    last_used: u64,
}

/// Everything about packs; see the module.
pub(super) struct PackTable {
    dir: PathBuf,
    packs: HashMap<PackId, Known>,
    writer: Option<PackWriter>,
    closing: Vec<PackWriter>,
    /// Blocks that no transaction has recorded, by id and in order.
    pending: HashMap<BlockId, BlockPlace>,
    pending_order: Vec<DirEntry>,
    /// Packs whose rows the next transaction has to write.
    changed: HashSet<PackId>,
    distrusted: HashSet<PackId>,
    /// Rows that hold the directories of packs still open.
    dir_rows: Vec<(PackId, i64)>,
    next_dir_row: i64,
    open_files: usize,
    tick: u64,
}

/// What one commit records of blocks and packs.
#[derive(Debug, Default)]
pub struct CommitPart {
    entries: Vec<DirEntry>,
    packs: HashMap<PackId, PackRow>,
    dir_rows: Vec<(i64, Vec<u8>)>,
    ended_dir_rows: Vec<i64>,
}

impl CommitPart {
    /// Whether there is nothing to record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.packs.is_empty()
    }

    /// Adds what a later call gathered, after a transaction failed.
    pub fn absorb(&mut self, later: Self) {
        self.entries.extend(later.entries);
        self.packs.extend(later.packs);
        self.dir_rows.extend(later.dir_rows);
        self.ended_dir_rows.extend(later.ended_dir_rows);
    }

    /// Writes it into the commit's transaction.
    pub fn save(&self, txn: &Txn<'_>) -> db::Result<()> {
        save_places(txn, &self.entries)?;
        for row in self.packs.values() {
            txn.put(Table::Pack, Key::Bytes(&row.info.pack.0), &row.encode())?;
        }
        for (key, value) in &self.dir_rows {
            txn.put(Table::OpenDir, Key::Int(*key), value)?;
        }
        for key in &self.ended_dir_rows {
            txn.delete(Table::OpenDir, Key::Int(*key))?;
        }
        Ok(())
    }
}

/// Records where blocks are.
pub fn save_places(txn: &Txn<'_>, entries: &[DirEntry]) -> db::Result<()> {
    let mut entries: Vec<_> = entries.iter().collect();
    // In key order, neighbours share the pages that are written.
    entries.sort_by_key(|(id, _)| *id);
    for (id, place) in entries {
        txn.put(Table::Block, Key::Bytes(&id.0), &place.encode())?;
    }
    Ok(())
}

fn malformed(table: Table, source: DecodeError) -> Error {
    db::Error::Row { table: table.name(), source }.into()
}

impl PackTable {
    /// Reads what the database knows, takes up the pack that was open, and
    /// removes files that nothing committed refers to.
    pub(super) fn load(db: &Reader, keyring: &Keyring, dir: &Path) -> Result<Self> {
        let mut table = Self {
            dir: dir.to_owned(),
            packs: HashMap::new(),
            writer: None,
            closing: Vec::new(),
            pending: HashMap::new(),
            pending_order: Vec::new(),
            changed: HashSet::new(),
            distrusted: HashSet::new(),
            dir_rows: Vec::new(),
            next_dir_row: 1,
            open_files: 0,
            tick: 0,
        };
        db.scan::<Error>(Table::Pack, |key, value| {
            let mut r = Decoder::new(key);
            let row = r.array("pack").and_then(|id| PackRow::decode(PackId(id), value));
            table.learn(row.map_err(|e| malformed(Table::Pack, e))?);
            Ok(())
        })?;
        table.find_files()?;
        table.resume_open(db, keyring)?;
        Ok(table)
    }

    fn find_files(&mut self) -> Result<()> {
        let error = |source| Error::Cache { path: self.dir.clone(), source };
        for entry in std::fs::read_dir(&self.dir).map_err(error)? {
            let entry = entry.map_err(error)?;
            let id = entry.file_name().to_str().and_then(parse_pack_id);
            match id.and_then(|id| self.packs.get_mut(&id)) {
                Some(known) => known.is_local = true,
                // Begun after the last commit of a run that was killed.
                None => std::fs::remove_file(entry.path()).map_err(error)?,
            }
        }
        Ok(())
    }

    fn resume_open(&mut self, db: &Reader, keyring: &Keyring) -> Result<()> {
        let mut dirs: HashMap<PackId, Vec<DirEntry>> = HashMap::new();
        db.scan::<Error>(Table::OpenDir, |key, value| {
            let (pack, entries) =
                decode_dir_row(value).map_err(|e| malformed(Table::OpenDir, e))?;
            dirs.entry(pack).or_default().extend(entries);
            let key = key.try_into().map_or(0, i64::from_be_bytes);
            self.dir_rows.push((pack, key));
            self.next_dir_row = self.next_dir_row.max(key + 1);
            Ok(())
        })?;
        let open: Vec<PackRow> = self.rows_in(PackState::Open);
        for PackRow { info, .. } in open {
            let path = self.path(info.pack);
            let entries = dirs.remove(&info.pack).unwrap_or_default();
            let missing = std::io::Error::other(format!("no key for epoch {}", info.epoch));
            let writer = match keyring.epoch(info.epoch) {
                None => Err(missing),
                Some(keys) => PackWriter::resume(keys, info.pack, &path, info.size, entries),
            };
            // It is finished rather than continued, so that at most one is open.
            self.closing.push(writer.map_err(|source| Error::Cache { path, source })?);
        }
        Ok(())
    }

    fn path(&self, pack: PackId) -> PathBuf {
        self.dir.join(pack.to_string())
    }

    pub(super) fn learn(&mut self, row: PackRow) {
        self.tick += 1;
        let known = Known { row, order: self.tick, is_local: false, file: None, last_used: 0 };
        self.packs.entry(row.info.pack).or_insert(known);
    }

    pub(super) fn row(&self, pack: PackId) -> Option<PackRow> {
        self.packs.get(&pack).map(|known| known.row)
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (&PackRow, bool)> {
        self.packs.values().map(|known| (&known.row, known.is_local))
    }

    /// The packs that have come this far, oldest first.
    pub(super) fn rows_in(&self, state: PackState) -> Vec<PackRow> {
        let mut found: Vec<_> =
            self.packs.values().filter(|known| known.row.state == state).collect();
        found.sort_unstable_by_key(|known| known.order);
        found.into_iter().map(|known| known.row).collect()
    }

    pub(super) fn pending_place(&self, id: &BlockId) -> Option<BlockPlace> {
        self.pending.get(id).copied()
    }

    /// Whether a block in `pack` may stand for new data.
    pub(super) fn is_trusted(&self, pack: PackId) -> bool {
        self.packs.contains_key(&pack) && !self.distrusted.contains(&pack)
    }

    pub(super) fn distrust(&mut self, pack: PackId) {
        self.distrusted.insert(pack);
    }

    pub(super) fn append(
        &mut self,
        (id, place): DirEntry,
        record: &[u8],
        keys: &EpochKeys,
        size_max: u64,
        env: &Env,
    ) -> Result<()> {
        if self.writer.as_ref().is_some_and(|w| !w.has_room(record.len(), size_max)) {
            self.close_open();
        }
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.start_pack(keys, env)?,
        };
        let pack = writer.id;
        let placed = writer.append(id, place, record);
        self.writer = Some(writer);
        let placed = placed.map_err(|source| Error::Cache { path: self.path(pack), source })?;
        self.pending.insert(id, placed);
        self.pending_order.push((id, placed));
        self.changed.insert(pack);
        Ok(())
    }

    fn start_pack(&mut self, keys: &EpochKeys, env: &Env) -> Result<PackWriter> {
        let id = PackId::random(env);
        let path = self.path(id);
        let created = PackWriter::create(keys, id, &path, env);
        let writer = created.map_err(|source| {
            // Nothing refers to it yet; an empty file must not stay behind.
            let _ = std::fs::remove_file(&path);
            Error::Cache { path, source }
        })?;
        let (epoch, dir_hash) = (keys.epoch().0, Hash([0; 32]));
        let info = PackInfo { pack: id, epoch, size: 0, dir_hash };
        self.learn(PackRow { state: PackState::Open, info });
        if let Some(known) = self.packs.get_mut(&id) {
            known.is_local = true;
        }
        Ok(writer)
    }

    /// Lets the next commit finish the open pack.
    pub(super) fn close_open(&mut self) {
        self.closing.extend(self.writer.take());
    }

    /// The local file of a pack, if there is one.
    pub(super) fn file(&mut self, pack: PackId) -> Option<Arc<File>> {
        self.tick += 1;
        if let Some(writer) = self.writer.iter().chain(&self.closing).find(|w| w.id == pack) {
            return Some(writer.file());
        }
        let path = self.path(pack);
        if self.open_files >= FILES_MAX {
            self.packs.values_mut().for_each(|known| known.file = None);
            self.open_files = 0;
        }
        let known = self.packs.get_mut(&pack).filter(|known| known.is_local)?;
        known.last_used = self.tick;
        if known.file.is_none() {
            let Ok(file) = File::open(path) else {
                // Somebody removed it; the store may have it.
                known.is_local = false;
                return None;
            };
            known.file = Some(Arc::new(file));
            self.open_files += 1;
        }
        known.file.clone()
    }

    pub(super) fn unsent_bytes(&self) -> u64 {
        let writers = self.writer.iter().chain(&self.closing).map(PackWriter::len).sum::<u64>();
        let closed = self.packs.values().filter(|known| known.row.state == PackState::Closed);
        writers + closed.map(|known| known.row.info.size).sum::<u64>()
    }

    pub(super) fn set_state(&mut self, pack: PackId, state: PackState) {
        if let Some(known) = self.packs.get_mut(&pack) {
            known.row.state = state;
            self.changed.insert(pack);
        }
    }

    /// Removes the local copy of a pack that the store has too.
    pub(super) fn evict(&mut self, pack: PackId) -> bool {
        let path = self.path(pack);
        let Some(known) = self.packs.get_mut(&pack) else { return false };
        if !known.is_local || known.row.state != PackState::Announced {
            return false;
        }
        known.is_local = false;
        known.file = None;
        std::fs::remove_file(path).is_ok()
    }

    /// Evicts packs, those not used the longest first, until at most
    /// `bytes_max` are left.
    pub(super) fn shrink(&mut self, bytes_max: u64) {
        let mut clean: Vec<_> = self
            .packs
            .values()
            .filter(|known| known.is_local && known.row.state == PackState::Announced)
            .map(|known| (known.last_used, known.row.info.pack, known.row.info.size))
            .collect();
        clean.sort_unstable();
        let mut bytes: u64 = clean.iter().map(|(_, _, size)| size).sum();
        for (_, pack, size) in clean {
            if bytes <= bytes_max {
                break;
            }
            self.evict(pack);
            bytes -= size;
        }
    }

    pub(super) fn committed(&mut self, part: &CommitPart) {
        for (id, place) in &part.entries {
            // A block sealed again since then has a newer place.
            if self.pending.get(id) == Some(place) {
                self.pending.remove(id);
            }
        }
    }

    /// Gathers what the transaction has to hold, given that the open pack is
    /// durable up to `synced`.
    fn collect(&mut self, synced: Option<u64>) -> CommitPart {
        if let (Some(writer), Some(len)) = (&mut self.writer, synced) {
            writer.mark_synced(len);
        }
        let open: HashMap<PackId, u64> = self
            .writer
            .iter()
            .chain(&self.closing)
            .map(|writer| (writer.id, writer.synced_len()))
            .collect();
        let is_durable = |(_, place): &DirEntry| {
            let end = u64::from(place.offset) + u64::from(place.sealed_len);
            open.get(&place.pack).is_none_or(|synced| end <= *synced)
        };
        let (entries, later) =
            std::mem::take(&mut self.pending_order).into_iter().partition(is_durable);
        self.pending_order = later;
        let mut part = CommitPart { entries, ..CommitPart::default() };
        for pack in std::mem::take(&mut self.changed) {
            let Some(known) = self.packs.get_mut(&pack) else { continue };
            match open.get(&pack) {
                // Nothing of it is durable yet.
                Some(0) => drop(self.changed.insert(pack)),
                Some(synced) => {
                    known.row.info.size = *synced;
                    part.packs.insert(pack, known.row);
                }
                None => drop(part.packs.insert(pack, known.row)),
            }
        }
        self.collect_dirs(&mut part, &open);
        part
    }

    /// Entries of packs that stay open are kept in rows of their own, so that a
    /// restart can write the directory.
    fn collect_dirs(&mut self, part: &mut CommitPart, open: &HashMap<PackId, u64>) {
        let (kept, ended) = std::mem::take(&mut self.dir_rows)
            .into_iter()
            .partition(|(pack, _)| open.contains_key(pack));
        self.dir_rows = kept;
        let ended: Vec<(PackId, i64)> = ended;
        part.ended_dir_rows.extend(ended.into_iter().map(|(_, row)| row));
        let mut by_pack: BTreeMap<PackId, Vec<&DirEntry>> = BTreeMap::new();
        for entry in part.entries.iter().filter(|(_, place)| open.contains_key(&place.pack)) {
            by_pack.entry(entry.1.pack).or_default().push(entry);
        }
        for (pack, entries) in by_pack {
            let mut w = Writer::with_capacity(20 + entries.len() * 50);
            w.raw(&pack.0).list(entries, encode_entry);
            part.dir_rows.push((self.next_dir_row, w.into_vec()));
            self.dir_rows.push((pack, self.next_dir_row));
            self.next_dir_row += 1;
        }
    }
}

fn decode_dir_row(row: &[u8]) -> std::result::Result<(PackId, Vec<DirEntry>), DecodeError> {
    let mut r = Decoder::new(row);
    let pack = PackId(r.array("pack")?);
    let entries = r.list("entries", pack::ENTRIES_MAX, 50, |r| decode_entry(r, pack))?;
    r.finish("open directory")?;
    Ok((pack, entries))
}

/// See [`super::Blocks::prepare_commit`]. The table is not locked while files
/// are synced.
pub(super) fn prepare_commit(table: &Mutex<PackTable>, env: &Env) -> Result<CommitPart> {
    let (closing, open, dir) = {
        let mut table = table.lock();
        let open = table.writer.as_ref().and_then(PackWriter::unsynced);
        let open = open.map(|(file, len)| (file, len, table.writer.as_ref().map(|w| w.id)));
        (std::mem::take(&mut table.closing), open, table.dir.clone())
    };
    let fail = |path: PathBuf| move |source| Error::Cache { path, source };
    let mut result = Ok(());
    let (mut closed, mut unfinished) = (Vec::new(), Vec::new());
    for writer in closing {
        if result.is_err() || writer.is_empty() {
            unfinished.extend((!writer.is_empty()).then_some(writer));
            continue;
        }
        match writer.close(env) {
            Ok(info) => closed.push(info),
            Err(error) => {
                result = Err(fail(dir.join(writer.id.to_string()))(error));
                unfinished.push(writer);
            }
        }
    }
    if let (Ok(()), Some((file, ..))) = (&result, &open) {
        result = file.sync_data().map_err(fail(dir.clone()));
    }
    if result.is_ok() && (open.is_some() || !closed.is_empty()) {
        // New files need their names to be durable as well.
        result = File::open(&dir).and_then(|dir| dir.sync_all()).map_err(fail(dir));
    }
    let mut table = table.lock();
    for info in closed {
        if let Some(known) = table.packs.get_mut(&info.pack) {
            known.row = PackRow { state: PackState::Closed, info };
            table.changed.insert(info.pack);
        }
    }
    // Packs queued meanwhile come behind those that could not be finished.
    unfinished.append(&mut table.closing);
    table.closing = unfinished;
    result?;
    let is_still_open = |id: Option<PackId>| table.writer.as_ref().map(|writer| writer.id) == id;
    let synced = open.filter(|(.., id)| is_still_open(*id)).map(|(_, len, _)| len);
    Ok(table.collect(synced))
}
