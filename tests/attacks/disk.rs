//! Whoever has the disk between two mounts: changes any byte of state and cache, cuts
//! files, exchanges rows. What is opened then is right, or it is said that it is not.

use super::adversary::{Files, Recorder, Shown, each, is_a_state, scratch, showing, world_on};
use super::secrets::files_below;
use super::vault::{World, cx, name, noise, overwrite, read, remove, run, write};
use rusqlite::Connection;
use rusqlite::types::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tgcryptfs::engine::{Engine, Silent};
use tgcryptfs::store::{
    ErrorKind as StoreError, Fault, FaultOp, FaultRule, FaultStore, MemoryStore,
};
use vfs::Stability::{Buffered, Journaled};
use vfs::{ErrorKind, IfExists, Ino, Make, OpenFlags, SetAttr, Vfs};

/// A machine with files in the store and a store that is far away, so that its cache has
/// whole packs, and parts of others with their maps.
struct Attacked {
    world: World,
    engine: Engine,
    store: Arc<FaultStore>,
    recorder: Arc<Recorder>,
    /// What is in the files now, and each time that everything was uploaded.
    files: Files,
    uploaded: Vec<Files>,
}

impl Attacked {
    async fn new() -> Self {
        let recorder = Arc::new(Recorder::default());
        let store = Arc::new(FaultStore::new(recorder.clone(), 1));
        let world = world_on(store.clone()).await;
        let engine = world.open("a").await;
        let (files, uploaded) = (Files::new(), Vec::new());
        let mut machine = Self { world, engine, store, recorder, files, uploaded };
        for (number, (file, len)) in
            [("inline", 50), ("block", 40_000), ("blocks", 200_000)].into_iter().enumerate()
        {
            machine.write(file, noise(len, number as u64), Buffered).await;
        }
        machine.upload().await;
        machine.engine.clear_cache().unwrap();
        for (file, data) in &machine.files {
            assert!(read(&machine.engine, file).await.unwrap() == *data);
        }
        machine.write("whole", noise(70_000, 8), Buffered).await;
        machine.upload().await;
        let cache = machine.world.settings("a").cache_dir;
        let cached: Vec<_> = files_below(&cache)
            .iter()
            .map(|path| path.strip_prefix(&cache).unwrap().to_str().unwrap().to_owned())
            .collect();
        for (begin, end) in [("packs/", ""), ("parts/", ".parts"), ("parts/", ".map")] {
            let is_there = |path: &String| path.starts_with(begin) && path.ends_with(end);
            assert!(cached.iter().any(is_there), "no {begin}*{end} among {cached:?}");
        }
        machine
    }

    async fn write(&mut self, file: &str, data: Vec<u8>, stability: vfs::Stability) {
        write(&self.engine, file, data.clone(), stability).await.unwrap();
        self.files.insert(file.to_owned(), data);
    }

    async fn upload(&mut self) {
        self.engine.sync().await.unwrap();
        self.uploaded.push(self.files.clone());
    }

    /// Uploads as far as the first segment, which the store does not take.
    async fn upload_packs_only(&mut self) {
        let rule = FaultRule::new(FaultOp::Put, Fault::Fail(StoreError::Offline)).skip(1);
        let rule = self.store.add(rule);
        self.engine.sync().await.unwrap_err();
        assert!(self.store.fired(rule) > 0);
        self.store.remove(rule);
    }

    /// What is on the machine when it is not running.
    fn stop(self) -> (World, Files, Vec<Files>, Arc<Recorder>) {
        let Self { world, engine, recorder, files, uploaded, .. } = self;
        drop(engine);
        (world, files, uploaded, recorder)
    }
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
async fn look(world: &World, states: &[Files], what: &str) {
    match world.open_with("a", |settings| settings.read_only = true).await {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(engine) => {
            let shown = shown(&engine, &states[0]).await;
            assert!(is_a_state(&shown, states.iter()), "{what}: {:?}", shown.keys());
        }
    }
}

#[test]
fn a_flipped_bit_or_a_cut_in_any_local_file_is_noticed_or_harmless() {
    let (world, files, uploaded, _) = run(async {
        let mut machine = Attacked::new().await;
        machine.write("unsent", noise(90_000, 9), Journaled).await;
        machine.stop()
    });
    // Who cuts the database or its log puts an older state back, which is one.
    let states = [vec![files], uploaded].concat();
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
    assert!(attacks.len() > 200, "{}", attacks.len());
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
        look(&copy, &states, &format!("{} {at:?} {len}", relative.display())).await;
    });
}

