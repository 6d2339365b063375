//! Whoever has the disk between two mounts: changes any byte of state and cache, cuts
//! files, exchanges rows. What is opened then is right, or it is said that it is not.

use super::adversary::{Files, Shown, each, is_a_state, scratch, world_on};
use super::secrets::files_below;
use super::vault::{World, cx, noise, read, run, write};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tgcryptfs::engine::{Engine, Silent};
use tgcryptfs::store::{ErrorKind as StoreError, FaultStore, MemoryStore};
use vfs::Stability::{Buffered, Journaled};
use vfs::{ErrorKind, Ino, Make, SetAttr, Vfs};

/// A machine with files in the store, files that are saved here only, and a full cache.
async fn machine() -> (World, Files) {
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new()), 1));
    let world = world_on(store).await;
    let engine = world.open("a").await;
    let mut files = Files::new();
    for (number, (file, len)) in
        [("inline", 50), ("block", 40_000), ("blocks", 200_000)].into_iter().enumerate()
    {
        let data = noise(len, number as u64);
        write(&engine, file, data.clone(), Buffered).await.unwrap();
        files.insert(file.to_owned(), data);
    }
    engine.sync().await.unwrap();
    let data = noise(90_000, 9);
    write(&engine, "unsent", data.clone(), Journaled).await.unwrap();
    files.insert("unsent".to_owned(), data);
    drop(engine);
    (world, files)
}

/// The machine's files elsewhere, so that one attack does not see the other.
fn copy_of(world: &World, what: &str) -> World {
    let copy = World { store: world.store.clone(), dir: scratch(), env: world.env.clone() };
    world.backup("a", what);
    std::fs::rename(world.dir.path().join(what), copy.dir.path().join("a")).unwrap();
    copy
}

async fn shown(engine: &Engine, files: &Files) -> Shown {
    let mut shown = BTreeMap::new();
    for file in files.keys() {
        match read(engine, file).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(_) => drop(shown.insert(file.clone(), Err(ErrorKind::Corrupt))),
            Ok(data) => drop(shown.insert(file.clone(), Ok(data))),
        }
    }
    shown
}

/// Opens the machine, which may fail, and reads everything, which may fail too.
async fn look(world: &World, files: &Files, what: &str) {
    match world.open_with("a", |settings| settings.read_only = true).await {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(engine) => {
            // Who cuts the database or its log puts an older state back, which is one.
            let mut uploaded = files.clone();
            uploaded.remove("unsent");
            let states = [files, &uploaded].into_iter();
            let shown = shown(&engine, files).await;
            assert!(is_a_state(&shown, states), "{what}: {:?}", shown.keys());
        }
    }
}

#[test]
fn a_flipped_bit_or_a_cut_in_any_local_file_is_noticed_or_harmless() {
    let (world, files) = run(machine());
    let root = world.dir.path().join("a");
    let mut attacks: Vec<(PathBuf, Option<usize>, usize)> = Vec::new();
    for path in files_below(&root) {
        let len = std::fs::metadata(&path).unwrap().len() as usize;
        let relative = path.strip_prefix(&root).unwrap().to_owned();
        let places = (0..len).step_by((len / 24).max(1)).chain(len.checked_sub(1));
        attacks.extend(places.map(|at| (relative.clone(), Some(at), len)));
        attacks
            .extend([0, len / 2, len.saturating_sub(1)].map(|cut| (relative.clone(), None, cut)));
    }
    assert!(attacks.len() > 150, "{}", attacks.len());
    let numbered: Vec<_> = attacks.into_iter().enumerate().collect();
    each(&numbered, async |(number, (relative, at, len))| {
        let copy = copy_of(&world, &format!("copy{number}"));
        let path = copy.dir.path().join("a").join(relative);
        let mut bytes = std::fs::read(&path).unwrap();
        match at {
            Some(at) => bytes[*at] ^= 1 << (at % 8),
            None => bytes.truncate(*len),
        }
        replace(&path, &bytes);
        look(&copy, &files, &format!("{} {at:?} {len}", relative.display())).await;
    });
}

