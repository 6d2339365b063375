//! Blocks by id: deduplicated, compressed and sealed into packs on the way in;
//! found, fetched, opened and checked on the way out.
//!
//! A new block is in the open pack's file when [`Blocks::add`] returns, and its
//! place waits for the next commit. [`Blocks::prepare_commit`] makes the files
//! durable and hands out what the commit's transaction has to record, so that no
//! transaction refers to bytes that are not on disk.

mod local;
mod nodes;
mod proof;
mod table;

use super::pack::{self, DirEntry, PackDir};
use super::parts::{self, PartCache};
use super::{Error, Result};
use crate::crypto::block::{self, BlockHead};
use crate::crypto::compress::{Codec, compress};
use crate::crypto::{Epoch, EpochKeys, NamespaceKeys, names};
use crate::env::Env;
use crate::ids::{BlockId, NamespaceId, PackId};
use crate::log::record::PackInfo;
use crate::meta::db::{Key, Reader, Table};
use crate::meta::row::{BlockPlace, PackRow, PackState};
use crate::store::{BlobStore, ObjectName, PutMode};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use table::PackTable;

pub use crate::crypto::block::BlockType;
pub use crate::crypto::compress::Compression;
pub use local::CacheStats;
pub use nodes::{NodeReader, NodeWriter};
pub use proof::Proof;
pub use table::{CommitPart, decode_dir_row, encode_dir_row, save_places};

/// The keys of one namespace that this machine holds.
pub struct Keyring {
    /// The namespace.
    pub namespace: NamespaceId,
    /// Its constant keys.
    pub fixed: NamespaceKeys,
    /// Every epoch's keys.
    pub epochs: BTreeMap<Epoch, EpochKeys>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Keyring {
    /// The keys of the newest epoch: what new objects are sealed under.
    #[must_use]
    pub fn current(&self) -> &EpochKeys {
        self.epochs.values().next_back().expect("a keyring has at least one epoch")
    }

    /// The keys of `epoch`, if this machine holds them.
    #[must_use]
    pub fn epoch(&self, epoch: u32) -> Option<&EpochKeys> {
        self.epochs.get(&Epoch(epoch))
    }
}

/// What governs how blocks are kept.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Where packs lie until the store has them for certain.
    pub unsent_dir: PathBuf,
    /// Where the cache lies.
    pub cache_dir: PathBuf,
    /// Bytes of ciphertext kept there at most, unsent ones aside.
    pub cache_size_max: u64,
    /// Bytes of open blocks kept in memory at most.
    pub memory_max: u64,
    /// Bytes in a pack at most.
    pub pack_size_max: u64,
    /// Compression.
    pub compression: Compression,
    /// Whether equal blocks are kept once.
    pub dedup: bool,
}

impl Policy {
    fn packs_dir(&self) -> PathBuf {
        self.cache_dir.join("packs")
    }
}

/// Counters for `status` and tests.
#[derive(Debug, Default)]
pub struct Counters {
    /// Blocks sealed.
    pub sealed: AtomicU64,
    /// Blocks that were there already.
    pub deduplicated: AtomicU64,
    /// Blocks opened.
    pub opened: AtomicU64,
    /// Blocks found open in memory.
    pub hits: AtomicU64,
}

#[derive(Clone)]
struct ByBytes;

impl quick_cache::Weighter<BlockId, Bytes> for ByBytes {
    fn weight(&self, _: &BlockId, block: &Bytes) -> u64 {
        block.len() as u64 + 128
    }
}

/// Which copy of a pack is meant.
#[derive(Clone, Copy)]
enum PackCopy {
    /// The store's.
    Stored,
    /// The one that waits here to be uploaded.
    Unsent,
}