/// Packs in the cache are linked elsewhere and may not be written to.
fn replace(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Whether anything is said when the machine opens, reads everything, uploads what
/// waits and checks itself. What it shows until then is right.
async fn notices(world: &World, files: &Files, what: &str) -> bool {
    let engine = match world.try_open("a").await {
        Err(error) => {
            println!("{what}: {error}");
            return true;
        }
        Ok(engine) => engine,
    };
    let shown = shown(&engine, files).await;
    assert!(is_a_state(&shown, std::iter::once(files)), "{what}: {:?}", shown.keys());
    let lost = shown.values().filter(|data| data.is_err()).count();
    let sent = engine.sync().await.err().map(|error| error.to_string());
    let problems = match engine.fsck(&Silent).await {
        Ok(report) => report.problems,
        Err(error) => vec![error.to_string()],
    };
    println!("{what}: {lost} files lost, upload: {sent:?}, check: {problems:?}");
    lost > 0 || sent.is_some() || !problems.is_empty()
}

/// Gives each row of a table what the next one holds; says how many there are.
fn exchange_rows(db: &Connection, table: &str, key: &str) -> usize {
    let select = format!("SELECT {key}, v FROM {table} ORDER BY {key}");
    let mut select = db.prepare(&select).unwrap();
    let rows: Vec<(Value, Vec<u8>)> = select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let update = format!("UPDATE {table} SET v = ?2 WHERE {key} = ?1");
    for ((key, _), (_, value)) in rows.iter().zip(rows.iter().cycle().skip(1)) {
        assert_eq!(db.execute(&update, (key, value)).unwrap(), 1);
    }
    rows.len()
}

/// A machine that stopped with rows in every table of its database.
async fn with_rows_in_every_table() -> (World, Files, Arc<Recorder>) {
    let mut machine = Attacked::new().await;
    // Segments that the store has not confirmed.
    for (number, file) in [(20, "sending"), (21, "sending more")] {
        machine.write(file, noise(70_000, number), Buffered).await;
        machine.upload_packs_only().await;
    }
    // Ops that are in no segment, blocks in a pack that is open.
    for (number, file) in [(30, "unsent"), (31, "unsent too")] {
        machine.write(file, noise(90_000, number), Journaled).await;
    }
    // Files that are open and have no name, in the last commit.
    let engine = machine.engine.clone();
    let mut handles = Vec::new();
    for file in ["gone", "gone too"] {
        let (attr, flags) = (SetAttr::default(), Some(OpenFlags::READ_WRITE));
        let made = engine.create(cx(), Ino::ROOT, name(file), &attr, IfExists::Reuse, flags).await;
        handles.extend(made.unwrap().handle);
        write(&engine, file, noise(70_000, 40), Journaled).await.unwrap();
        remove(&engine, file).await.unwrap();
    }
    // Small writes within blocks, of two files.
    for file in ["blocks", "whole"] {
        overwrite(&engine, file, b"patched", Journaled).await.unwrap();
        machine.files.get_mut(file).unwrap()[..7].copy_from_slice(b"patched");
    }
    // As a kill leaves it: from here on a copy is looked at.
    machine.world.backup("a", "killed");
    drop((handles, engine));
    let (world, files, _, recorder) = machine.stop();
    std::fs::remove_dir_all(world.dir.path().join("a")).unwrap();
    std::fs::rename(world.dir.path().join("killed"), world.dir.path().join("a")).unwrap();
    (world, files, recorder)
}

/// Each row is bound to its table and its key.
#[test]
fn rows_exchanged_in_the_database_are_noticed() {
    run(async {
        let (world, files, recorder) = with_rows_in_every_table().await;
        let objects = recorder.at(recorder.age());
        let machine = async |what: &str| {
            // With a store of its own, since it uploads.
            let copy = copy_of(&world, what);
            World { store: showing(&objects).await, ..copy }
        };
        let as_it_was = machine("nothing").await;
        assert!(!notices(&as_it_was, &files, "nothing exchanged").await);
        let tables = ["single", "ino", "dent", "link", "blk", "pack", "outbox", "sending"];
        let keyed = tables.into_iter().chain(["opendir", "orphan"]).map(|table| (table, "k"));
        for (table, key) in keyed.chain([("patch", "id")]) {
            let copy = machine(table).await;
            let db = Connection::open(copy.settings("a").state_dir.join("state.db")).unwrap();
            let rows = exchange_rows(&db, table, key);
            drop(db);
            assert!(rows >= 2, "{table} has {rows} rows: nothing to exchange");
            assert!(notices(&copy, &files, table).await, "nobody notices rows of {table}");
        }
    });
}

/// Of two small writes to one block that are not merged yet the later one wins, and
/// whoever has the database does not change that.
#[test]
fn small_writes_to_one_block_keep_their_order() {
    run(async {
        let world = world_on(Arc::new(MemoryStore::new())).await;
        let engine = world.open("a").await;
        write(&engine, "f", noise(40_000, 1), Buffered).await.unwrap();
        engine.sync().await.unwrap();
        overwrite(&engine, "f", b"first", Journaled).await.unwrap();
        overwrite(&engine, "f", b"after", Journaled).await.unwrap();
        drop(engine);
        let attacks = [
            ("nothing", ""),
            (
                "exchanged",
                "CREATE TEMP TABLE held AS SELECT id, v FROM patch;
                UPDATE patch SET v = (SELECT held.v FROM held WHERE held.id <> patch.id)",
            ),
            ("behind", "UPDATE patch SET id = id + 9 WHERE id = (SELECT min(id) FROM patch)"),
            ("before", "UPDATE patch SET id = id - 9 WHERE id = (SELECT max(id) FROM patch)"),
        ];
        for (what, attack) in attacks {
            let copy = copy_of(&world, what);
            let db = Connection::open(copy.settings("a").state_dir.join("state.db")).unwrap();
            let count = db.query_row("SELECT count(*) FROM patch", [], |row| row.get::<_, i64>(0));
            assert_eq!(count.unwrap(), 2);
            db.execute_batch(attack).unwrap();
            drop(db);
            let opened = copy.open_with("a", |settings| settings.read_only = true).await;
            let read = read(&opened.unwrap(), "f").await;
            if what == "nothing" {
                assert!(read.unwrap().starts_with(b"after"));
            } else {
                let error = read.map(drop).expect_err(what).to_string();
                let told = "a row of table patch does not authenticate";
                assert!(error.contains(told), "{what}: {error}");
            }
        }
    });
}

#[test]
fn an_entry_that_leads_nowhere_is_named() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        let attr = SetAttr::default();
        let made = name("left\u{1b}alone");
        let made = engine.make(cx(), Ino::ROOT, made, Make::Directory, &attr).await.unwrap();
        engine.close().await.unwrap();
        drop(engine);
        let db = world.settings("a").state_dir.join("state.db");
        let db = Connection::open(db).unwrap();
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
