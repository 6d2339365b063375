//! Packs through commits, crashes, failed syncs and lost objects.

mod cache;

use super::*;
use crate::crypto::secret::Key32;
use crate::crypto::{EpochKeys, EpochSecret};
use crate::meta::db::Db;
use crate::store::{Capabilities, MemoryStore, ObjectInfo, PutOutcome};
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::ops::Range;

/// A store in memory that is far away, so that what is fetched is kept.
#[derive(Debug, Default)]
struct Remote(MemoryStore);

#[async_trait::async_trait]
impl BlobStore for Remote {
    fn capabilities(&self) -> Capabilities {
        Capabilities { is_local: false, ..self.0.capabilities() }
    }
    fn location(&self) -> String {
        self.0.location()
    }
    async fn put(
        &self,
        name: &ObjectName,
        body: Bytes,
        mode: PutMode,
    ) -> crate::store::Result<PutOutcome> {
        self.0.put(name, body, mode).await
    }
    async fn put_file(
        &self,
        name: &ObjectName,
        path: &Path,
        mode: PutMode,
    ) -> crate::store::Result<PutOutcome> {
        self.0.put_file(name, path, mode).await
    }
    async fn get(
        &self,
        name: &ObjectName,
        range: Option<Range<u64>>,
    ) -> crate::store::Result<Bytes> {
        self.0.get(name, range).await
    }
    async fn size(&self, name: &ObjectName) -> crate::store::Result<Option<u64>> {
        self.0.size(name).await
    }
    async fn list(&self, prefix: &str) -> crate::store::Result<Vec<ObjectInfo>> {
        self.0.list(prefix).await
    }
    async fn delete(&self, name: &ObjectName) -> crate::store::Result<()> {
        self.0.delete(name).await
    }
}

struct Machine {
    blocks: Blocks,
    db: Db,
    dir: tempfile::TempDir,
    store: Arc<Remote>,
    pack_size_max: u64,
}

const PACK_SIZE_MAX: u64 = 200_000;

fn open(dir: &Path, store: &Arc<Remote>, pack_size_max: u64) -> Result<(Blocks, Db)> {
    let (namespace, env) = (NamespaceId([1; 16]), Env::real());
    let secret = EpochSecret::new(Key32::copy_of(&[2; 32]));
    let epoch = EpochKeys::new(namespace, Epoch(0), &secret);
    let fixed = NamespaceKeys::new(Key32::copy_of(&[3; 32]));
    let keyring = Keyring { namespace, fixed, epochs: [(Epoch(0), epoch)].into() };
    let policy = Policy {
        unsent_dir: dir.join("unsent"),
        cache_dir: dir.join("cache"),
        cache_size_max: 1 << 30,
        memory_max: 1 << 20,
        pack_size_max,
        compression: Compression::None,
        dedup: true,
    };
    let db = Db::open(dir, &Key32::copy_of(&[4; 32]), env.clone())?;
    let reader = db.reader()?;
    Ok((Blocks::open(Arc::new(keyring), policy, store.clone(), env, reader)?, db))
}

impl Machine {
    fn new() -> Self {
        Self::with_packs_of(PACK_SIZE_MAX)
    }

    fn with_packs_of(pack_size_max: u64) -> Self {
        let (dir, store) = (tempfile::tempdir().unwrap(), Arc::new(Remote::default()));
        let (blocks, db) = open(dir.path(), &store, pack_size_max).unwrap();
        Self { blocks, db, dir, store, pack_size_max }
    }

    fn add(&self, seed: u8) -> BlockId {
        self.blocks.add(BlockType::Data, &noise(seed)).unwrap()
    }

    fn prepare(&self, sync: &dyn Fn(&File) -> io::Result<()>) -> Result<CommitPart> {
        table::prepare_commit(&self.blocks.table, &self.blocks.env, sync)
    }

    fn finish(&self, part: &CommitPart) {
        self.db.write(|txn| part.save(txn)).unwrap();
        self.blocks.committed(part);
    }

    fn commit(&self) {
        self.finish(&self.blocks.prepare_commit().unwrap());
    }