/// Packs in the cache are linked elsewhere and may not be written to.
fn replace(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn rows_exchanged_in_the_database_are_noticed() {
    run(async {
        let (world, files) = machine().await;
        let tables = ["single", "ino", "dent", "link", "blk", "pack", "outbox", "opendir"];
        let mut exchanged = 0;
        for table in tables {
            let copy = copy_of(&world, table);
            let db = copy.settings("a").state_dir.join("state.db");
            let db = rusqlite::Connection::open(db).unwrap();
            let exchange = format!(
                "UPDATE {table} SET v = (SELECT o.v FROM {table} o WHERE o.k != {table}.k \
                 ORDER BY o.k LIMIT 1) WHERE (SELECT count(*) FROM {table}) > 1"
            );
            exchanged += usize::from(db.execute(&exchange, []).unwrap() > 0);
            drop(db);
            look(&copy, &files, table).await;
        }
        assert!(exchanged >= 6, "{exchanged} tables have more than one row");
    });
}

#[test]
fn an_entry_that_leads_nowhere_is_named() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        let attr = SetAttr::default();
        let made = super::vault::name("left\u{1b}alone");
        let made = engine.make(cx(), Ino::ROOT, made, Make::Directory, &attr).await.unwrap();
        engine.close().await.unwrap();
        drop(engine);
        let db = world.settings("a").state_dir.join("state.db");
        let db = rusqlite::Connection::open(db).unwrap();
        let ino = made.entry.attr.ino.get() as i64;
        assert_eq!(db.execute("DELETE FROM ino WHERE k = ?1", [ino]).unwrap(), 1);
        drop(db);
        let engine = world.open("a").await;
        let problems = engine.fsck(&Silent).await.unwrap().problems;
        let told = r#"entry "left\x1balone" of inode 1 leads nowhere"#;
        assert!(problems.iter().any(|problem| problem == told), "{problems:#?}");
    });
}

/// Flips a bit of each pack that only this machine has, and lets it go on.
async fn go_on_with_damaged_packs(at: impl Fn(usize) -> usize, is_closed: bool) {
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new()), 1));
    let world = world_on(store.clone()).await;
    let engine = world.open("a").await;
    write(&engine, "before", noise(50_000, 1), Buffered).await.unwrap();
    engine.sync().await.unwrap();
    write(&engine, "f", noise(200_000, 2), Journaled).await.unwrap();
    if is_closed {
        store.set_outage(Some(StoreError::Offline));
        engine.sync().await.unwrap_err();
        store.set_outage(None);
    }
    drop(engine);
    let packs = files_below(&world.settings("a").state_dir.join("unsent"));
    assert_eq!(packs.len(), 1);
    let mut bytes = std::fs::read(&packs[0]).unwrap();
    let place = at(bytes.len());
    bytes[place] ^= 1;
    replace(&packs[0], &bytes);
    let engine = world.open("a").await;
    let synced = engine.sync().await;
    if synced.is_ok() {
        // Then everybody else can read it.
        let fresh = world.open("fresh").await;
        assert!(read(&fresh, "f").await.unwrap() == noise(200_000, 2), "byte {place}");
        assert!(engine.fsck(&Silent).await.unwrap().problems.is_empty());
    } else {
        assert!(is_closed, "{synced:?}");
        assert!(read(&engine, "f").await.unwrap() == noise(200_000, 2));
    }
}

#[test]
fn a_damaged_beginning_of_an_open_pack_is_written_anew() {
    for at in [0, 20, 31, 32, 63] {
        run(go_on_with_damaged_packs(|_| at, false));
    }
}

#[test]
fn a_pack_whose_directory_was_damaged_here_is_never_said_to_be_uploaded() {
    for back in [1, 40, 64, 70, 150] {
        run(go_on_with_damaged_packs(|len| len - back, true));
    }
    for at in [0, 40] {
        run(go_on_with_damaged_packs(|_| at, true));
    }
}
