//! Several machines, one after the other, and copies of one machine.

use super::support::{World, noise, overwrite, read, run, write};
use std::sync::Arc;
use std::time::Duration;
use tgcryptfs::engine::Error;
use tgcryptfs::store::MemoryStore;
use vfs::Stability::{Buffered, Journaled};

#[test]
fn machines_take_turns_and_see_what_the_others_wrote() {
    run(async {
        let world = World::new().await;
        for round in 0..3 {
            for machine in ["a", "b", "c"] {
                let engine = world.open(machine).await;
                for earlier in 0..round {
                    for other in ["a", "b", "c"] {
                        let name = format!("{other}{earlier}");
                        assert_eq!(read(&engine, &name).await.unwrap(), name.as_bytes());
                    }
                }
                let name = format!("{machine}{round}");
                write(&engine, &name, name.clone().into_bytes(), Buffered).await.unwrap();
                write(&engine, "shared", name.clone().into_bytes(), Buffered).await.unwrap();
                engine.close().await.unwrap();
            }
        }
        let (a, fresh) = (world.open("a").await, world.open("fresh").await);
        assert_eq!(read(&a, "shared").await.unwrap(), b"c2");
        assert_eq!(a.state_digest().unwrap(), fresh.state_digest().unwrap());
    });
}

#[test]
fn a_second_writer_is_told_before_its_log_contradicts_the_first() {
    run(async {
        let world = World::new().await;
        let (a, b) = (world.open("a").await, world.open("b").await);
        write(&a, "f", b"from a".to_vec(), Buffered).await.unwrap();
        a.sync().await.unwrap();
        write(&b, "f", b"from b".to_vec(), Journaled).await.unwrap();
        let error = b.sync().await.unwrap_err();
        assert!(matches!(error, Error::OtherWriter { .. }), "{error}");
        drop(b);
        // What it has stays its own, and can be looked at.
        let error = world.try_open("b").await.unwrap_err();
        assert!(matches!(error, Error::OtherWriter { .. }), "{error}");
        let look = world.open_with("b", |settings| settings.read_only = true).await.unwrap();
        assert_eq!(read(&look, "f").await.unwrap(), b"from b");
        let fresh = world.open("fresh").await;
        assert_eq!(read(&fresh, "f").await.unwrap(), b"from a");
    });
}

#[test]
fn a_machine_that_only_looked_first_is_found_by_others_when_it_writes() {
    run(async {
        let world = World::new().await;
        drop(world.open_with("b", |settings| settings.read_only = true).await.unwrap());
        let b = world.open("b").await;
        write(&b, "f", b"x".to_vec(), Buffered).await.unwrap();
        b.sync().await.unwrap();
        assert_eq!(read(&world.open("fresh").await, "f").await.unwrap(), b"x");
    });
}

#[test]
fn a_restored_backup_goes_on_from_the_store_with_a_life_of_its_own() {
    run(async {
        let world = World::new().await;
        let a = world.open("a").await;
        write(&a, "f", b"1".to_vec(), Buffered).await.unwrap();
        a.sync().await.unwrap();
        world.backup("a", "backup");
        write(&a, "f", b"2".to_vec(), Buffered).await.unwrap();
        a.close().await.unwrap();
        drop(a);
        let restored = world.open("backup").await;
        assert_eq!(read(&restored, "f").await.unwrap(), b"2");
        write(&restored, "f", b"3".to_vec(), Buffered).await.unwrap();
        restored.close().await.unwrap();
        assert_eq!(read(&world.open("fresh").await, "f").await.unwrap(), b"3");
    });
}

#[test]
fn a_restored_backup_with_changes_of_its_own_is_not_overwritten() {
    run(async {
        let world = World::new().await;
        let a = world.open("a").await;
        write(&a, "f", b"1".to_vec(), Buffered).await.unwrap();
        a.sync().await.unwrap();
        write(&a, "g", b"only here".to_vec(), Journaled).await.unwrap();
        world.backup("a", "backup");
        write(&a, "f", b"2".to_vec(), Buffered).await.unwrap();
        a.close().await.unwrap();
        drop(a);
        let error = world.try_open("backup").await.unwrap_err();
        assert!(matches!(error, Error::Diverged), "{error}");
        let look = world.open_with("backup", |settings| settings.read_only = true).await.unwrap();
        assert_eq!(read(&look, "g").await.unwrap(), b"only here");
    });
}

