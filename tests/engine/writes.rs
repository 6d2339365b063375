//! What becomes of written data when something is full, broken or out of reach.

use super::support::{World, credential, cx, name, noise, read, run};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tgcryptfs::engine::{Engine, Error, Handle, Silent};
use tgcryptfs::env::Env;
use tgcryptfs::store::{self, FaultStore, MemoryStore, PutMode};
use vfs::{
    Allocate, At, Budget, Cookie, ErrorKind, IfExists, Ino, OpenFlags, Result, SetAttr, Stability,
    Vfs, WriteAt,
};

const BLOCK: u64 = 64 << 10;

async fn create(engine: &Engine, file: &str) -> Handle {
    let flags = Some(OpenFlags::READ_WRITE);
    let attr = SetAttr::default();
    let made = engine.create(cx(), Ino::ROOT, name(file), &attr, IfExists::Fail, flags).await;
    made.unwrap().handle.unwrap()
}

async fn write(
    engine: &Engine,
    file: &Handle,
    at: u64,
    data: &[u8],
    wanted: Stability,
) -> Result<()> {
    let (at, data) = (WriteAt::Offset(at), Bytes::copy_from_slice(data).into());
    engine.write(cx(), At::Open(file), at, data, wanted).await.map(drop)
}

async fn resize(engine: &Engine, file: &Handle, size: u64) {
    let size = SetAttr { size: Some(size), ..SetAttr::default() };
    engine.setattr(cx(), At::Open(file), &size).await.unwrap();
}

async fn open(engine: &Engine, file: &str) -> Handle {
    let ino = engine.lookup(cx(), Ino::ROOT, name(file)).await.unwrap().attr.ino;
    engine.open(cx(), ino, OpenFlags::READ_WRITE).await.unwrap()
}

/// Flips bits in every pack of the store, or puts back what was there.
async fn damage(world: &World) -> Vec<(store::ObjectName, Bytes)> {
    let mut whole = Vec::new();
    for object in world.store.list("").await.unwrap() {
        if object.size > 60_000 {
            let good = world.store.get(&object.name, None).await.unwrap();
            let mut bad = good.to_vec();
            let end = bad.len() - 2000;
            bad[100..end].iter_mut().step_by(50).for_each(|byte| *byte ^= 1);
            world.store.put(&object.name, bad.into(), PutMode::Overwrite).await.unwrap();
            whole.push((object.name, good));
        }
    }
    whole
}

async fn restore(world: &World, objects: Vec<(store::ObjectName, Bytes)>) {
    for (name, body) in objects {
        world.store.put(&name, body, PutMode::Overwrite).await.unwrap();
    }
}

#[test]
fn a_write_returns_while_packs_cannot_be_written_and_close_says_that_it_is_not_saved() {
    let (done, is_done) = std::sync::mpsc::channel();
    let body = move || {
        run(async {
            let world = World::new().await;
            let engine = world.open("a").await;
            let file = create(&engine, "f").await;
            let packs = world.settings("a").state_dir.join("unsent");
            std::fs::remove_dir_all(&packs).unwrap();
            let data = noise(3 << 20, 1);
            write(&engine, &file, 0, &data, Stability::Buffered).await.unwrap();
            engine.flush(cx(), &file).await.unwrap();
            engine.commit().await.unwrap_err();
            engine.flush(cx(), &file).await.unwrap_err();
            engine.flush(cx(), &file).await.unwrap();
            // Nothing was lost, and it is saved as soon as it can be.
            assert_eq!(read(&engine, "f").await.unwrap(), data);
            std::fs::create_dir(&packs).unwrap();
            engine.commit().await.unwrap();
            engine.flush(cx(), &file).await.unwrap();
            assert_eq!(read(&world.crash("a", "b").await, "f").await.unwrap(), data);
        });
        done.send(()).unwrap();
    };
    let test = Env::real().spawn("write", body).unwrap();
    if let Err(std::sync::mpsc::RecvTimeoutError::Timeout) =
        is_done.recv_timeout(Duration::from_secs(60))
    {
        panic!("the write never returns");
    }
    test.join().unwrap();
}