/// The blocks of one namespace.
pub struct Blocks {
    keyring: Arc<Keyring>,
    policy: Policy,
    store: Arc<dyn BlobStore>,
    env: Env,
    index: Mutex<Reader>,
    table: Mutex<PackTable>,
    parts: PartCache,
    open_blocks: quick_cache::sync::Cache<BlockId, Bytes, ByBytes>,
    /// What happened so far.
    pub counters: Counters,
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocks").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Blocks {
    /// Goes on where the database says the last run ended.
    pub fn open(
        keyring: Arc<Keyring>,
        policy: Policy,
        store: Arc<dyn BlobStore>,
        env: Env,
        index: Reader,
    ) -> Result<Self> {
        let parts_dir = policy.cache_dir.join("parts");
        for dir in [&policy.unsent_dir, &policy.packs_dir(), &parts_dir] {
            crate::env::make_dirs(dir)
                .map_err(|source| Error::Cache { path: dir.clone(), source })?;
        }
        // Whoever finds the directory cannot know whether its maker got that far.
        let above = policy.unsent_dir.parent().unwrap_or(Path::new("/"));
        std::fs::File::open(above)
            .and_then(|above| crate::env::sync_dir(&above))
            .map_err(|source| Error::Cache { path: above.to_owned(), source })?;
        let parts = PartCache::open(&parts_dir)?;
        let table = PackTable::load(&index, &keyring, &policy)?;
        let items = (policy.memory_max / (32 << 10)).clamp(64, 1 << 20) as usize;
        let open_blocks =
            quick_cache::sync::Cache::with_weighter(items, policy.memory_max, ByBytes);
        let blocks = Self {
            keyring,
            policy,
            store,
            env,
            index: Mutex::new(index),
            table: Mutex::new(table),
            parts,
            open_blocks,
            counters: Counters::default(),
        };
        // What a crash kept from its place in the cache.
        blocks.settle_files();
        Ok(blocks)
    }

    /// The keys.
    #[must_use]
    pub fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    /// The id of a block with this plaintext.
    #[must_use]
    pub fn id(&self, kind: BlockType, plain: &[u8]) -> BlockId {
        block::block_id(&self.keyring.fixed, kind, plain)
    }

    /// Where a block is; `None` if it is nowhere.
    pub fn place(&self, id: &BlockId) -> Result<Option<BlockPlace>> {
        if let Some(place) = self.table.lock().pending_place(id) {
            return Ok(Some(place));
        }
        let row = self.index.lock().get(Table::Block, Key::Bytes(&id.0))?;
        row.map(|row| {
            BlockPlace::decode(&row).map_err(|source| {
                crate::meta::db::Error::Row { table: Table::Block.name(), source }.into()
            })
        })
        .transpose()
    }

    /// Keeps a block and answers its id.
    pub fn add(&self, kind: BlockType, plain: &[u8]) -> Result<BlockId> {
        let id = self.id(kind, plain);
        if self.policy.dedup || kind == BlockType::Tree {
            let known = self.place(&id)?;
            if known.is_some_and(|place| self.table.lock().is_trusted(place.pack)) {
                self.counters.deduplicated.fetch_add(1, Ordering::Relaxed);
                return Ok(id);
            }
        }
        let (place, record) = self.seal(kind, id, plain);
        self.append(id, place, &record)?;
        self.counters.sealed.fetch_add(1, Ordering::Relaxed);
        Ok(id)
    }

    /// The record of a block, and its place but for pack and offset.
    fn seal(&self, kind: BlockType, id: BlockId, plain: &[u8]) -> (BlockPlace, Vec<u8>) {
        let keys = self.keyring.current();
        let (codec, body) = compress(plain, self.policy.compression);
        let head = BlockHead { block_type: kind, id, codec, plain_len: plain.len() as u32 };
        let mut record = Vec::with_capacity(body.len() + block::OVERHEAD);
        block::seal(&self.env, keys, &head, &body, &mut record);
        let place = BlockPlace {
            pack: PackId([0; 16]),
            offset: 0,
            sealed_len: record.len() as u32,
            plain_len: head.plain_len,
            epoch: keys.epoch().0,
            codec: codec.code(),
            kind: kind.code(),
        };
        (place, record)
    }

