//! The packs this machine knows of, the ones it is writing, and the blocks whose
//! places are not in the database yet.
//!
//! A pack's state is what a transaction has recorded, and only moves forward:
//!
//! * A commit records `Open` with the length that is on stable storage, and
//!   `Closed` once. Until that transaction is through nobody uploads the pack,
//!   so a crash before it may still cut the file.
//! * `Uploaded` is known in memory only: after a crash the same bytes are
//!   offered to the store again.
//! * The transaction that announces a pack records `Announced`. No commit writes
//!   a row of a pack that is `Closed`, so none can take that back.
//!
//! What the store has not confirmed lies in the directory of unsent packs, which
//! belongs to the machine's state; announced packs move to the cache.

use super::{Error, Keyring, Policy, Result};
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
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Pack files kept open for reading.
const FILES_MAX: usize = 128;

/// Where the local file of a pack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Local {
    /// There is none.
    No,
    /// With the packs that the store does not have for certain.
    Unsent,
    /// In the cache.
    Cached,
}

struct Known {
    row: PackRow,
    /// Rises with every pack, so that older ones are uploaded first.
    order: u64,
    local: Local,
    /// How much of the file is on stable storage, wherever its writer is now.
    durable: u64,
    /// What it adds to [`PackTable::unsent`].
    unsent: u64,
    file: Option<Arc<File>>,
    last_used: u64,
}