    /// Uploads everything and announces it as an engine does.
    async fn upload(&self) -> Vec<PackInfo> {
        self.blocks.close_pack();
        self.commit();
        let packs = self.blocks.packs_in(PackState::Closed);
        for info in &packs {
            self.blocks.upload(info).await.unwrap();
        }
        let row = |info| PackRow { state: PackState::Announced, info };
        self.db
            .write(|txn| {
                packs.iter().try_for_each(|info| {
                    txn.put(Table::Pack, Key::Bytes(&info.pack.0), &row(*info).encode())
                })
            })
            .unwrap();
        self.blocks.announced(&packs);
        packs
    }

    /// What a crash leaves: files and database as they are.
    fn crash(self) -> Self {
        let Self { blocks, db, dir, store, pack_size_max } = self;
        drop((blocks, db));
        let (blocks, db) = open(dir.path(), &store, pack_size_max).unwrap();
        Self { blocks, db, dir, store, pack_size_max }
    }

    async fn has(&self, id: BlockId, seed: u8) -> bool {
        self.blocks.get(BlockType::Data, id).await.is_ok_and(|block| block == noise(seed))
    }

    fn unsent_on_disk(&self) -> u64 {
        let files = std::fs::read_dir(self.dir.path().join("unsent")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    }
}

fn noise(seed: u8) -> Vec<u8> {
    let mut out = vec![0; 60_000];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut out);
    out
}

use crate::store::suite::block_on;

#[test]
fn a_pack_that_rolls_over_while_it_is_synced_loses_nothing() {
    block_on(async {
        let machine = Machine::new();
        let id = machine.add(0);
        let rolled = Cell::new(false);
        let part = machine
            .prepare(&|file| {
                if !rolled.replace(true) {
                    (1..9).for_each(|seed| _ = machine.add(seed));
                }
                file.sync_data()
            })
            .unwrap();
        machine.finish(&part);
        let machine = machine.crash();
        assert!(machine.has(id, 0).await);
        // It goes on from there, and what was never committed is no obstacle.
        let other = machine.add(1);
        machine.upload().await;
        let machine = machine.crash();
        assert!(machine.has(id, 0).await && machine.has(other, 1).await);
    });
}

#[test]
fn a_failed_sync_is_never_taken_for_a_full_disk() {
    let machine = Machine::new();
    let full = |_: &File| Err(io::Error::from(io::ErrorKind::StorageFull));
    machine.add(0);
    let open = machine.prepare(&full).unwrap_err();
    assert!(matches!(open, Error::Sync { .. }) && !open.is_full(), "{open}");
    machine.blocks.close_pack();
    let closing = machine.prepare(&full).unwrap_err();
    assert!(matches!(closing, Error::Sync { .. }) && !closing.is_full(), "{closing}");
}

#[test]
fn a_full_disk_is_told_apart_and_can_be_tried_again() {
    let source = io::Error::from(io::ErrorKind::StorageFull);
    assert!(Error::Cache { path: "pack".into(), source }.is_full());
}

#[test]
fn a_pack_is_not_uploaded_before_its_transaction_is_through() {
    block_on(async {
        let machine = Machine::new();
        let id = machine.add(0);
        machine.blocks.close_pack();
        let part = machine.blocks.prepare_commit().unwrap();
        assert_eq!(machine.blocks.packs_in(PackState::Closed), []);
        machine.finish(&part);
        assert_eq!(machine.blocks.packs_in(PackState::Closed).len(), 1);
        let machine = machine.crash();
        assert_eq!(machine.blocks.packs_in(PackState::Closed).len(), 1);
        assert!(machine.has(id, 0).await);
    });
}

#[test]
fn a_pack_never_goes_back() {
    block_on(async {
        let machine = Machine::new();
        machine.add(0);
        let packs = machine.upload().await;
        machine.blocks.upload(&packs[0]).await.unwrap_err();
        machine.blocks.table.lock().advance(packs[0].pack, PackState::Uploaded);
        // Neither here nor in what the next commit saves.
        machine.add(1);
        machine.commit();
        assert_eq!(machine.blocks.packs_in(PackState::Announced), packs);
        let machine = machine.crash();
        assert_eq!(machine.blocks.packs_in(PackState::Announced), packs);
    });
}

