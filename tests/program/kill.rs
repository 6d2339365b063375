//! `kill -9` of the process that serves a mount, under writers.
//!
//! After each kill every writer's directory must be what a prefix of its operations
//! made, and the prefix must not end before the last operation an `fsync` of that
//! writer covered. That is more than POSIX asks: it leaves no room for bytes nobody
//! wrote, for a rename without the data it followed, or for half an operation.

use super::support::{Numbers, World, kill, noise, pause, text};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const WRITERS: u64 = 4;
const ROUNDS: u64 = 5;
/// Files of one writer.
const NAMES: u64 = 8;
const FILE_SIZE_MAX: u64 = 400 << 10;

type Tree = BTreeMap<String, Vec<u8>>;

/// One system call of a writer that changes something.
#[derive(Clone, Debug)]
enum Change {
    Create {
        name: String,
    },
    /// `len` bytes of noise made from `seed`.
    Write {
        name: String,
        offset: u64,
        len: usize,
        seed: u64,
    },
    Truncate {
        name: String,
        len: u64,
    },
    Rename {
        from: String,
        to: String,
    },
    Unlink {
        name: String,
    },
}

impl Change {
    fn random(draw: &mut Numbers, tree: &Tree) -> Self {
        let name = |draw: &mut Numbers| format!("file-{}", draw.below(NAMES));
        let existing = |draw: &mut Numbers| {
            let at = draw.below(tree.len() as u64) as usize;
            tree.keys().nth(at).unwrap().clone()
        };
        let free = name(draw);
        if !tree.contains_key(&free) {
            return Self::Create { name: free };
        }
        match draw.below(20) {
            0 => Self::Unlink { name: existing(draw) },
            1..4 => Self::Rename { from: existing(draw), to: name(draw) },
            4..6 => {
                let name = existing(draw);
                let len = draw.below(tree[&name].len() as u64 * 5 / 4 + 1).min(FILE_SIZE_MAX);
                Self::Truncate { name, len }
            }
            kind => {
                let name = existing(draw);
                let end = tree[&name].len() as u64;
                let is_append = kind < 15 && end < FILE_SIZE_MAX;
                let offset = if is_append { end } else { draw.below(end + 1) };
                let len_max = if draw.below(3) == 0 { 65_536 } else { 3000 };
                let len = 1 + draw.below(len_max) as usize;
                Self::Write { name, offset, len, seed: draw.next() }
            }
        }
    }

    /// What it makes of a tree.
    fn apply(&self, tree: &mut Tree) {
        match self {
            Self::Create { name } => drop(tree.insert(name.clone(), Vec::new())),
            Self::Write { name, offset, len, seed } => {
                let (data, start) = (tree.get_mut(name).unwrap(), *offset as usize);
                data.resize(data.len().max(start + len), 0);
                data[start..start + len].copy_from_slice(&noise(*len, *seed));
            }
            Self::Truncate { name, len } => tree.get_mut(name).unwrap().resize(*len as usize, 0),
            Self::Rename { from, to } if from == to => {}
            Self::Rename { from, to } => {
                let data = tree.remove(from).unwrap();
                tree.insert(to.clone(), data);
            }
            Self::Unlink { name } => drop(tree.remove(name)),
        }
    }

    fn perform(&self, dir: &Path) -> io::Result<()> {
        let open = |name: &str| OpenOptions::new().write(true).open(dir.join(name));
        match self {
            Self::Create { name } => File::create_new(dir.join(name)).map(drop),
            Self::Write { name, offset, len, seed } => {
                let done = open(name)?.write_at(&noise(*len, *seed), *offset)?;
                if done == *len { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
            }
            Self::Truncate { name, len } => open(name)?.set_len(*len),
            Self::Rename { from, to } => fs::rename(dir.join(from), dir.join(to)),
            Self::Unlink { name } => fs::remove_file(dir.join(name)),
        }
    }

    /// Makes it safe: the file it wrote, or the directory it changed.
    fn fsync(&self, dir: &Path) -> io::Result<()> {
        match self {
            Self::Write { name, .. } | Self::Truncate { name, .. } => {
                File::open(dir.join(name))?.sync_all()
            }
            _ => File::open(dir)?.sync_all(),
        }
    }
}

/// A writer's directory and what it did since it was last seen to be right.
struct Writer {
    dir: PathBuf,
    seed: u64,
    /// What the directory held when `changes` began.
    base: Tree,
    changes: Vec<Change>,
    /// How many of `changes` an fsync has covered.
    safe: usize,
}

impl Writer {
    /// Changes things until the mount is gone.
    fn work(&mut self, round: u64) {
        let mut draw = Numbers::new(self.seed ^ (round << 32));
        let mut tree = self.base.clone();
        loop {
            let change = Change::random(&mut draw, &tree);
            // Before it is done: what the kill interrupts may have happened or not.
            self.changes.push(change.clone());
            if let Err(error) = change.perform(&self.dir) {
                return self.assert_gone(&error, &change);
            }
            change.apply(&mut tree);
            if draw.below(8) == 0 {
                match change.fsync(&self.dir) {
                    Ok(()) => self.safe = self.changes.len(),
                    Err(error) => return self.assert_gone(&error, &change),
                }
            }
        }
    }