    fn append(&self, id: BlockId, place: BlockPlace, record: &[u8]) -> Result<()> {
        let size_max = self.policy.pack_size_max;
        self.table.lock().append((id, place), record, self.keyring.current(), size_max, &self.env)
    }

    /// The plaintext of a block.
    pub async fn get(&self, kind: BlockType, id: BlockId) -> Result<Bytes> {
        if let Some(block) = self.open_blocks.get(&id) {
            self.counters.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(block);
        }
        let place = self.place(&id)?.ok_or(Error::Missing { id })?;
        let read = || async {
            let record = self.record(&place).await?;
            self.open_record(kind, id, &place, &record)
        };
        let block = self.past_cache(place.pack, read).await?;
        self.counters.opened.fetch_add(1, Ordering::Relaxed);
        self.open_blocks.insert(id, block.clone());
        Ok(block)
    }

    /// Reads something of a pack. A bad copy in the cache, or one that cannot be read,
    /// does not hide a good one in the store; if that is lost, what is in the pack no
    /// longer stands for new data.
    async fn past_cache<T, F: Future<Output = Result<T>>>(
        &self,
        pack: PackId,
        read: impl Fn() -> F,
    ) -> Result<T> {
        let result = match read().await {
            Err(error) if error.is_of_copy() && self.drop_local_copy(pack) => read().await,
            other => other,
        };
        result.inspect_err(|error| {
            if error.is_loss() {
                self.table.lock().distrust(pack);
            }
        })
    }

    /// Opens a block's record and checks that it is the block asked for.
    pub fn open_record(
        &self,
        kind: BlockType,
        id: BlockId,
        place: &BlockPlace,
        record: &[u8],
    ) -> Result<Bytes> {
        let corrupt = |reason: String| Error::Corrupt { id, pack: place.pack, reason };
        if place.kind != kind.code() {
            return Err(corrupt("it is a block of another type".into()));
        }
        let keys = self
            .keyring
            .epoch(place.epoch)
            .ok_or_else(|| corrupt(format!("no key for epoch {}", place.epoch)))?;
        let codec = Codec::from_code(place.codec)
            .ok_or_else(|| corrupt(format!("unknown compression {}", place.codec)))?;
        let head = BlockHead { block_type: kind, id, codec, plain_len: place.plain_len };
        let plain = block::open(keys, &head, record)
            .and_then(|body| block::decode(&self.keyring.fixed, &head, body))
            .map_err(|error| corrupt(error.to_string()))?;
        Ok(plain.into())
    }

    /// A block's record, from the cache or the store.
    async fn record(&self, place: &BlockPlace) -> Result<Bytes> {
        if let Some(record) = self.read_local(place.pack, place.range())? {
            return Ok(record);
        }
        let row = self
            .table
            .lock()
            .row(place.pack)
            .ok_or(pack::Error::Corrupt { pack: place.pack, part: "announcement" })?;
        self.read_store(&row.info, place.range()).await
    }

    async fn read_store(&self, info: &PackInfo, range: Range<u64>) -> Result<Bytes> {
        if range.end > info.size {
            return Err(pack::Error::Corrupt { pack: info.pack, part: "length" }.into());
        }
        let name = self.pack_name(info)?;
        if self.store.capabilities().is_local {
            return parts::get(&*self.store, &name, info.pack, range).await;
        }
        let body = self.parts.read(&*self.store, &name, (info.pack, info.size), range).await?;
        self.parts.shrink(self.policy.cache_size_max);
        Ok(body)
    }

    /// The name of a pack in the store.
    pub fn pack_name(&self, info: &PackInfo) -> Result<ObjectName> {
        let keys = self
            .keyring
            .epoch(info.epoch)
            .ok_or(pack::Error::Corrupt { pack: info.pack, part: "epoch" })?;
        Ok(crate::log::object_name(&names::pack(keys, info.pack)))
    }

    /// Reads and checks the directory of a pack in the store.
    pub async fn fetch_dir(&self, info: &PackInfo) -> Result<Vec<DirEntry>> {
        self.past_cache(info.pack, || self.read_dir(info, PackCopy::Stored)).await
    }

