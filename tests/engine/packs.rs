//! Packs on their way from this machine to the store.

use super::support::{World, cx, name, noise, read, run};
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tgcryptfs::engine::{Engine, Handle, Silent};
use tgcryptfs::store::{FaultOp, FaultStore, MemoryStore, ObjectName};
use vfs::{At, IfExists, Ino, OpenFlags, SetAttr, Stability, Vfs, WriteAt};

async fn put(engine: &Engine, file: &str, data: Vec<u8>, wanted: Stability) -> Handle {
    let (flags, attr) = (Some(OpenFlags::READ_WRITE), SetAttr::default());
    let made =
        engine.create(cx(), Ino::ROOT, name(file), &attr, IfExists::Reuse, flags).await.unwrap();
    let handle = made.handle.unwrap();
    let data = Bytes::from(data).into();
    engine.write(cx(), At::Open(&handle), WriteAt::End, data, wanted).await.unwrap();
    handle
}

/// The objects that hold blocks.
async fn packs(world: &World) -> Vec<ObjectName> {
    let listed = world.store.list("").await.unwrap();
    listed.into_iter().filter(|info| info.size > 60_000).map(|info| info.name).collect()
}

async fn lose_packs(world: &World) {
    let packs = packs(world).await;
    assert!(!packs.is_empty());
    for pack in packs {
        world.store.delete(&pack).await.unwrap();
    }
}

#[test]
fn an_fsync_beside_a_writer_that_fills_packs_survives_a_crash() {
    run(async {
        let world = World::new().await;
        let engine = world.open_with("a", |s| s.pack_size_max = 200_000).await.unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let (busy, stop) = (engine.clone(), is_over.clone());
        let writer = world.env.spawn("busy", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                for seed in (1000..1060).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    put(&busy, "busy", noise(1 << 20, seed), Stability::Buffered).await;
                }
            });
        });
        let writer = writer.unwrap();
        for seed in 0..6 {
            let file = format!("f{seed}");
            put(&engine, &file, noise(300_000, seed), Stability::Journaled).await;
            let copy = format!("crash{seed}");
            let after = world.crash("a", &copy).await;
            assert!(read(&after, &file).await.unwrap() == noise(300_000, seed), "{file}");
            drop(after);
            std::fs::remove_dir_all(world.dir.path().join(copy)).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });
}

#[test]
fn what_could_not_be_announced_is_announced_by_the_next_upload() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        put(&engine, "f", noise(200_000, 1), Stability::Journaled).await;
        // The transaction that announces fails once, as with a full disk.
        let db = world.settings("a").state_dir.join("state.db");
        let db = rusqlite::Connection::open(db).unwrap();
        db.execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON sending BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
        .unwrap();
        engine.sync().await.unwrap_err();
        db.execute_batch("DROP TRIGGER refuse").unwrap();
        // A commit in between saves nothing that is not so.
        put(&engine, "g", noise(100_000, 2), Stability::Journaled).await;
        engine.sync().await.unwrap();
        let fresh = world.open("fresh").await;
        assert_eq!(read(&fresh, "f").await.unwrap(), noise(200_000, 1));
        assert_eq!(fresh.state_digest().unwrap(), engine.state_digest().unwrap());
    });
}

#[test]
fn two_uploads_at_the_same_time_send_each_pack_once() {
    run(async {
        let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new()), 1));
        let world = World::on(store.clone()).await;
        let engine = world.open_with("a", |s| s.pack_size_max = 200_000).await.unwrap();
        put(&engine, "f", noise(1_000_000, 1), Stability::Buffered).await;
        let sent = Arc::new(Mutex::new(Vec::new()));
        let (begun, go_on) =
            (Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
        let seen = (sent.clone(), begun.clone(), go_on.clone());
        store.set_hook(Some(Arc::new(move |op, name| {
            let (sent, begun, go_on) = seen.clone();
            Box::pin(async move {
                if op == FaultOp::Put {
                    sent.lock().unwrap().push(name);
                    begun.add_permits(1);
                    drop(go_on.acquire().await);
                }
            })
        })));
        // The saver uploads what is full; before it is through, somebody syncs.
        engine.start(tokio::runtime::Handle::current());
        begun.acquire().await.unwrap().forget();
        let other = engine.clone();
        let syncing = tokio::spawn(async move { other.sync().await });
        world.env.sleep(Duration::from_millis(300)).await;
        go_on.add_permits(1);
        syncing.await.unwrap().unwrap();
        let mut sent = sent.lock().unwrap().clone();
        let count = sent.len();
        sent.sort_unstable();
        sent.dedup();
        assert!(count > 5 && sent.len() == count, "{count} puts of {} objects", sent.len());
    });
}