    /// An operation failed: only because the process behind the mount is gone, or
    /// already the mount too.
    fn assert_gone(&self, error: &io::Error, change: &Change) {
        let is_gone = match error.kind() {
            ErrorKind::NotConnected | ErrorKind::ConnectionAborted => true,
            ErrorKind::NotFound => !self.dir.exists(),
            _ => false,
        };
        assert!(is_gone, "{change:?}: {error}");
    }

    /// Finds the prefix that the directory shows and goes on from there.
    fn check(&mut self) -> String {
        let found = read_tree(&self.dir);
        let mut tree = self.base.clone();
        for (index, change) in self.changes.iter().enumerate() {
            if index >= self.safe && tree == found {
                return self.settle(found, index);
            }
            change.apply(&mut tree);
        }
        if tree == found {
            return self.settle(found, self.changes.len());
        }
        panic!("{}", self.explain(&found));
    }

    fn settle(&mut self, found: Tree, kept: usize) -> String {
        let said = format!("{kept} of {} kept, {} safe", self.changes.len(), self.safe);
        (self.base, self.safe) = (found, 0);
        self.changes.clear();
        said
    }

    /// Which prefix each file agrees with: what a failure needs to be understood.
    fn explain(&self, found: &Tree) -> String {
        let mut out = format!(
            "{} is no prefix of its {} operations ({} safe)\n",
            self.dir.display(),
            self.changes.len(),
            self.safe
        );
        let mut trees = vec![self.base.clone()];
        for change in &self.changes {
            let mut next = trees.last().unwrap().clone();
            change.apply(&mut next);
            trees.push(next);
        }
        let names: std::collections::BTreeSet<&String> =
            trees[self.safe..].iter().flat_map(Tree::keys).chain(found.keys()).collect();
        for name in names {
            let agrees = |tree: &Tree| tree.get(name) == found.get(name);
            let indexes: Vec<usize> =
                (self.safe..trees.len()).filter(|index| agrees(&trees[*index])).collect();
            let len = found.get(name).map(Vec::len);
            let (first, last) = (indexes.first(), indexes.last());
            writeln!(out, "  {name}: len {len:?}, as after {first:?}..={last:?}").unwrap();
            if let (None, Some(is), Some(safe)) =
                (first, found.get(name), trees[self.safe].get(name))
            {
                let at = is.iter().zip(safe).position(|(a, b)| a != b);
                writeln!(out, "    differs from the safe one at {at:?}").unwrap();
            }
        }
        for (index, change) in self.changes.iter().enumerate().skip(self.safe.saturating_sub(3)) {
            writeln!(out, "  {}: {change:?}", index + 1).unwrap();
        }
        out
    }
}

fn read_tree(dir: &Path) -> Tree {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())
        })
        .collect()
}

#[test]
fn kill_keeps_a_prefix_that_holds_all_that_was_fsynced() {
    let seed = Numbers::seed();
    println!("TGCRYPTFS_TEST_SEED={seed}");
    let mut draw = Numbers::new(seed);
    let world = World::new();
    let machine = world.first_machine();
    let mut mount = machine.mount("mount");
    let mut writers: Vec<Writer> = (0..WRITERS)
        .map(|number| {
            let dir = mount.join(format!("writer-{number}"));
            fs::create_dir(&dir).unwrap();
            File::open(&mount).unwrap().sync_all().unwrap();
            Writer { dir, seed: draw.next(), base: Tree::new(), changes: vec![], safe: 0 }
        })
        .collect();
    for round in 0..ROUNDS {
        let pid = machine.pid();
        std::thread::scope(|scope| {
            for writer in &mut writers {
                scope.spawn(move || writer.work(round));
            }
            pause(100 + draw.below(2500));
            kill(pid);
        });
        if round % 2 == 1 {
            // It may have freed itself already.
            let finished = machine.bare(&["unmount", text(&mount)]);
            assert!([0, 12].contains(&finished.code), "{finished:#?}");
        }
        let start = Instant::now();
        mount = machine.mount("mount");
        let took = start.elapsed();
        assert!(took < Duration::from_secs(15), "seed {seed}: mounting took {took:?}");
        assert_eq!(machine.mounted()["vault"]["health"], "ok");
        let kept: Vec<String> = writers.iter_mut().map(Writer::check).collect();
        println!("round {round}, mounted in {took:?}: {}", kept.join("; "));
    }
    machine.sync();
    machine.fsck();
    machine.unmount(&mount);
    machine.fsck();
    // What the kills interrupted on its way into the store is whole there too.
    machine.forget();
    let new = world.machine("new-home");
    let mount = new.mount("mount");
    for writer in &writers {
        assert!(read_tree(&writer.dir) == writer.base, "seed {seed}: {}", writer.dir.display());
    }
    new.fsck();
    new.unmount(&mount);
}
