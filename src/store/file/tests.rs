//! What only a store in a directory has: files, modes, links and leftovers.

use super::{FileStore, OBJECT_SIZE_MAX};
use crate::store::suite::{self, block_on, body, name};
use crate::store::{BlobStore, ErrorKind, ObjectName, PutMode, PutOutcome};
use bytes::Bytes;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

suite::conformance!(|| {
    let dir = tempfile::tempdir().unwrap();
    (Arc::new(FileStore::create(dir.path()).unwrap()), dir)
});

fn new() -> (FileStore, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (FileStore::create(&dir.path().join("store")).unwrap(), dir)
}

fn put(store: &FileStore, name: &ObjectName, body: &Bytes) -> PutOutcome {
    block_on(store.put(name, body.clone(), PutMode::CreateIfAbsent)).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn file_of(store: &FileStore, name: &ObjectName) -> PathBuf {
    store.path.join(&name.as_str()[..2]).join(name.as_str())
}

#[test]
fn objects_are_spread_and_private() {
    let (store, _dir) = new();
    let object = name("x");
    put(&store, &object, &body("", 10));
    put(&store, &ObjectName::vault(12), &body("", 20));
    let file = file_of(&store, &object);
    assert_eq!(fs::read(&file).unwrap(), body("", 10));
    assert_eq!(fs::read(store.path.join("vault.12")).unwrap(), body("", 20));
    assert_eq!((mode(&file), mode(&store.path.join("vault.12"))), (0o600, 0o600));
    for dir in [&store.path, file.parent().unwrap(), &store.path.join(".tmp")] {
        assert_eq!(mode(dir), 0o700, "{}", dir.display());
    }
    assert_eq!(fs::read_dir(store.path.join(".tmp")).unwrap().count(), 0);
}

#[test]
fn room_is_the_disks() {
    let (store, dir) = new();
    let space = store.space().unwrap();
    let stat = rustix::fs::statvfs(dir.path()).unwrap();
    let total = stat.f_blocks * stat.f_frsize;
    assert!(space > 0 && space <= total, "{space} bytes of {total}");
    // Others write meanwhile, but not that much.
    let available = stat.f_bavail * stat.f_frsize;
    assert!(space.abs_diff(available) < total / 10, "{space} bytes, {available} bytes");
}

#[test]
fn everything_is_there_after_reopening() {
    let (store, _dir) = new();
    let names = [name("a"), name("b"), ObjectName::vault(1)];
    for name in &names {
        put(&store, name, &body(name.as_str(), 1000));
    }
    let path = store.path.clone();
    drop(store);
    let store = FileStore::open(&path).unwrap();
    assert_eq!(block_on(store.list("")).unwrap().len(), names.len());
    for name in &names {
        assert_eq!(block_on(store.get(name, None)).unwrap(), body(name.as_str(), 1000));
        assert_eq!(put(&store, name, &body("", 1)), PutOutcome::AlreadyThere);
    }
}

#[test]
fn two_processes_share_one_store() {
    let (one, _dir) = new();
    let two = FileStore::open(&one.path).unwrap();
    put(&one, &name("x"), &body("one", 10));
    assert_eq!(put(&two, &name("x"), &body("two", 10)), PutOutcome::AlreadyThere);
    assert_eq!(block_on(two.get(&name("x"), None)).unwrap(), body("one", 10));
    put(&two, &name("y"), &body("two", 10));
    assert_eq!(block_on(one.list("")).unwrap().len(), 2);
}

#[test]
fn files_are_linked_not_copied() {
    let (store, dir) = new();
    let source = dir.path().join("pack");
    fs::write(&source, body("pack", 5000)).unwrap();
    block_on(store.put_file(&name("p"), &source, PutMode::CreateIfAbsent)).unwrap();
    let (ours, theirs) =
        (fs::metadata(file_of(&store, &name("p"))).unwrap(), fs::metadata(&source).unwrap());
    assert_eq!((ours.dev(), ours.ino()), (theirs.dev(), theirs.ino()));
    assert_eq!(mode(&source), 0o400, "both names are read-only");
    assert_eq!(fs::read_dir(store.path.join(".tmp")).unwrap().count(), 0);
}

#[test]
fn files_of_another_file_system_are_copied() {
    let (store, _dir) = new();
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else { return };
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    if device(other.path()) == device(&store.path) {
        return;
    }
    let source = other.path().join("pack");
    fs::write(&source, body("pack", 5000)).unwrap();
    block_on(store.put_file(&name("p"), &source, PutMode::CreateIfAbsent)).unwrap();
    assert_eq!(block_on(store.get(&name("p"), None)).unwrap(), body("pack", 5000));
    assert_ne!(
        fs::metadata(file_of(&store, &name("p"))).unwrap().ino(),
        fs::metadata(&source).unwrap().ino()
    );
}

#[test]
fn links_are_not_followed() {
    let (store, dir) = new();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    symlink("secret", dir.path().join("source")).unwrap();
    let put =
        block_on(store.put_file(&name("x"), &dir.path().join("source"), PutMode::CreateIfAbsent));
    assert_eq!(put.unwrap_err().kind(), ErrorKind::Io);

    put_foreign(&store, |path| symlink(dir.path().join("secret"), path).unwrap());
}

#[test]
fn what_is_not_a_file_is_no_object() {
    let (store, _dir) = new();
    put_foreign(&store, |path| fs::create_dir(path).unwrap());
    let (store, _dir) = new();
    // Opening it must not wait for a writer.
    put_foreign(&store, |path| {
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, super::FILE_MODE, 0).unwrap();
    });
}