#[test]
fn a_block_that_cannot_be_read_holds_up_nothing_else() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        let mut data = noise(4 * BLOCK as usize, 1);
        let file = create(&engine, "f").await;
        write(&engine, &file, 0, &data, Stability::Buffered).await.unwrap();
        engine.sync().await.unwrap();
        engine.clear_cache().unwrap();
        let whole = damage(&world).await;
        // More than a patch, less than a block.
        let new = noise(40_000, 2);
        data[..40_000].copy_from_slice(&new);
        write(&engine, &file, 0, &new, Stability::Journaled).await.unwrap();
        let other = create(&engine, "g").await;
        write(&engine, &other, 0, &noise(100_000, 3), Stability::Journaled).await.unwrap();
        let after = world.crash("a", "b").await;
        assert_eq!(read(&after, "g").await.unwrap(), noise(100_000, 3));
        let kept = open(&after, "f").await;
        let read_new = after.read(cx(), At::Open(&kept), 0, 40_000).await.unwrap();
        assert_eq!(read_new.data.into_contiguous(), new);
        let lost = after.read(cx(), At::Open(&kept), 50_000, 10).await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::Corrupt);
        // What can be uploaded is, and it is said what cannot.
        let error = engine.sync().await.unwrap_err();
        assert!(
            matches!(&error, Error::Unmerged { ino, .. } if *ino == file.ino().get()),
            "{error}"
        );
        assert_eq!(engine.status().last_error, Some(error.to_string()));
        write(&engine, &other, 0, b"more", Stability::Uploaded).await.unwrap();
        write(&engine, &file, 0, &new, Stability::Uploaded).await.unwrap_err();
        restore(&world, whole).await;
        let fresh = world.open("fresh").await;
        assert_eq!(read(&fresh, "g").await.unwrap()[..4], *b"more");
        assert_eq!(read(&fresh, "f").await.unwrap(), noise(4 * BLOCK as usize, 1));
        // Once it can be read again, everything is merged and uploaded.
        engine.sync().await.unwrap();
        assert_eq!(read(&engine, "f").await.unwrap(), data);
        assert_eq!(read(&world.open("fresh2").await, "f").await.unwrap(), data);
        assert!(engine.fsck(&Silent).await.unwrap().problems.is_empty());
    });
}

#[test]
fn a_file_that_cannot_be_read_can_be_removed_and_replaced() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        for text in ["f", "g"] {
            let file = create(&engine, text).await;
            write(&engine, &file, 0, &noise(200_000, 1), Stability::Buffered).await.unwrap();
        }
        engine.sync().await.unwrap();
        engine.clear_cache().unwrap();
        damage(&world).await;
        for text in ["f", "g"] {
            let file = open(&engine, text).await;
            write(&engine, &file, 1, &noise(50_000, 2), Stability::Journaled).await.unwrap();
        }
        engine.unlink(cx(), Ino::ROOT, name("f")).await.unwrap();
        let file = open(&engine, "g").await;
        resize(&engine, &file, 0).await;
        write(&engine, &file, 0, &noise(150_000, 3), Stability::Uploaded).await.unwrap();
        engine.sync().await.unwrap();
        assert_eq!(engine.status().last_error, None);
        let fresh = world.open("fresh").await;
        assert_eq!(read(&fresh, "g").await.unwrap(), noise(150_000, 3));
    });
}

/// Changes of every shape to files of which nothing is cached, while the store is
/// out of reach, through crashes; then the store is there again.
#[test]
fn without_the_store_changes_to_uncached_files_are_kept_and_merged_later() {
    for seed in 0..6 {
        run(changes_without_the_store(seed));
    }
}

async fn changes_without_the_store(seed: u64) {
    let faulty = Arc::new(FaultStore::new(Arc::new(MemoryStore::new()), 1));
    let world = World::on(faulty.clone()).await;
    let mut engine = world.open("m0").await;
    let mut next = vfs::model::ops::numbers(seed);
    let mut below = move |limit: u64| u64::from(next()) % limit;
    let mut data = noise(10 * BLOCK as usize + 1000, seed);
    let file = create(&engine, "f").await;
    write(&engine, &file, 0, &data, Stability::Buffered).await.unwrap();
    drop(file);
    engine.sync().await.unwrap();
    for round in 0..3 {
        engine.clear_cache().unwrap();
        faulty.set_outage(Some(store::ErrorKind::Offline));
        let file = open(&engine, "f").await;
        for _ in 0..12 {
            let (at, len) = (below(14 * BLOCK), below(3 * BLOCK) + 1);
            let end = (at + len) as usize;
            match below(5) {
                0 => {
                    resize(&engine, &file, at).await;
                    data.resize(at as usize, 0);
                }
                // A hole is made by cutting and growing as well.
                1 => {
                    let size = data.len() as u64;
                    resize(&engine, &file, at.min(size)).await;
                    resize(&engine, &file, size).await;
                    let from = data.len().min(at as usize);
                    data[from..].fill(0);
                }
                _ => {
                    let new = noise(len as usize, at);
                    write(&engine, &file, at, &new, Stability::Buffered).await.unwrap();
                    data.resize(data.len().max(end), 0);
                    data[at as usize..end].copy_from_slice(&new);
                }
            }
            if below(3) == 0 {
                engine.commit().await.unwrap();
            }
            if below(8) == 0 {
                engine.sync().await.unwrap_err();
            }
        }
        engine.commit().await.unwrap();
        drop(file);
        faulty.set_outage(None);
        engine = world.crash(&format!("m{round}"), &format!("m{}", round + 1)).await;
        assert!(read(&engine, "f").await.unwrap() == data, "seed {seed}, after crash {round}");
    }
    engine.sync().await.unwrap();
    assert!(read(&engine, "f").await.unwrap() == data, "seed {seed}, merged");
    let fresh = world.open("fresh").await;
    assert!(read(&fresh, "f").await.unwrap() == data, "seed {seed}, on a new machine");
    assert_eq!(fresh.state_digest().unwrap(), engine.state_digest().unwrap());
    assert!(engine.fsck(&Silent).await.unwrap().problems.is_empty());
}

