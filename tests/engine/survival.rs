//! What survives: a crash, the loss of all local state, a hostile store.

use super::support::{World, credential, cx, name, run};
use bytes::Bytes;
use std::sync::Arc;
use tgcryptfs::engine::{Engine, Error, Silent};
use tgcryptfs::store::{FileStore, ObjectName, PutMode};
use tgcryptfs::vault::{Credential, Passphrase, VaultError};
use vfs::{
    At, Context, Cred, Dac, ErrorKind, IfExists, Ino, Name, OpenFlags, SetAttr, SetTime, Stability,
    Vfs, WriteAt,
};

fn context(cred: &Cred) -> Context<'_> {
    Context { cred, dac: Dac::Delegated, op: None }
}

async fn write_file(engine: &Engine, name: &str, data: &[u8], stability: Stability) {
    let cred = Cred::root();
    let name = Name::new(name.as_bytes()).unwrap();
    let flags = Some(OpenFlags::READ_WRITE);
    let attr = SetAttr { mode: Some(0o644), ..SetAttr::default() };
    let made = engine
        .create(context(&cred), Ino::ROOT, name, &attr, IfExists::Reuse, flags)
        .await
        .unwrap();
    let handle = made.handle.unwrap();
    let bytes = Bytes::copy_from_slice(data);
    let at = WriteAt::Offset(0);
    engine.write(context(&cred), At::Open(&handle), at, bytes.into(), stability).await.unwrap();
}

async fn read_file(engine: &Engine, name: &str) -> vfs::Result<Vec<u8>> {
    let cred = Cred::root();
    let entry =
        engine.lookup(context(&cred), Ino::ROOT, Name::new(name.as_bytes()).unwrap()).await?;
    let handle = engine.open(context(&cred), entry.attr.ino, OpenFlags::READ).await?;
    let len = entry.attr.size as u32;
    let read = engine.read(context(&cred), At::Open(&handle), 0, len).await?;
    Ok(read.data.into_contiguous().to_vec())
}

fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut out);
    out
}

#[test]
fn what_was_synced_survives_a_crash_and_what_was_not_is_not_half_there() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        write_file(&engine, "safe", &noise(300_000, 1), Stability::Journaled).await;
        write_file(&engine, "small", b"a line", Stability::Journaled).await;
        write_file(&engine, "unsafe", &noise(500_000, 2), Stability::Buffered).await;
        let after = world.crash("a", "b").await;
        assert_eq!(read_file(&after, "safe").await.unwrap(), noise(300_000, 1));
        assert_eq!(read_file(&after, "small").await.unwrap(), b"a line");
        let lost = read_file(&after, "unsafe").await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn small_writes_are_patches_until_they_are_uploaded_and_survive_both() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        let mut data = noise(400_000, 3);
        write_file(&engine, "db", &data, Stability::Journaled).await;
        let sealed = engine.cache_stats().blocks_sealed;
        let cred = Cred::root();
        let ino =
            engine.lookup(context(&cred), Ino::ROOT, Name::new(b"db").unwrap()).await.unwrap();
        let page = Bytes::from(vec![7; 4096]);
        let at = WriteAt::Offset(65_536);
        let file = At::Ino(ino.attr.ino);
        engine.write(context(&cred), file, at, page.into(), Stability::Journaled).await.unwrap();
        data[65_536..69_632].fill(7);
        assert_eq!(engine.cache_stats().blocks_sealed, sealed, "a page is no block");
        let after = world.crash("a", "b").await;
        assert_eq!(read_file(&after, "db").await.unwrap(), data);
        after.sync().await.unwrap();
        assert_eq!(read_file(&world.open("fresh").await, "db").await.unwrap(), data);
    });
}

#[test]
fn equal_blocks_are_kept_once() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        let data = noise(1 << 20, 4);
        write_file(&engine, "one", &data, Stability::Journaled).await;
        let sealed = engine.cache_stats().blocks_sealed;
        write_file(&engine, "two", &data, Stability::Journaled).await;
        assert_eq!(engine.cache_stats().blocks_sealed, sealed);
        assert_eq!(read_file(&engine, "two").await.unwrap(), data);
    });
}