/// Everything about packs; see the module.
pub(super) struct PackTable {
    unsent_dir: PathBuf,
    cache_dir: PathBuf,
    packs: HashMap<PackId, Known>,
    writer: Option<PackWriter>,
    closing: Vec<PackWriter>,
    /// Bytes in files that the store does not have.
    unsent: u64,
    /// Blocks that no transaction has recorded, by id and in order.
    pending: HashMap<BlockId, BlockPlace>,
    pending_order: Vec<DirEntry>,
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
    pub(super) fn load(db: &Reader, keyring: &Keyring, policy: &Policy) -> Result<Self> {
        let mut table = Self {
            unsent_dir: policy.unsent_dir.clone(),
            cache_dir: policy.packs_dir(),
            packs: HashMap::new(),
            writer: None,
            closing: Vec::new(),
            unsent: 0,
            pending: HashMap::new(),
            pending_order: Vec::new(),
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
        table.find_files(Local::Cached)?;
        table.find_files(Local::Unsent)?;
        table.check_unsent()?;
        table.resume_open(db, keyring)?;
        Ok(table)
    }

    fn dir(&self, local: Local) -> &Path {
        if local == Local::Unsent { &self.unsent_dir } else { &self.cache_dir }
    }

    fn find_files(&mut self, local: Local) -> Result<()> {
        let dir = self.dir(local).to_owned();
        let error = |source| Error::Cache { path: dir.clone(), source };
        for entry in std::fs::read_dir(&dir).map_err(error)? {
            let entry = entry.map_err(error)?;
            let id = entry.file_name().to_str().and_then(parse_pack_id);
            match id.and_then(|id| self.packs.get_mut(&id)) {
                Some(known) => known.local = local,
                // Begun after the last commit of a run that was killed.
                None => match std::fs::remove_file(entry.path()) {
                    Err(source) if local == Local::Cached => {
                        log::warn!("{} cannot be removed: {source}", entry.path().display());
                    }
                    removed => removed.map_err(error)?,
                },
            }
        }
        Ok(())
    }

    /// Refuses to go on without the only copy of something.
    fn check_unsent(&mut self) -> Result<()> {
        let (mut packs, mut bytes) = (0, 0);
        let unsent: Vec<PackRow> = self
            .packs
            .values()
            .map(|known| known.row)
            .filter(|row| row.state < PackState::Announced)
            .collect();
        for PackRow { info, .. } in unsent {
            let path = self.unsent_path(info.pack);
            match std::fs::metadata(&path) {
                Ok(meta) if meta.len() >= info.size => self.set_unsent(info.pack, info.size),
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::Cache { path, source });
                }
                _ => (packs, bytes) = (packs + 1, bytes + info.size),
            }
        }
        let dir = self.unsent_dir.clone();
        if packs == 0 { Ok(()) } else { Err(Error::UnsentLost { dir, packs, bytes }) }
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
            let path = self.unsent_path(info.pack);
            let entries = dirs.remove(&info.pack).unwrap_or_default();
            let missing = io::Error::other(format!("no key for epoch {}", info.epoch));
            let writer = match keyring.epoch(info.epoch) {
                None => Err(missing),
                Some(keys) => PackWriter::resume(keys, info.pack, &path, info.size, entries),
            };
            // It is finished rather than continued, so that at most one is open.
            self.closing.push(writer.map_err(|source| Error::Cache { path, source })?);
        }
        Ok(())
    }

    /// The file of a pack that the store does not have for certain.
    pub(super) fn unsent_path(&self, pack: PackId) -> PathBuf {
        self.unsent_dir.join(pack.to_string())
    }

    fn cached_path(&self, pack: PackId) -> PathBuf {
        self.cache_dir.join(pack.to_string())
    }

    pub(super) fn learn(&mut self, row: PackRow) {
        self.tick += 1;
        let known = Known {
            row,
            order: self.tick,
            local: Local::No,
            durable: row.info.size,
            unsent: 0,
            file: None,
            last_used: 0,
        };
        self.packs.entry(row.info.pack).or_insert(known);
    }

    /// The one way to change the running total.
    fn set_unsent(&mut self, pack: PackId, bytes: u64) {
        if let Some(known) = self.packs.get_mut(&pack) {
            self.unsent = self.unsent - known.unsent + bytes;
            known.unsent = bytes;
        }
    }

    pub(super) fn row(&self, pack: PackId) -> Option<PackRow> {
        self.packs.get(&pack).map(|known| known.row)
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (&PackRow, Local)> {
        self.packs.values().map(|known| (&known.row, known.local))
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
        self.set_unsent(pack, writer.len());
        self.writer = Some(writer);
        let placed =
            placed.map_err(|source| Error::Cache { path: self.unsent_path(pack), source })?;
        self.pending.insert(id, placed);
        self.pending_order.push((id, placed));
        Ok(())
    }

    fn start_pack(&mut self, keys: &EpochKeys, env: &Env) -> Result<PackWriter> {
        let id = PackId::random(env);
        let path = self.unsent_path(id);
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
            known.local = Local::Unsent;
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
        if self.open_files >= FILES_MAX {
            self.packs.values_mut().for_each(|known| known.file = None);
            self.open_files = 0;
        }
        let local = self.packs.get(&pack).map_or(Local::No, |known| known.local);
        let path = self.dir(local).join(pack.to_string());
        let known = self.packs.get_mut(&pack).filter(|_| local != Local::No)?;
        known.last_used = self.tick;
        if known.file.is_none() {
            let Ok(file) = File::open(path) else {
                // Somebody removed it; the store may have it.
                known.local = if local == Local::Cached { Local::No } else { local };
                return None;
            };
            known.file = Some(Arc::new(file));
            self.open_files += 1;
        }
        known.file.clone()
    }

    pub(super) fn unsent_bytes(&self) -> u64 {
        self.unsent
    }

    /// Records how far a pack has come; nothing ever goes back.
    pub(super) fn advance(&mut self, pack: PackId, state: PackState) {
        let Some(known) = self.packs.get_mut(&pack) else { return };
        known.row.state = known.row.state.max(state);
        if known.row.state >= PackState::Uploaded {
            self.set_unsent(pack, 0);
        }
    }

    /// Packs that are announced and whose files are not in the cache yet.
    pub(super) fn to_be_moved(&self) -> Vec<PackInfo> {
        let is_announced = |known: &&Known| known.row.state == PackState::Announced;
        let unsent = self.packs.values().filter(|known| known.local == Local::Unsent);
        unsent.filter(is_announced).map(|known| known.row.info).collect()
    }

    /// Takes the file of an announced pack into the cache; says whether that was
    /// possible without copying it.
    pub(super) fn move_to_cache(&mut self, pack: PackId) -> bool {
        let is_moved = std::fs::rename(self.unsent_path(pack), self.cached_path(pack)).is_ok();
        if let Some(known) = self.packs.get_mut(&pack).filter(|_| is_moved) {
            known.local = Local::Cached;
        }
        is_moved
    }

    /// Removes the file of an announced pack that the cache has a copy of, or
    /// does without.
    pub(super) fn remove_unsent(&mut self, pack: PackId, local: Local) {
        if let Err(error) = std::fs::remove_file(self.unsent_path(pack)) {
            log::warn!("pack {pack} is in the store and its file cannot be removed: {error}");
        }
        if let Some(known) = self.packs.get_mut(&pack) {
            known.local = local;
            known.file = None;
        }
    }

    /// Lets go of the local copy of a pack that the store has too; says whether there
    /// was one. A file that cannot be removed is not read again by this process.
    pub(super) fn evict(&mut self, pack: PackId) -> bool {
        let path = self.cached_path(pack);
        let Some(known) = self.packs.get_mut(&pack) else { return false };
        if known.local != Local::Cached || known.row.state != PackState::Announced {
            return false;
        }
        known.local = Local::No;
        known.file = None;
        let _ = std::fs::remove_file(path);
        true
    }

    /// Evicts packs, those not used the longest first, until at most
    /// `bytes_max` are left.
    pub(super) fn shrink(&mut self, bytes_max: u64) {
        let mut clean: Vec<_> = self
            .packs
            .values()
            .filter(|known| known.local == Local::Cached && known.row.state == PackState::Announced)
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
        for (pack, row) in &part.packs {
            if let Some(known) = self.packs.get_mut(pack) {
                known.row = *row;
            }
        }
    }

    /// Takes what the next commit has to make durable.
    fn begin_sync(&mut self) -> Syncing {
        let is_unused = |writer: &PackWriter| {
            writer.is_empty() && self.packs.get(&writer.id).is_none_or(|known| known.durable == 0)
        };
        let (unused, closing): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.closing).into_iter().partition(is_unused);
        // Begun for a block that then could not be written.
        for empty in unused {
            self.set_unsent(empty.id, 0);
            self.packs.remove(&empty.id);
            let _ = std::fs::remove_file(self.unsent_path(empty.id));
        }
        let durable = |pack| self.packs.get(&pack).map_or(0, |known| known.durable);
        let open = self.writer.as_ref().filter(|writer| !writer.is_empty());
        let open = open.filter(|writer| durable(writer.id) < writer.len());
        let open = open.map(|writer| (writer.id, writer.file(), writer.len()));
        let mut ids = closing.iter().map(|writer| writer.id).chain(open.iter().map(|open| open.0));
        let has_new_files = ids.any(|pack| durable(pack) == 0);
        let entries = self.pending_order.len();
        Syncing { closing, open, has_new_files, entries, dir: self.unsent_dir.clone() }
    }

    /// Gathers what the transaction has to hold, given that everything in
    /// `synced` is on stable storage.
    fn collect(&mut self, synced: &Syncing, closed: &[PackInfo]) -> Result<CommitPart> {
        let mut part = CommitPart::default();
        let mut is_open = HashSet::new();
        let open = synced.open.iter().map(|(pack, _, len)| (*pack, *len, None));
        let closed = closed.iter().map(|info| (info.pack, info.size, Some(*info)));
        for (pack, len, info) in open.chain(closed) {
            if info.is_some() {
                self.set_unsent(pack, len);
            }
            let Some(known) = self.packs.get_mut(&pack) else { continue };
            known.durable = known.durable.max(len);
            let row = match info {
                Some(info) => PackRow { state: PackState::Closed, info },
                None => PackRow {
                    info: PackInfo { size: known.durable, ..known.row.info },
                    ..known.row
                },
            };
            part.packs.insert(pack, row);
        }
        is_open.extend(self.writer.iter().chain(&self.closing).map(|writer| writer.id));
        part.entries = self.pending_order.drain(..synced.entries).collect();
        // Everything that a transaction refers to was sealed before the sync began,
        // so there is no exception; should there be one, nothing is committed.
        for (id, place) in &part.entries {
            let end = u64::from(place.offset) + u64::from(place.sealed_len);
            if self.packs.get(&place.pack).is_none_or(|known| known.durable < end) {
                let source = io::Error::other(format!("block {id} was not synced"));
                return Err(Error::Sync { path: self.unsent_path(place.pack), source });
            }
        }
        self.collect_dirs(&mut part, &is_open);
        Ok(part)
    }

    /// Entries of packs that stay open are kept in rows of their own, so that a
    /// restart can write the directory.
    fn collect_dirs(&mut self, part: &mut CommitPart, open: &HashSet<PackId>) {
        let (kept, ended) = std::mem::take(&mut self.dir_rows)
            .into_iter()
            .partition(|(pack, _)| open.contains(pack));
        self.dir_rows = kept;
        let ended: Vec<(PackId, i64)> = ended;
        part.ended_dir_rows.extend(ended.into_iter().map(|(_, row)| row));
        let mut by_pack: BTreeMap<PackId, Vec<&DirEntry>> = BTreeMap::new();
        for entry in part.entries.iter().filter(|(_, place)| open.contains(&place.pack)) {
            by_pack.entry(entry.1.pack).or_default().push(entry);
        }
        for (pack, entries) in by_pack {
            part.dir_rows.push((self.next_dir_row, encode_dir_row(pack, &entries)));
            self.dir_rows.push((pack, self.next_dir_row));
            self.next_dir_row += 1;
        }
    }
}