#[test]
fn the_quota_counts_what_is_not_saved_yet() {
    run(async {
        let world = World::new().await;
        let mut settings = world.settings("a");
        settings.quota_bytes = Some(4 << 20);
        let (store, env) = (world.store.clone(), world.env.clone());
        let engine = Engine::open(store, &credential(), settings, env, &Silent).await.unwrap();
        let file = create(&engine, "f").await;
        for i in 0..4 {
            let data = noise(1 << 20, i);
            write(&engine, &file, i << 20, &data, Stability::Buffered).await.unwrap();
        }
        let more = write(&engine, &file, 4 << 20, b"x", Stability::Buffered).await;
        assert_eq!(more.unwrap_err().kind(), ErrorKind::Quota);
        let copied = engine.copy(cx(), (At::Open(&file), 0), (At::Open(&file), 4 << 20), BLOCK);
        assert_eq!(copied.await.unwrap_err().kind(), ErrorKind::Quota);
        assert_eq!(engine.statfs(cx()).await.unwrap().bytes_free, 0);
        // What was removed or overwritten meanwhile does not count for long.
        resize(&engine, &file, 1 << 20).await;
        for i in 0..20 {
            let data = noise(1 << 20, 10 + i);
            write(&engine, &file, 1 << 20, &data, Stability::Buffered).await.unwrap();
        }
    });
}

#[test]
fn allocating_and_copying_keep_memory_bounded() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        let file = create(&engine, "f").await;
        write(&engine, &file, 0, &noise(1 << 20, 1), Stability::Journaled).await.unwrap();
        for i in 1..200 {
            let to = (At::Open(&file), (i << 20) + 7);
            engine.copy(cx(), (At::Open(&file), 0), to, 1 << 20).await.unwrap();
        }
        let unsaved = engine.status().unsaved_bytes;
        assert!(unsaved < 64 << 20, "{unsaved} bytes in memory");
        let what = Allocate::Zero { keep_size: true };
        engine.allocate(cx(), At::Open(&file), 10, 190 << 20, what).await.unwrap();
        let zeros = engine.read(cx(), At::Open(&file), 100 << 20, 100).await.unwrap();
        assert_eq!(zeros.data.into_contiguous(), vec![0; 100]);
    });
}

#[test]
fn cutting_a_file_reads_the_way_to_the_cut_and_not_what_is_cut_away() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        let file = create(&engine, "f").await;
        // Five nodes, and one above them.
        let blocks = 4 * 256 + 10;
        for block in 0..blocks {
            let mut data = vec![0; BLOCK as usize];
            data[..8].copy_from_slice(&(block + 1_u64).to_le_bytes());
            write(&engine, &file, block * BLOCK, &data, Stability::Buffered).await.unwrap();
        }
        engine.sync().await.unwrap();
        for (left, read_max) in [(300, 4), (0, 0)] {
            engine.clear_cache().unwrap();
            let before = engine.cache_stats().blocks_opened;
            resize(&engine, &file, left * BLOCK).await;
            engine.commit().await.unwrap();
            let read = engine.cache_stats().blocks_opened - before;
            assert!(read <= read_max, "{read} nodes were read to leave {left} blocks");
            assert_eq!(engine.status().used_bytes, left * BLOCK);
        }
    });
}

#[test]
fn a_listing_fails_rather_than_leave_out_what_cannot_be_read() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        let inos = [create(&engine, "f").await.ino(), create(&engine, "g").await.ino()];
        engine.close().await.unwrap();
        drop(engine);
        let budget = Budget { entries: 100, name_bytes: 1 << 20, with_attr: false };
        let list = async |engine: &Engine| {
            let page = engine.readdir(cx(), At::Ino(Ino::ROOT), Cookie::default(), budget).await;
            page.map(|page| page.entries.len())
        };
        assert_eq!(list(&world.open("a").await).await.unwrap(), 2);
        let db = world.settings("a").state_dir.join("state.db");
        let db = rusqlite::Connection::open(db).unwrap();
        let sql = "UPDATE ino SET v = zeroblob(length(v)) WHERE k = ?1";
        assert_eq!(db.execute(sql, [inos[1].get() as i64]).unwrap(), 1);
        drop(db);
        list(&world.open("a").await).await.unwrap_err();
    });
}
