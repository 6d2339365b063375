//! A tree as it is: everything a copy has to keep, and what differs between two.

use super::support::noise;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Everything below a directory, by path.
pub(crate) type Tree = BTreeMap<Vec<u8>, Record>;

/// What is kept of one name. Access and change times belong to whoever reads and
/// copies; sizes and link counts of directories to the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    device: u64,
    size: u64,
    modified: (i64, i64),
    links: u64,
    /// The first name of the same inode.
    first_name: Vec<u8>,
    target: Vec<u8>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    content: Option<blake3::Hash>,
    is_sparse: bool,
}

impl Record {
    fn differences(&self, other: &Self) -> String {
        let mut out = String::new();
        let (one, two) = (format!("{self:#?}"), format!("{other:#?}"));
        for (a, b) in one.lines().zip(two.lines()).filter(|(a, b)| a != b).take(5) {
            write!(out, " {} became {};", a.trim(), b.trim()).unwrap();
        }
        out
    }
}

/// Reads a tree, every byte of it.
pub(crate) fn record(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut first_names = HashMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let data = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        tree.insert(name.clone(), describe(&path, &data));
        first_names
            .entry(data.ino())
            .and_modify(|first: &mut Vec<u8>| *first = name.clone().min(first.clone()))
            .or_insert_with(|| name.clone());
        tree.get_mut(&name).unwrap().first_name = data.ino().to_le_bytes().to_vec();
        if data.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    for record in tree.values_mut() {
        let ino = u64::from_le_bytes(record.first_name[..].try_into().unwrap());
        record.first_name.clone_from(&first_names[&ino]);
    }
    tree
}

fn describe(path: &Path, data: &fs::Metadata) -> Record {
    let kind = data.file_type();
    let kind = match () {
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "symlink",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () if kind.is_char_device() => "character device",
        () if kind.is_block_device() => "block device",
        () => "file",
    };
    let (is_dir, is_file) = (kind == "directory", kind == "file");
    let target = (kind == "symlink").then(|| fs::read_link(path).unwrap());
    Record {
        kind,
        mode: data.mode() & 0o7777,
        owner: (data.uid(), data.gid()),
        device: data.rdev(),
        size: if is_dir { 0 } else { data.size() },
        modified: (data.mtime(), data.mtime_nsec()),
        links: if is_dir { 0 } else { data.nlink() },
        first_name: Vec::new(),
        target: target.map(|target| target.as_os_str().as_bytes().to_vec()).unwrap_or_default(),
        attributes: attributes(path),
        content: is_file.then(|| hash(path)),
        // By a wide margin: file systems count in blocks of their own.
        is_sparse: is_file && data.size() > 1 << 20 && data.blocks() * 512 < data.size() / 2,
    }
}

fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(len);
            (name.to_vec(), value)
        })
        .collect()
}

fn hash(path: &Path) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut buffer = vec![0; 1 << 20];
    loop {
        let len = file
            .read(&mut buffer)
            .unwrap_or_else(|error| panic!("reading {}: {error}", path.display()));
        if len == 0 {
            return hasher.finalize();
        }
        hasher.update(&buffer[..len]);
    }
}

/// Two trees are the same, in everything.
#[track_caller]
pub(crate) fn assert_same(when: &str, before: &Tree, after: &Tree) {
    let mut out = String::new();
    let mut count = 0;
    let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for name in names {
        let said = match (before.get(name), after.get(name)) {
            (Some(one), Some(two)) if one == two => continue,
            (Some(one), Some(two)) => one.differences(two),
            (Some(_), None) => " is gone".to_owned(),
            (None, _) => " was not there".to_owned(),
        };
        count += 1;
        if count <= 20 {
            writeln!(out, "{}:{said}", name.escape_ascii()).unwrap();
        }
    }
    assert_eq!(count, 0, "{when}: {count} names differ\n{out}");
}

#[test]
fn a_record_sees_what_changes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, noise(1000, 1)).unwrap();
    fs::hard_link(&path, dir.path().join("b")).unwrap();
    let before = record(dir.path());
    assert_same("at once", &before, &record(dir.path()));
    assert_eq!(before[&b"b"[..]].first_name, b"a");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, noise(1000, 2)).unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let after = record(dir.path());
    assert!(before[&b"a"[..]].differences(&after[&b"a"[..]]).contains("became"));
    fs::remove_file(dir.path().join("b")).unwrap();
    fs::copy(&path, dir.path().join("b")).unwrap();
    assert_ne!(record(dir.path())[&b"b"[..]], after[&b"b"[..]]);
}
