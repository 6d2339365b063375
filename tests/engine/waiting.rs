//! Who waits for the store, how long, and who is told instead.

use super::support::{World, cx, name, noise, read, run, write};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tgcryptfs::engine::Engine;
use tgcryptfs::env::Env;
use tgcryptfs::store::{
    ErrorKind as StoreError, Fault, FaultOp, FaultRule, FaultStore, MemoryStore,
};
use tokio::sync::Semaphore;
use vfs::{Allocate, At, ErrorKind, Ino, Scope, SeekTo, Stability, Vfs, WriteAt};

/// A vault over a store that can fail, where waiting takes no time.
async fn world() -> (World, Arc<FaultStore>) {
    let faulty = Arc::new(FaultStore::new(Arc::new(MemoryStore::new()), 1));
    let mut world = World::on(faulty.clone()).await;
    world.env = Env::simulated(7).0;
    (world, faulty)
}

/// A file of which nothing is here any more.
async fn cold(engine: &Engine) -> Ino {
    write(engine, "cold", noise(500_000, 1), Stability::Buffered).await.unwrap();
    engine.sync().await.unwrap();
    engine.clear_cache().unwrap();
    engine.lookup(cx(), Ino::ROOT, name("cold")).await.unwrap().attr.ino
}

/// Every call that may need the store, for a file of which nothing is here.
async fn ask_all(engine: &Engine, ino: Ino) -> Vec<vfs::Result<()>> {
    let at = At::Ino(ino);
    let zero = Allocate::Zero { keep_size: true };
    let scope = Scope::Range { file: at, offset: 0, len: 0, data_only: false };
    vec![
        engine.read(cx(), at, 0, 100_000).await.map(drop),
        engine.seek(cx(), at, 0, SeekTo::Hole).await.map(drop),
        engine.copy(cx(), (at, 10), (at, 300_000), 100_000).await.map(drop),
        engine.allocate(cx(), at, 100_001, 70_000, zero).await.map(drop),
        Vfs::sync(engine, cx(), scope, Stability::Uploaded).await.map(drop),
    ]
}

#[test]
fn callers_that_wait_get_what_was_out_of_reach_for_a_while() {
    run(async {
        let (world, faulty) = world().await;
        let engine = world.open("a").await.patient();
        let ino = cold(&engine).await;
        for op in [FaultOp::Get, FaultOp::Put, FaultOp::Size] {
            faulty.add(FaultRule::new(op, Fault::Fail(StoreError::Offline)).chance_permille(500));
        }
        for told in ask_all(&engine, ino).await {
            told.unwrap();
        }
        assert!(faulty.calls(FaultOp::Get) > 3);
        faulty.heal();
        let data = read(&engine, "cold").await.unwrap();
        assert!(read(&world.open("fresh").await, "cold").await.unwrap() == data);
    });
}

#[test]
fn callers_that_wait_are_told_in_the_end_and_others_at_once() {
    run(async {
        let (world, faulty) = world().await;
        let engine = world.open("a").await;
        let ino = cold(&engine).await;
        faulty.set_outage(Some(StoreError::Offline));
        for (fs, min, max) in [(engine.clone(), 0, 5), (engine.patient(), 60, 70)] {
            let started = world.env.monotonic();
            let read = fs.read(cx(), At::Ino(ino), 0, 100).await;
            assert_eq!(read.unwrap_err().kind(), ErrorKind::Unavailable);
            let waited = (world.env.monotonic() - started).as_secs();
            assert!((min..=max).contains(&waited), "{waited} s, not {min} to {max}");
        }
        // What is damaged is no reason to wait.
        faulty.heal();
        faulty.add(FaultRule::new(FaultOp::Get, Fault::Missing));
        let started = world.env.monotonic();
        engine.patient().read(cx(), At::Ino(ino), 0, 100).await.unwrap_err();
        assert!(world.env.monotonic() - started < Duration::from_secs(5));
    });
}

/// An engine with more to upload than writers may leave behind.
async fn owing(world: &World) -> Engine {
    let engine = world.open_with("a", |settings| settings.dirty_max = 1 << 20).await.unwrap();
    write(&engine, "owed", noise(2 << 20, 1), Stability::Journaled).await.unwrap();
    engine
}