#[test]
fn the_cache_can_be_cleared_and_is_filled_from_the_store_again() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        write_file(&engine, "file", &noise(3 << 20, 5), Stability::Buffered).await;
        engine.sync().await.unwrap();
        engine.clear_cache().unwrap();
        assert_eq!(engine.cache_stats().clean_bytes, 0);
        assert_eq!(read_file(&engine, "file").await.unwrap(), noise(3 << 20, 5));
        let opened = engine.cache_stats().blocks_opened;
        assert!(opened >= 48, "{opened} of 48 blocks came from the store");
    });
}

#[test]
fn a_wrong_password_and_an_empty_store_have_errors_of_their_own() {
    run(async {
        let world = World::new().await;
        let wrong = Credential::Passphrase(Passphrase::new("wrong").unwrap());
        let (settings, env) = (world.settings("x"), world.env.clone());
        let error = Engine::open(world.store.clone(), &wrong, settings, env, &Silent).await;
        assert!(matches!(error.unwrap_err(), Error::Vault(VaultError::BadPassword)));
        let empty = Arc::new(tgcryptfs::store::MemoryStore::new());
        let (settings, env) = (world.settings("y"), world.env.clone());
        let error = Engine::open(empty, &credential(), settings, env, &Silent).await;
        assert!(matches!(error.unwrap_err(), Error::NoVault { .. }));
    });
}

#[test]
fn another_vault_in_the_same_place_is_refused_by_a_machine_that_knows_the_first() {
    run(async {
        let world = World::new().await;
        drop(world.open("a").await);
        let other = World::new().await;
        let (settings, env) = (world.settings("a"), world.env.clone());
        let error = Engine::open(other.store.clone(), &credential(), settings, env, &Silent).await;
        assert!(matches!(error.unwrap_err(), Error::Vault(VaultError::VaultMismatch { .. })));
    });
}

/// Every object of a store, damaged one at a time: whatever a new machine reads
/// is right, or it says that it is not.
#[test]
fn s01_s04_a_damaged_object_is_noticed() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(FileStore::create(dir.path()).unwrap());
        let world = World::on(store).await;
        let engine = world.open("a").await;
        write_file(&engine, "file", &noise(200_000, 6), Stability::Buffered).await;
        engine.close().await.unwrap();
        drop(engine);
        let objects = world.store.list("").await.unwrap();
        assert!(objects.len() >= 5, "{objects:?}");
        for (index, object) in objects.iter().enumerate() {
            let good = world.store.get(&object.name, None).await.unwrap();
            for damage in 0..3 {
                let mut bad = good.to_vec();
                match damage {
                    0 => bad[good.len() / 2] ^= 1,
                    1 => bad.truncate(good.len() - 1),
                    _ => bad.clear(),
                }
                replace(&world, &object.name, bad.into()).await;
                let machine = format!("fresh-{index}-{damage}");
                if let Ok(engine) = world.try_open(&machine).await {
                    match read_file(&engine, "file").await {
                        Ok(data) => assert_eq!(data, noise(200_000, 6)),
                        Err(error) => assert!(
                            matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound),
                            "{error}"
                        ),
                    }
                }
            }
            replace(&world, &object.name, good).await;
        }
    });
}

async fn replace(world: &World, name: &ObjectName, body: Bytes) {
    world.store.put(name, body, PutMode::Overwrite).await.unwrap();
}

#[test]
fn an_exclusive_create_may_be_repeated_after_a_crash() {
    run(async {
        let world = World::new().await;
        let a = world.open("a").await;
        let create = async |engine: &Engine, verifier: &[u8; 8]| {
            let (attr, how) = (SetAttr::default(), IfExists::SameVerifier(*verifier));
            let created = engine.create(cx(), Ino::ROOT, name("f"), &attr, how, None).await;
            created.map(|created| created.entry.attr.ino).map_err(|error| error.kind())
        };
        let first = create(&a, b"verifier").await.unwrap();
        a.commit().await.unwrap();
        let a = world.crash("a", "b").await;
        assert_eq!(create(&a, b"verifier").await, Ok(first));
        assert_eq!(create(&a, b"another!").await, Err(ErrorKind::Exists));
        // The client's next request sets the times, and it is a file like any other.
        let set = SetAttr { mtime: Some(SetTime::Now), ..SetAttr::default() };
        a.setattr(cx(), At::Ino(first), &set).await.unwrap();
        assert_eq!(create(&a, b"verifier").await, Err(ErrorKind::Exists));
    });
}
