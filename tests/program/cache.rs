//! S30 for the cache, over a store that is far away: each change on its disk fails in
//! turn, or all of them from one on. The engine itself, beside which nothing else needs
//! the disk: what is read is right, what is written is uploaded, and the cache is used
//! again when its disk works.

use super::disk::{Disk, Fault, Image, Of};
use super::far::Far;
use super::support;
use super::vault::{World, cx, name, noise, read, remove, run, write};
use fuser::Errno;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tgcryptfs::engine::{Engine, Error, Settings, Silent};
use tgcryptfs::store::MemoryStore;
use vfs::Stability::Buffered;
use vfs::{Ino, Vfs};

/// Files of the vault, by their numbers, in packs of their own.
const FILES: u64 = 3;
const LEN: usize = 150_000;

/// A vault over a store that is far away, and the disk for the cache of its one machine.
struct Setting {
    world: World,
    disk: Disk,
    point: PathBuf,
    /// Each run writes something that was not there before.
    runs: u64,
}

impl Setting {
    async fn new(point: &Path) -> Self {
        let world = World::on(Arc::new(Far(MemoryStore::new()))).await;
        let disk = Disk::mount(point, Image::empty());
        let setting = Self { world, disk, point: point.to_owned(), runs: 0 };
        let engine = setting.open().await.unwrap();
        for number in 0..FILES {
            write(&engine, &number.to_string(), noise(LEN, number), Buffered).await.unwrap();
            engine.sync().await.unwrap();
        }
        engine.close().await.unwrap();
        setting
    }

    async fn open(&self) -> Result<Engine, Error> {
        let change = |settings: &mut Settings| {
            settings.cache_dir = self.point.join("cache");
            // With a checkpoint each time, whose nodes are written beside the cache.
            settings.checkpoint_len_min = 1;
        };
        self.world.open_with("a", change).await
    }

    /// Begins without a cache, has changes on its disk fail, and does what needs one.
    /// Answers how many changes there were.
    async fn run(&mut self, error: Errno, changes: Range<u64>) -> u64 {
        let what = format!("{error:?} at changes {changes:?}");
        drop(std::fs::remove_dir_all(self.point.join("cache")));
        self.disk.fail(Some(Fault { changes, of: Of::Changes, error }));
        let engine = match self.open().await {
            Ok(engine) => engine,
            // Its directories cannot be made: that is said, and nothing else is done.
            Err(failed) => {
                assert!(failed.to_string().contains("cache"), "{what}: {failed:?}");
                self.disk.fail(None);
                self.open().await.unwrap_or_else(|still| panic!("{what}: {still:?}"))
            }
        };
        self.runs += 1;
        work(&engine, self.runs, &what).await;
        let tried = self.disk.tried();
        self.disk.fail(None);
        check(&engine, &what).await;
        engine.close().await.unwrap();
        drop(engine);
        // As what is left is found by the next.
        let engine = self.open().await.unwrap_or_else(|left| panic!("{what}: {left:?}"));
        check(&engine, &what).await;
        engine.close().await.unwrap();
        tried
    }
}

/// Reads what is in the store, writes more and uploads it, empties the cache, and reads
/// again. None of it fails.
async fn work(engine: &Engine, run: u64, what: &str) {
    assert_reads(engine, what).await;
    let data = noise(LEN, 1000 + run);
    write(engine, "new", data.clone(), Buffered).await.unwrap();
    engine.sync().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert!(read(engine, "new").await.unwrap() == data, "{what}");
    engine.clear_cache().unwrap();
    assert_reads(engine, what).await;
    assert!(read(engine, "new").await.unwrap() == data, "{what}: from the store");
    remove(engine, "new").await.unwrap();
    engine.sync().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
}

/// With a disk that works: all is right, and what was fetched once is kept.
async fn check(engine: &Engine, what: &str) {
    assert_reads(engine, what).await;
    engine.clear_cache().unwrap();
    assert_reads(engine, what).await;
    let problems = engine.fsck(&Silent).await.unwrap().problems;
    assert!(problems.is_empty(), "{what}: {problems:?}");
    assert!(engine.cache_stats().clean_bytes > 0, "{what}: nothing is kept");
    assert!(engine.lookup(cx(), Ino::ROOT, name("new")).await.is_err(), "{what}");
}

async fn assert_reads(engine: &Engine, what: &str) {
    for number in 0..FILES {
        let data = read(engine, &number.to_string()).await;
        assert!(data.unwrap() == noise(LEN, number), "{what}: file {number}");
    }
}

#[test]
fn s30_a_cache_whose_disk_fails_at_any_change_is_never_in_the_way() {
    if !support::is_root("a disk of its own") {
        return;
    }
    let point = tempfile::tempdir().unwrap();
    run(async {
        let mut setting = Setting::new(point.path()).await;
        let tried = setting.run(Errno::EIO, 0..0).await;
        assert!(tried > 20, "{tried} changes");
        for number in 0..tried {
            // Turn and turn about, since the script is the same.
            let errors = [Errno::EIO, Errno::ENOSPC];
            let (once, on) = (errors[number as usize % 2], errors[(number as usize + 1) % 2]);
            setting.run(once, number..number + 1).await;
            setting.run(on, number..u64::MAX).await;
        }
        println!("each of {tried} changes failed");
        setting.disk.unmount();
    });
}

/// The disk of the cache is gone altogether while the vault is open.
#[test]
fn s30_a_cache_whose_disk_is_gone_is_not_missed() {
    if !support::is_root("a disk of its own") {
        return;
    }
    let point = tempfile::tempdir().unwrap();
    run(async {
        let setting = Setting::new(point.path()).await;
        for (number, error) in [(1, Errno::EIO), (2, Errno::ENOSPC)] {
            let engine = setting.open().await.unwrap();
            check(&engine, "at first").await;
            engine.close().await.unwrap();
            drop(engine);
            // Everything is in the cache and nothing in memory.
            let engine = setting.open().await.unwrap();
            setting.disk.take_away(Some(error));
            work(&engine, number, "the disk is gone").await;
            setting.disk.take_away(None);
            check(&engine, "the disk is back").await;
            engine.close().await.unwrap();
        }
        setting.disk.unmount();
    });
}