/// `make` puts something at an object's path; nothing may take it for one.
fn put_foreign(store: &FileStore, make: impl FnOnce(&Path)) {
    let file = file_of(store, &name("foreign"));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    make(&file);
    assert_eq!(block_on(store.get(&name("foreign"), None)).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(block_on(store.size(&name("foreign"))).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(block_on(store.list("")).unwrap(), []);
}

#[test]
fn foreign_names_are_not_listed() {
    let (store, _dir) = new();
    let object = name("x");
    put(&store, &object, &body("", 1));
    let fanout = file_of(&store, &object).parent().unwrap().to_owned();
    fs::write(store.path.join("README"), "").unwrap();
    fs::write(store.path.join(object.as_str()), "not in its directory").unwrap();
    fs::write(store.path.join("vault.01"), "").unwrap();
    fs::write(store.path.join(".tmp/4711.0"), "").unwrap();
    fs::write(fanout.join("vault.1"), "").unwrap();
    fs::write(fanout.join(format!("{object}.part")), "").unwrap();
    let other = if fanout.ends_with("00") { "11" } else { "00" };
    fs::create_dir(store.path.join(other)).unwrap();
    fs::write(store.path.join(other).join(object.as_str()), "in another's").unwrap();
    let listed = block_on(store.list("")).unwrap();
    assert_eq!(listed.iter().map(|info| info.name).collect::<Vec<_>>(), [object]);
}

#[test]
fn absurdly_long_files_are_not_read_into_memory() {
    let (store, _dir) = new();
    put(&store, &name("x"), &body("", 1));
    let file = fs::OpenOptions::new().write(true).open(file_of(&store, &name("x"))).unwrap();
    file.set_len(OBJECT_SIZE_MAX + 1).unwrap();
    let error = block_on(store.get(&name("x"), None)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let tail = block_on(store.get(&name("x"), Some(OBJECT_SIZE_MAX..u64::MAX))).unwrap();
    assert_eq!(&*tail, [0]);

    let source = store.path.join("long");
    fs::File::create(&source).unwrap().set_len(OBJECT_SIZE_MAX + 1).unwrap();
    let error = block_on(store.put_file(&name("y"), &source, PutMode::Overwrite)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[test]
fn openings_that_fail_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |result: crate::store::Result<FileStore>| {
        let error = result.unwrap_err();
        assert!(error.location().unwrap().starts_with("file:///"), "{error}");
        (error.kind(), error.to_string())
    };
    let (kind, message) = refused(FileStore::open(&dir.path().join("absent")));
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(message.contains("mount"), "{message}");

    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for result in [
        FileStore::open(&file),
        FileStore::create(&file),
        FileStore::open(&file.join("x")),
        FileStore::create(&file.join("x")),
    ] {
        let (kind, message) = refused(result);
        assert_eq!(kind, ErrorKind::Invalid, "{message}");
        assert!(message.contains("give"), "{message}");
    }
}

#[test]
fn a_directory_of_somebody_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
    // Permissions do not bind root, which tests may well run as.
    if fs::write(dir.path().join("probe"), "").is_ok() {
        return;
    }
    for result in [FileStore::open(dir.path()), FileStore::create(&dir.path().join("x"))] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains("owne"), "{error}");
    }
}

#[test]
fn a_removed_store_takes_nothing_and_has_nothing() {
    let (store, _dir) = new();
    put(&store, &name("x"), &body("", 1));
    fs::remove_dir_all(&store.path).unwrap();
    for object in [name("x"), name("y"), ObjectName::vault(1)] {
        for mode in [PutMode::CreateIfAbsent, PutMode::Overwrite] {
            let error = block_on(store.put(&object, body("", 1), mode)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            assert!(error.to_string().contains("removed"), "{error}");
        }
        assert_eq!(block_on(store.get(&object, None)).unwrap_err().kind(), ErrorKind::NotFound);
        block_on(store.delete(&object)).unwrap();
    }
}

#[test]
fn nothing_is_written_after_a_failed_fsync() {
    let (store, _dir) = new();
    put(&store, &name("x"), &body("", 1));
    store.is_broken.store(true, Ordering::Release);
    let put = block_on(store.put(&name("y"), body("", 1), PutMode::Overwrite));
    assert!(put.unwrap_err().to_string().contains("fsync"));
    assert_eq!(block_on(store.delete(&name("x"))).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(block_on(store.get(&name("x"), None)).unwrap(), body("", 1));
    let again = FileStore::open(&store.path).unwrap();
    assert_eq!(put_outcome(&again), PutOutcome::Created);
}

fn put_outcome(store: &FileStore) -> PutOutcome {
    put(store, &name("y"), &body("", 1))
}
