//! S01, S03 and S04 under a vault that is open: its store lies for a while to a machine
//! that reads and writes, and is honest again.

use super::adversary::{Files, Insider, Kind, Recorder, add_key_file, open_fresh, world_on};
use super::vault::{noise, overwrite, read, run, write};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tgcryptfs::engine::{Engine, Silent};
use tgcryptfs::store::{
    BlobStore, Capabilities, MemoryStore, ObjectInfo, ObjectName, PutMode, PutOutcome, Result,
};
use vfs::Stability::{Buffered, Journaled};
use vfs::{ErrorKind, Stability};

/// What is shown in the place of objects, and which are withheld.
type Lies = BTreeMap<ObjectName, Option<Bytes>>;

/// A store that takes what it is given and shows what it likes.
#[derive(Debug, Default)]
struct Fickle {
    honest: Arc<Recorder>,
    lies: Mutex<Lies>,
}

impl Fickle {
    /// Lies from now on; without any it is honest.
    fn lie(&self, lies: Lies) {
        *self.lies.lock().unwrap() = lies;
    }

    fn lie_about(&self, name: &ObjectName) -> Option<Option<Bytes>> {
        self.lies.lock().unwrap().get(name).cloned()
    }
}

#[async_trait]
impl BlobStore for Fickle {
    fn capabilities(&self) -> Capabilities {
        self.honest.capabilities()
    }

    fn location(&self) -> String {
        self.honest.location()
    }

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        self.honest.put(name, body, mode).await
    }

    async fn put_file(&self, name: &ObjectName, path: &Path, mode: PutMode) -> Result<PutOutcome> {
        self.honest.put_file(name, path, mode).await
    }

    async fn get(&self, name: &ObjectName, range: Option<Range<u64>>) -> Result<Bytes> {
        match self.lie_about(name) {
            None => self.honest.get(name, range).await,
            // As a store says it that has nothing.
            Some(None) => MemoryStore::new().get(name, range).await,
            Some(Some(body)) => {
                let len = body.len() as u64;
                let Range { start, end } = range.unwrap_or(0..len);
                let start = start.min(len);
                Ok(body.slice(start as usize..end.clamp(start, len) as usize))
            }
        }
    }

    async fn size(&self, name: &ObjectName) -> Result<Option<u64>> {
        match self.lie_about(name) {
            None => self.honest.size(name).await,
            Some(shown) => Ok(shown.map(|body| body.len() as u64)),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let mut listed = self.honest.list(prefix).await?;
        listed.retain_mut(|info| match self.lie_about(&info.name) {
            None => true,
            Some(None) => false,
            Some(Some(body)) => {
                info.size = body.len() as u64;
                true
            }
        });
        Ok(listed)
    }

    async fn delete(&self, name: &ObjectName) -> Result<()> {
        self.honest.delete(name).await
    }
}

/// What a store may say of each pack of data.
#[derive(Clone, Copy, Debug)]
enum Lie {
    Flipped,
    Cut,
    Emptied,
    AnotherPack,
    /// And of everything else: it shows what it did at that age.
    Older(usize),
}

/// The lies themselves, about the store as it is now.
async fn lies(lie: Lie, recorder: &Recorder) -> Lies {
    let objects = recorder.at(recorder.age());
    let packs = Insider::look_into(recorder).await.of_kind(Kind::DataPack);
    assert!(packs.len() >= 2, "{} packs", packs.len());
    if let Lie::Older(age) = lie {
        let then = recorder.at(age);
        let newer = objects.into_keys().filter(|name| !then.contains_key(name));
        return newer.map(|name| (name, None)).collect();
    }
    let shown = packs.iter().enumerate().map(|(number, pack)| {
        let body = &objects[pack];
        let shown = match lie {
            Lie::Flipped => {
                let mut body = body.to_vec();
                body.iter_mut().step_by(512).for_each(|byte| *byte ^= 1);
                Bytes::from(body)
            }
            Lie::Cut => body.slice(..body.len() / 2),
            Lie::AnotherPack => objects[&packs[(number + 1) % packs.len()]].clone(),
            Lie::Emptied => Bytes::new(),
            Lie::Older(_) => unreachable!("all of it is older"),
        };
        (*pack, Some(shown))
    });
    shown.collect()
}