#[test]
fn small_writes_that_are_only_here_count_as_changes_of_this_machine() {
    run(async {
        let world = World::new().await;
        let a = world.open("a").await;
        write(&a, "f", noise(300_000, 1), Buffered).await.unwrap();
        a.sync().await.unwrap();
        overwrite(&a, "f", b"only here", Journaled).await.unwrap();
        world.backup("a", "killed");
        drop(a);
        let b = world.open("b").await;
        write(&b, "f", noise(300_000, 2), Buffered).await.unwrap();
        b.close().await.unwrap();
        let error = world.try_open("killed").await.unwrap_err();
        assert!(matches!(error, Error::OtherWriter { .. }), "{error}");
        let look = world.open_with("killed", |settings| settings.read_only = true).await.unwrap();
        assert_eq!(read(&look, "f").await.unwrap()[..9], *b"only here");
    });
}

#[test]
fn a_vault_that_is_out_of_sight_is_not_made_anew() {
    run(async {
        let world = World::new().await;
        let a = world.open("a").await;
        write(&a, "f", b"only here".to_vec(), Journaled).await.unwrap();
        drop(a);
        // The disk of the store is not mounted.
        let empty = World { store: Arc::new(MemoryStore::new()), ..world };
        let error = empty.try_open("a").await.unwrap_err();
        assert!(matches!(error, Error::VaultGone { .. }), "{error}");
        let error = empty.create("a").await.unwrap_err();
        assert!(matches!(error, Error::VaultGone { .. }), "{error}");
    });
}

#[test]
fn what_was_fsynced_is_uploaded_without_being_asked() {
    run(async {
        let world = World::new().await;
        let quick = |settings: &mut tgcryptfs::engine::Settings| settings.upload_delay_ms = 100;
        let engine = world.open_with("a", quick).await.unwrap();
        engine.start(tokio::runtime::Handle::current());
        write(&engine, "f", b"x".to_vec(), Journaled).await.unwrap();
        wait_for(&world, "f").await;
        // What a killed run left is uploaded by the next, though nothing changes.
        let b = world.open("b").await;
        write(&b, "g", b"x".to_vec(), Journaled).await.unwrap();
        world.backup("b", "killed");
        let next = world.open_with("killed", quick).await.unwrap();
        next.start(tokio::runtime::Handle::current());
        wait_for(&world, "g").await;
    });
}

/// Waits until a machine that knows nothing sees a file.
async fn wait_for(world: &World, file: &str) {
    for attempt in 0..100 {
        world.env.sleep(Duration::from_millis(200)).await;
        let fresh = world.open(&format!("look-{file}-{attempt}")).await;
        if read(&fresh, file).await.is_ok() {
            return;
        }
    }
    panic!("{file} was not uploaded");
}

#[test]
fn reading_alone_uploads_nothing_and_is_recorded_with_the_next_change() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        write(&engine, "f", b"x".to_vec(), Buffered).await.unwrap();
        engine.sync().await.unwrap();
        let before = world.names().await;
        let digest = engine.state_digest().unwrap();
        read(&engine, "f").await.unwrap();
        engine.sync().await.unwrap();
        assert_eq!(world.names().await, before);
        assert_eq!(engine.state_digest().unwrap(), digest);
        write(&engine, "g", b"x".to_vec(), Buffered).await.unwrap();
        engine.sync().await.unwrap();
        let fresh = world.open("fresh").await;
        let (a, b) = (access_time(&engine, "f").await, access_time(&fresh, "f").await);
        assert_eq!(a, b);
    });
}

#[test]
fn noatime_leaves_access_times_alone() {
    run(async {
        let world = World::new().await;
        let never = |settings: &mut tgcryptfs::engine::Settings| {
            settings.atime = tgcryptfs::engine::AtimePolicy::Noatime;
        };
        let engine = world.open_with("a", never).await.unwrap();
        write(&engine, "f", b"x".to_vec(), Buffered).await.unwrap();
        let before = access_time(&engine, "f").await;
        read(&engine, "f").await.unwrap();
        assert_eq!(access_time(&engine, "f").await, before);
        engine.close().await.unwrap();
        // The same read is noted where it should be.
        let engine = world.open("a").await;
        read(&engine, "f").await.unwrap();
        assert!(access_time(&engine, "f").await > before);
    });
}

async fn access_time(engine: &tgcryptfs::engine::Engine, name: &str) -> vfs::Timestamp {
    let cred = vfs::Cred::root();
    let cx = vfs::Context { cred: &cred, dac: vfs::Dac::Delegated, op: None };
    let name = vfs::Name::new(name.as_bytes()).unwrap();
    vfs::Vfs::lookup(engine, cx, vfs::Ino::ROOT, name).await.unwrap().attr.atime
}