#[test]
fn removing_the_cache_loses_nothing_and_what_is_not_sent_is_missed() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        put(&engine, "sent", noise(200_000, 1), Stability::Buffered).await;
        engine.sync().await.unwrap();
        put(&engine, "unsent", noise(200_000, 2), Stability::Journaled).await;
        drop(engine);
        let settings = world.settings("a");
        std::fs::remove_dir_all(settings.cache_dir).unwrap();
        let engine = world.open("a").await;
        assert_eq!(read(&engine, "sent").await.unwrap(), noise(200_000, 1));
        assert_eq!(read(&engine, "unsent").await.unwrap(), noise(200_000, 2));
        drop(engine);
        std::fs::remove_dir_all(settings.state_dir.join("unsent")).unwrap();
        let error = world.try_open("a").await.unwrap_err().to_string();
        assert!(error.contains("not yet uploaded") && error.contains("unsent"), "{error}");
    });
}

#[test]
fn writing_again_heals_what_the_store_has_lost() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        put(&engine, "f", noise(200_000, 1), Stability::Buffered).await;
        engine.sync().await.unwrap();
        engine.clear_cache().unwrap();
        lose_packs(&world).await;
        read(&engine, "f").await.unwrap_err();
        put(&engine, "g", noise(200_000, 1), Stability::Buffered).await;
        engine.sync().await.unwrap();
        engine.clear_cache().unwrap();
        assert_eq!(read(&engine, "g").await.unwrap(), noise(200_000, 1));
        assert_eq!(read(&engine, "f").await.unwrap(), noise(200_000, 1));
    });
}

#[test]
fn a_check_asks_the_store_whatever_is_cached() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        put(&engine, "f", noise(2_000_000, 1), Stability::Buffered).await;
        engine.sync().await.unwrap();
        put(&engine, "unsent", noise(200_000, 2), Stability::Journaled).await;
        let sound = engine.fsck(&Silent).await.unwrap();
        assert_eq!(sound.problems, Vec::<String>::new());
        assert_eq!(sound.bytes, 2_200_000);
        // One bit of a block.
        let pack = packs(&world).await[0];
        let whole = world.store.get(&pack, None).await.unwrap();
        let mut bad = whole.to_vec();
        bad[500_000] ^= 1;
        let replace = tgcryptfs::store::PutMode::Overwrite;
        world.store.put(&pack, bad.into(), replace).await.unwrap();
        let damaged = engine.fsck(&Silent).await.unwrap().problems;
        assert!(damaged.len() == 1 && damaged[0].starts_with("/f: bytes "), "{damaged:?}");
        // Half of a pack, and none of it.
        world.store.put(&pack, whole.slice(..whole.len() / 2), replace).await.unwrap();
        let short = engine.fsck(&Silent).await.unwrap().problems;
        assert!(short.iter().any(|problem| problem.starts_with("object ")), "{short:?}");
        lose_packs(&world).await;
        let lost = engine.fsck(&Silent).await.unwrap().problems;
        assert!(lost.iter().any(|problem| problem.contains("has lost it")), "{lost:?}");
        assert!(lost.iter().any(|problem| problem.starts_with("/f: bytes 0 to")), "{lost:?}");
        assert!(!lost.iter().any(|problem| problem.contains("/unsent")), "{lost:?}");
        // That was noticed, so the same data is sent again.
        put(&engine, "again", noise(2_000_000, 1), Stability::Buffered).await;
        engine.sync().await.unwrap();
        engine.clear_cache().unwrap();
        assert_eq!(read(&engine, "f").await.unwrap(), noise(2_000_000, 1));
    });
}

#[test]
fn a_check_misses_lost_segments() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        let before = world.store.list("").await.unwrap();
        put(&engine, "f", b"short".to_vec(), Stability::Buffered).await;
        engine.sync().await.unwrap();
        assert_eq!(engine.fsck(&Silent).await.unwrap().problems, Vec::<String>::new());
        for info in world.store.list("").await.unwrap() {
            if !before.contains(&info) {
                world.store.delete(&info.name).await.unwrap();
            }
        }
        let problems = engine.fsck(&Silent).await.unwrap().problems;
        assert!(problems.len() == 1 && problems[0].starts_with("segment 0 of"), "{problems:?}");
    });
}