/// How many files cannot be read; what can be is right.
async fn unreadable(engine: &Engine, files: &Files, what: &str) -> usize {
    let mut count = 0;
    for (file, data) in files {
        match read(engine, file).await {
            Ok(found) => assert!(found == *data, "{what}: wrong data in {file}"),
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::NotFound, "{what}: {file} is gone");
                count += 1;
            }
        }
    }
    count
}

async fn put(engine: &Engine, files: &mut Files, file: &str, data: Vec<u8>, wanted: Stability) {
    write(engine, file, data.clone(), wanted).await.unwrap();
    files.insert(file.to_owned(), data);
}

/// Reads, writes and checks while the store lies, and then while it does not.
async fn go_through(
    lie: Lie,
    (store, engine): (&Fickle, &Engine),
    files: &mut Files,
    text: &'static [u8],
) {
    let what = format!("{lie:?}");
    // Nothing is read from this machine.
    engine.clear_cache().unwrap();
    store.lie(lies(lie, &store.honest).await);
    assert!(unreadable(engine, files, &what).await > 0, "{what}: not noticed");
    // Writing goes on: something new, what is in the store already if that is believed,
    // and a piece of a file that cannot be read.
    put(engine, files, &format!("new, {what}"), noise(90_000, text.len() as u64), Buffered).await;
    let again = files["first"].clone();
    put(engine, files, &format!("again, {what}"), again, Journaled).await;
    overwrite(engine, "second", text, Buffered).await.unwrap();
    files.get_mut("second").unwrap()[..text.len()].copy_from_slice(text);
    let uploaded = engine.sync().await.map_err(|error| error.to_string());
    let left = unreadable(engine, files, &what).await;
    let is_noticed = engine.fsck(&Silent).await.map_or(true, |report| !report.problems.is_empty());
    assert!(is_noticed, "{what}: a check finds nothing");
    println!("{what}: {left} files cannot be read, upload: {uploaded:?}");
    store.lie(Lies::new());
    // With what the lies have left in the cache.
    assert_eq!(unreadable(engine, files, &format!("after {what}")).await, 0, "{what}");
    engine.sync().await.unwrap();
    let problems = engine.fsck(&Silent).await.unwrap().problems;
    assert!(problems.is_empty(), "after {what}: {problems:#?}");
    assert_eq!(unreadable(engine, files, &format!("after {what}")).await, 0, "{what}");
}

#[test]
fn s01_s03_s04_a_store_that_lies_for_a_while_to_an_open_vault_costs_nothing_that_was_written() {
    run(async {
        let store = Arc::new(Fickle::default());
        let world = world_on(store.clone()).await;
        add_key_file(&world).await;
        let engine = world.open("a").await;
        let mut files = Files::new();
        put(&engine, &mut files, "first", noise(200_000, 101), Buffered).await;
        engine.sync().await.unwrap();
        let age = store.honest.age();
        put(&engine, &mut files, "second", noise(200_000, 102), Buffered).await;
        engine.sync().await.unwrap();
        // Texts of different lengths.
        let rounds: [(Lie, &[u8]); 5] = [
            (Lie::Flipped, b"flipped bits"),
            (Lie::Cut, b"cut short"),
            (Lie::Emptied, b"empty"),
            (Lie::AnotherPack, b"of another pack"),
            (Lie::Older(age), b"as it was then"),
        ];
        for (lie, text) in rounds {
            go_through(lie, (&*store, &engine), &mut files, text).await;
        }
        engine.close().await.unwrap();
        drop(engine);
        // All of it is in the store, and the machine goes on with what it has.
        let (fresh, _dir) = open_fresh(store.clone()).await.unwrap();
        assert_eq!(unreadable(&fresh, &files, "a new machine").await, 0);
        let engine = world.open("a").await;
        assert_eq!(unreadable(&engine, &files, "the next time").await, 0);
    });
}