/// What a row holds of the directory of a pack that is still open.
#[must_use]
pub fn encode_dir_row(pack: PackId, entries: &[&DirEntry]) -> Vec<u8> {
    let mut w = Writer::with_capacity(20 + entries.len() * 50);
    w.raw(&pack.0).list(entries.iter().copied(), encode_entry);
    w.into_vec()
}

/// Reads it.
pub fn decode_dir_row(row: &[u8]) -> std::result::Result<(PackId, Vec<DirEntry>), DecodeError> {
    let mut r = Decoder::new(row);
    let pack = PackId(r.array("pack")?);
    let entries = r.list("entries", pack::ENTRIES_MAX, 50, |r| decode_entry(r, pack))?;
    r.finish("open directory")?;
    Ok((pack, entries))
}

/// What one commit syncs.
struct Syncing {
    closing: Vec<PackWriter>,
    /// The open pack, its file and how long it was.
    open: Option<(PackId, Arc<File>, u64)>,
    /// Whether the names of files have to be made durable too.
    has_new_files: bool,
    /// Blocks not yet recorded: all of them are in these packs, or were durable.
    entries: usize,
    dir: PathBuf,
}

impl Syncing {
    /// Finishes packs and syncs files, without the table's lock.
    fn run(&self, env: &Env, sync: &dyn Fn(&File) -> io::Result<()>) -> Result<Vec<PackInfo>> {
        let path = |pack: PackId| self.dir.join(pack.to_string());
        let sync =
            |path: PathBuf, file: &File| sync(file).map_err(|source| Error::Sync { path, source });
        let mut closed = Vec::new();
        for writer in &self.closing {
            let written = writer.close(env);
            closed.push(written.map_err(|source| Error::Cache { path: path(writer.id), source })?);
            sync(path(writer.id), &writer.file())?;
        }
        if let Some((pack, file, _)) = &self.open {
            sync(path(*pack), file)?;
        }
        if self.has_new_files {
            let dir = File::open(&self.dir);
            let dir = dir.map_err(|source| Error::Sync { path: self.dir.clone(), source })?;
            sync(self.dir.clone(), &dir)?;
        }
        Ok(closed)
    }
}

/// See [`super::Blocks::prepare_commit`]. The table is not locked while files
/// are synced with `sync`; one call at a time.
pub(super) fn prepare_commit(
    table: &Mutex<PackTable>,
    env: &Env,
    sync: &dyn Fn(&File) -> io::Result<()>,
) -> Result<CommitPart> {
    let mut syncing = table.lock().begin_sync();
    let result = syncing.run(env, sync);
    let mut table = table.lock();
    match result {
        Ok(closed) => table.collect(&syncing, &closed),
        Err(error) => {
            // Packs queued meanwhile come behind those that could not be finished.
            syncing.closing.append(&mut table.closing);
            table.closing = syncing.closing;
            Err(error)
        }
    }
}