/// Writers beside each other, each at a place of its own; what each was told.
async fn write_side_by_side(engine: &Engine, count: u64) -> Vec<vfs::Result<()>> {
    let ino = engine.lookup(cx(), Ino::ROOT, name("owed")).await.unwrap().attr.ino;
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..count {
        let engine = engine.clone();
        writers.spawn(async move {
            let (at, data) = (WriteAt::Offset(number), Bytes::from_static(b"x").into());
            engine.write(cx(), At::Ino(ino), at, data, Stability::Buffered).await.map(drop)
        });
    }
    writers.join_all().await
}

/// Makes each call of a store take so long that all who are about to ask have asked.
#[expect(clippy::disallowed_methods, reason = "time has to pass for the others")]
fn slow(store: &FaultStore) {
    let moment = || tokio::time::sleep(Duration::from_millis(20));
    store.set_hook(Some(Arc::new(move |_, _| Box::pin(moment()))));
}

fn calls(store: &FaultStore) -> u64 {
    FaultOp::ALL.into_iter().map(|op| store.calls(op)).sum()
}

#[test]
fn writers_that_wait_for_the_store_share_one_upload() {
    run(async {
        let (world, faulty) = world().await;
        let engine = owing(&world).await.patient();
        let before = calls(&faulty);
        for told in write_side_by_side(&engine, 100).await {
            told.unwrap();
        }
        let made = calls(&faulty) - before;
        assert!((3..50).contains(&made), "{made} calls for a hundred writers");
    });
}

#[test]
fn those_who_wait_until_it_is_uploaded_share_one_upload() {
    run(async {
        let (world, faulty) = world().await;
        let engine = owing(&world).await.patient();
        slow(&faulty);
        let before = calls(&faulty);
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..100 {
            let engine = engine.clone();
            waiting.spawn(async move {
                let name = format!("{number}");
                write(&engine, &name, noise(1000, number), Stability::Buffered).await.unwrap();
                Vfs::sync(&engine, cx(), Scope::Volume, Stability::Uploaded).await.unwrap();
            });
        }
        waiting.join_all().await;
        let made = calls(&faulty) - before;
        assert!((3..60).contains(&made), "{made} calls for a hundred");
        faulty.heal();
        let fresh = world.open("fresh").await;
        for number in 0..100 {
            assert!(read(&fresh, &format!("{number}")).await.unwrap() == noise(1000, number));
        }
    });
}

#[test]
fn writers_share_what_they_learn_of_a_store_that_is_out_of_reach() {
    run(async {
        let (world, faulty) = world().await;
        let engine = owing(&world).await;
        faulty.set_outage(Some(StoreError::Offline));
        slow(&faulty);
        let before = calls(&faulty);
        for told in write_side_by_side(&engine, 100).await {
            assert_eq!(told.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        let made = calls(&faulty) - before;
        assert!((1..50).contains(&made), "{made} calls for a hundred writers");
        faulty.heal();
        for told in write_side_by_side(&engine.patient(), 100).await {
            told.unwrap();
        }
        engine.sync().await.unwrap();
        let data = read(&world.open("fresh").await, "owed").await.unwrap();
        assert!(data[..100] == [b'x'; 100] && data.len() == 2 << 20);
    });
}

#[test]
fn writers_that_come_again_are_not_kept_while_somebody_uploads() {
    run(async {
        let (world, faulty) = world().await;
        let engine = owing(&world).await;
        let leave = Arc::new(Semaphore::new(0));
        let begun = Arc::new(Semaphore::new(0));
        let (gate, calls) = (Arc::clone(&leave), Arc::clone(&begun));
        faulty.set_hook(Some(Arc::new(move |_, _| {
            calls.add_permits(1);
            let gate = Arc::clone(&gate);
            Box::pin(async move { drop(gate.acquire().await.unwrap()) })
        })));
        let (first, patient) = (engine.clone(), engine.patient());
        let first = tokio::spawn(async move { write_side_by_side(&first, 1).await });
        begun.acquire().await.unwrap().forget();
        // The one that uploads is in the store, and stays there.
        let others = write_side_by_side(&engine, 10).await;
        for told in others {
            assert_eq!(told.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        let waiting = tokio::spawn(async move { write_side_by_side(&patient, 3).await });
        leave.add_permits(1);
        let told = first.await.unwrap().into_iter().chain(waiting.await.unwrap());
        told.for_each(|told| told.unwrap());
    });
}