#[test]
fn the_running_total_of_unsent_bytes_is_what_lies_there() {
    block_on(async {
        let machine = Machine::new();
        let agrees = |machine: &Machine| {
            assert_eq!(machine.blocks.unsent_bytes(), machine.unsent_on_disk());
        };
        (0..8).for_each(|seed| _ = machine.add(seed));
        agrees(&machine);
        machine.commit();
        agrees(&machine);
        let machine = machine.crash();
        agrees(&machine);
        machine.upload().await;
        agrees(&machine);
        assert_eq!(machine.blocks.unsent_bytes(), 0);
        agrees(&machine.crash());
    });
}

#[test]
fn what_lies_in_the_cache_can_go_and_what_is_unsent_is_missed() {
    block_on(async {
        let machine = Machine::new();
        let sent = machine.add(0);
        machine.upload().await;
        let unsent = machine.add(1);
        machine.commit();
        std::fs::remove_dir_all(machine.dir.path().join("cache")).unwrap();
        // Also while it runs.
        assert!(machine.has(sent, 0).await && machine.has(unsent, 1).await);
        let machine = machine.crash();
        assert!(machine.has(sent, 0).await && machine.has(unsent, 1).await);
        machine.add(2);
        machine.commit();
        std::fs::remove_dir_all(machine.dir.path().join("unsent")).unwrap();
        let error = open(machine.dir.path(), &machine.store, PACK_SIZE_MAX).unwrap_err();
        assert!(matches!(error, Error::UnsentLost { packs: 2, .. }), "{error}");
    });
}

#[test]
fn a_directory_that_a_crash_left_wrong_in_the_cache_is_fetched_again() {
    block_on(async {
        let machine = Machine::new();
        let id = machine.add(0);
        let info = machine.upload().await[0];
        machine.blocks.shrink_cache(0);
        machine.blocks.fetch_dir(&info).await.unwrap();
        let parts = machine.dir.path().join(format!("cache/parts/{}.parts", info.pack));
        std::fs::write(&parts, vec![0; info.size as usize]).unwrap();
        let dir = machine.blocks.fetch_dir(&info).await.unwrap();
        assert_eq!(dir[0].0, id);
        // Shortened, or gone while the map is there.
        std::fs::write(&parts, b"").unwrap();
        machine.blocks.fetch_dir(&info).await.unwrap();
        std::fs::remove_file(&parts).unwrap();
        assert!(machine.has(id, 0).await);
    });
}

#[test]
fn a_cache_that_cannot_be_written_is_gone_around_and_used_again_when_it_can() {
    block_on(async {
        let machine = Machine::new();
        let mut ids = Vec::new();
        for seed in 0..4 {
            ids.push(machine.add(seed));
            machine.upload().await;
        }
        machine.blocks.shrink_cache(0);
        // Without the blocks in memory.
        let machine = machine.crash();
        let parts = machine.dir.path().join("cache/parts");
        let kept = || machine.blocks.parts.bytes();
        assert!(machine.has(ids[0], 0).await);
        let before = kept();
        assert!(before > 0);
        let aside = parts.with_extension("aside");
        std::fs::rename(&parts, &aside).unwrap();
        std::fs::write(&parts, "in the way").unwrap();
        assert!(machine.has(ids[1], 1).await);
        assert_eq!(kept(), before, "nothing is said to be kept that is not");
        std::fs::remove_file(&parts).unwrap();
        std::fs::rename(&aside, &parts).unwrap();
        assert!(machine.has(ids[2], 2).await && kept() > before);
        let machine = machine.crash();
        for (seed, id) in (0..).zip(ids) {
            assert!(machine.has(id, seed).await);
        }
    });
}

#[test]
fn packs_in_the_cache_cost_no_descriptors() {
    block_on(async {
        let machine = Machine::new();
        let mut ids = Vec::new();
        for seed in 0..20 {
            ids.push((machine.add(seed), seed));
            machine.upload().await;
        }
        machine.blocks.shrink_cache(0);
        for (id, seed) in ids {
            assert!(machine.has(id, seed).await);
        }
        assert!(machine.blocks.parts.bytes() >= 20 << 20);
        let parts = machine.dir.path().join("cache/parts");
        let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| {
            std::fs::read_link(fd.unwrap().path()).ok().filter(|path| path.starts_with(&parts))
        });
        assert_eq!(open.count(), 0);
        machine.blocks.shrink_cache(5 << 20);
        assert_eq!(machine.blocks.parts.bytes(), 5 << 20);
    });
}