    async fn read_dir(&self, info: &PackInfo, copy: PackCopy) -> Result<Vec<DirEntry>> {
        let lost = || pack::Error::Lost { pack: info.pack }.into();
        let read = async |range| match copy {
            PackCopy::Stored => self.read_store(info, range).await,
            PackCopy::Unsent => self.read_local(info.pack, range)?.ok_or_else(lost),
        };
        let corrupt = |part| Error::Pack(pack::Error::Corrupt { pack: info.pack, part });
        let keys = self.keyring.epoch(info.epoch).ok_or_else(|| corrupt("epoch"))?;
        if !(pack::HEADER_LEN + pack::TRAILER_LEN..=pack::LEN_MAX).contains(&info.size) {
            return Err(corrupt("length"));
        }
        let header = read(0..pack::HEADER_LEN).await?;
        let reader = PackDir::open(keys, info.pack, &header)?;
        let trailer = read(info.size - pack::TRAILER_LEN..info.size).await?;
        let place = reader.trailer(&trailer, info.size)?;
        let dir = read(place.offset..place.offset + place.len).await?;
        if blake3::hash(&dir).as_bytes() != &info.dir_hash.0 {
            return Err(corrupt("directory"));
        }
        Ok(reader.entries(&dir, place)?)
    }

    /// Takes in a pack that the log announces.
    pub fn learn_pack(&self, info: PackInfo) {
        self.table.lock().learn(PackRow { state: PackState::Announced, info });
    }

    /// Makes all new blocks durable here and hands out what to record of them.
    pub fn prepare_commit(&self) -> Result<CommitPart> {
        table::prepare_commit(&self.table, &self.env, &std::fs::File::sync_data)
    }

    /// Ends a commit whose transaction is on disk.
    pub fn committed(&self, part: &CommitPart) {
        self.table.lock().committed(part);
    }

    /// Closes the open pack, so that the next commit makes it ready to upload.
    pub fn close_pack(&self) {
        self.table.lock().close_open();
    }

    /// The packs that have come this far, oldest first.
    #[must_use]
    pub fn packs_in(&self, state: PackState) -> Vec<PackInfo> {
        self.table.lock().rows_in(state).into_iter().map(|row| row.info).collect()
    }

    /// Bytes of packs that are not yet in the store.
    #[must_use]
    pub fn unsent_bytes(&self) -> u64 {
        self.table.lock().unsent_bytes()
    }

    /// Uploads one closed pack, unless what says where its blocks are was damaged here:
    /// nobody else could read any of it.
    pub async fn upload(&self, info: &PackInfo) -> Result<()> {
        self.read_dir(info, PackCopy::Unsent).await?;
        let path = self.table.lock().unsent_path(info.pack);
        self.put_pack(info, &path).await?;
        self.table.lock().advance(info.pack, PackState::Uploaded);
        Ok(())
    }

    async fn put_pack(&self, info: &PackInfo, path: &Path) -> Result<()> {
        let name = self.pack_name(info)?;
        // The name is new and random, and the file has not changed since it was
        // recorded as closed: what is there already is this very pack, from an
        // upload whose answer was lost. A half of it cannot be there.
        self.store.put_file(&name, path, PutMode::CreateIfAbsent).await?;
        match self.store.size(&name).await? {
            Some(size) if size == info.size => Ok(()),
            _ => Err(pack::Error::Corrupt { pack: info.pack, part: "uploaded length" }.into()),
        }
    }

    /// Takes note that a transaction has announced packs.
    pub fn announced(&self, packs: &[PackInfo]) {
        for info in packs {
            self.table.lock().advance(info.pack, PackState::Announced);
        }
        self.settle_files();
    }

    /// Forgets open blocks, so that the next reads go to the disk.
    pub fn clear_memory(&self) {
        self.open_blocks.clear();
    }

    /// Bytes of open blocks in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.open_blocks.weight()
    }
}

#[cfg(test)]
mod tests;
