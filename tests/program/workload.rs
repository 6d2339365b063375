//! What several writers do to a mount, and which trees a crash may leave of it.
//!
//! Every change knows when it began and when it was done, by a clock that all writers
//! share. What a crash leaves must be the first so many changes of each writer, all
//! writers taken at one moment, and that moment must not be before an `fsync` that
//! anybody was told had succeeded. That is more than POSIX asks: it leaves no room for
//! bytes nobody wrote, for a rename without the data it followed, or for half an
//! operation.

mod map;
mod model;

pub(crate) use model::Tree;

use super::support::{Numbers, noise};
use model::{Node, read_tree};
use rustix::fs::FallocateFlags;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::path::Path;

/// Files in a directory of a writer.
const FILES: u64 = 6;
const DIRS: u64 = 2;
const FILE_SIZE_MAX: u64 = 400 << 10;

/// One system call of a writer that changes something.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    File {
        name: String,
    },
    Dir {
        name: String,
    },
    Symlink {
        name: String,
        target: String,
    },
    /// `len` bytes of noise made from `seed`.
    Write {
        name: String,
        offset: u64,
        len: usize,
        seed: u64,
        is_sync: bool,
    },
    /// The same through a shared mapping, synced.
    Map {
        name: String,
        offset: u64,
        len: usize,
        seed: u64,
    },
    Truncate {
        name: String,
        len: u64,
    },
    Punch {
        name: String,
        offset: u64,
        len: usize,
    },
    /// An extended attribute.
    Label {
        name: String,
        label: String,
    },
    /// The beginning of one file over that of another.
    Copy {
        from: String,
        to: String,
        len: usize,
    },
    Rename {
        from: String,
        to: String,
    },
    Link {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
    /// Of a file that is open, and is written and read after it has no name.
    RemoveOpen {
        name: String,
        seed: u64,
    },
}

/// A name that may be there or not, in a directory that is.
fn any_name(draw: &mut Numbers, tree: &Tree) -> String {
    let file = format!("file-{}", draw.below(FILES));
    match draw.below(DIRS * 3) {
        number if number < DIRS && tree.get(&format!("dir-{number}")) == Some(&Node::Dir) => {
            format!("dir-{number}/{file}")
        }
        _ => file,
    }
}

impl Change {
    fn random(draw: &mut Numbers, tree: &Tree) -> Self {
        loop {
            if let Some(change) = Self::propose(draw, tree) {
                return change;
            }
        }
    }

    /// A change that the tree allows, if the numbers drawn happen to say one.
    fn propose(draw: &mut Numbers, tree: &Tree) -> Option<Self> {
        let kind = draw.below(33);
        let name = any_name(draw, tree);
        let free = |name: String| tree.get(&name).is_none().then_some(name);
        let file = |name: String| tree.data(&name).is_some().then_some(name);
        let some_data = |name: String| match tree.data(&name)?.len() as u64 {
            0 => None,
            len => Some((name, len)),
        };
        let other = any_name(draw, tree);
        Some(match kind {
            0..4 => Self::File { name: free(name)? },
            4 => Self::Dir { name: free(format!("dir-{}", draw.below(DIRS)))? },
            5 => Self::Symlink { name: free(name)?, target: other },
            6 => Self::Label { name: file(name)?, label: draw.next().to_string() },
            7 => {
                let name = file(name)?;
                let len = draw.below(tree.data(&name)?.len() as u64 + 4096);
                Self::Truncate { name, len }
            }
            8 => {
                let (from, to) = (file(name)?, file(other)?);
                let len = 1 + draw.below(tree.data(&from)?.len() as u64 + 1) as usize;
                // A copy takes each hole as an operation of its own.
                let is_one = !tree.is_same(&from, &to) && !tree.has_hole(&from);
                is_one.then_some(Self::Copy { from, to, len })?
            }
            9..12 => {
                let is_there = !matches!(tree.get(&name), None | Some(Node::Dir));
                let rename = Self::Rename { from: name, to: other };
                is_there.then_some(rename)?
            }
            12 => {
                let (from, to) = ("dir-0".to_owned(), free("dir-1".to_owned())?);
                tree.get(&from).map(|_| Self::Rename { from, to })?
            }
            13 => Self::Link { from: file(name)?, to: free(other)? },
            14..16 => Self::Remove { name: tree.get(&name).map(|_| name)? },
            16 => {
                let name = format!("dir-{}", draw.below(DIRS));
                tree.is_empty_dir(&name).then_some(Self::Remove { name })?
            }
            17..19 => {
                let (name, end) = some_data(name)?;
                let len_max = if draw.below(3) == 0 { FILE_SIZE_MAX } else { 5000 };
                let (offset, len) = (draw.below(end), 1 + draw.below(len_max) as usize);
                Self::Punch { name, offset, len }
            }
            19..21 => {
                let (name, end) = some_data(name)?;
                let offset = draw.below(end);
                // Within the file and the page, which goes out as one.
                let room = (end - offset).min(map::PAGE - offset % map::PAGE);
                Self::Map { name, offset, len: room.min(64) as usize, seed: draw.next() }
            }
            21 => {
                let (name, seed) = (file(name)?, draw.next());
                tree.is_alone(&name).then_some(Self::RemoveOpen { name, seed })?
            }
            _ => Self::write(draw, file(name)?, tree),
        })
    }

    fn write(draw: &mut Numbers, name: String, tree: &Tree) -> Self {
        let end = tree.data(&name).map_or(0, <[u8]>::len) as u64;
        let is_append = draw.below(2) == 0 && end < FILE_SIZE_MAX;
        let offset = if is_append { end } else { draw.below(end + 1) };
        let len_max = if draw.below(3) == 0 { 65_536 } else { 3000 };
        let (len, seed) = (1 + draw.below(len_max) as usize, draw.next());
        Self::Write { name, offset, len, seed, is_sync: draw.below(12) == 0 }
    }

    /// What it makes of a tree.
    fn apply(&self, tree: &mut Tree) {
        match self {
            Self::File { name } => tree.add(name, Node::empty_file()),
            Self::Dir { name } => tree.add(name, Node::Dir),
            Self::Symlink { name, target } => tree.add(name, Node::Symlink(target.clone())),
            Self::Write { name, offset, len, seed, .. } | Self::Map { name, offset, len, seed } => {
                tree.write(name, *offset as usize, &noise(*len, *seed));
            }
            Self::Truncate { name, len } => {
                tree.change_data(name, |data| data.resize(*len as usize, 0));
            }
            Self::Punch { name, offset, len } => tree.change_data(name, |data| {
                let (start, end) = (*offset as usize, data.len().min(*offset as usize + len));
                data[start..end].fill(0);
            }),
            Self::Label { name, label } => tree.label(name, label),
            Self::Copy { from, to, len } => {
                let data = tree.data(from).unwrap();
                let data = data[..data.len().min(*len)].to_vec();
                tree.write(to, 0, &data);
            }
            Self::Rename { from, to } => tree.rename(from, to),
            Self::Link { from, to } => tree.link(from, to),
            Self::Remove { name } | Self::RemoveOpen { name, .. } => tree.remove(name),
        }
    }

    fn perform(&self, dir: &Path) -> io::Result<()> {
        let open = |name: &str| OpenOptions::new().read(true).write(true).open(dir.join(name));
        match self {
            Self::File { name } => File::create_new(dir.join(name)).map(drop),
            Self::Dir { name } => fs::create_dir(dir.join(name)),
            Self::Symlink { name, target } => symlink(target, dir.join(name)),
            Self::Write { name, offset, len, seed, is_sync } => {
                let flags = if *is_sync { libc::O_SYNC } else { 0 };
                let file = OpenOptions::new().write(true).custom_flags(flags).open(dir.join(name));
                let done = file?.write_at(&noise(*len, *seed), *offset)?;
                if done == *len { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
            }
            Self::Map { name, offset, len, seed } => {
                map::write(&open(name)?, *offset, &noise(*len, *seed))
            }
            Self::Truncate { name, len } => open(name)?.set_len(*len),
            Self::Punch { name, offset, len } => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                Ok(rustix::fs::fallocate(open(name)?, flags, *offset, *len as u64)?)
            }
            Self::Label { name, label } => {
                let flags = rustix::fs::XattrFlags::empty();
                rustix::fs::setxattr(dir.join(name), "user.label", label.as_bytes(), flags)?;
                Ok(())
            }
            Self::Copy { from, to, len } => {
                let (from, to) = (File::open(dir.join(from))?, open(to)?);
                rustix::fs::copy_file_range(from, Some(&mut 0), to, Some(&mut 0), *len)?;
                Ok(())
            }
            Self::Rename { from, to } => fs::rename(dir.join(from), dir.join(to)),
            Self::Link { from, to } => fs::hard_link(dir.join(from), dir.join(to)),
            Self::Remove { name } => match fs::symlink_metadata(dir.join(name))?.is_dir() {
                true => fs::remove_dir(dir.join(name)),
                false => fs::remove_file(dir.join(name)),
            },
            Self::RemoveOpen { name, seed } => {
                let file = open(name)?;
                fs::remove_file(dir.join(name))?;
                let data = noise(5000, *seed);
                file.write_all_at(&data, 1000)?;
                file.sync_all()?;
                let mut found = vec![0; data.len()];
                file.read_exact_at(&mut found, 1000)?;
                assert!(found == data, "{name} is not what was written without a name");
                file.set_len(7)
            }
        }
    }

    /// Makes it safe: the file it wrote, or the directory it changed.
    fn fsync(&self, dir: &Path) -> io::Result<()> {
        match self {
            Self::Write { name, .. }
            | Self::Map { name, .. }
            | Self::Truncate { name, .. }
            | Self::Punch { name, .. }
            | Self::Copy { to: name, .. } => File::open(dir.join(name))?.sync_all(),
            _ => File::open(dir)?.sync_all(),
        }
    }
}

/// Tells the time to writers.
pub(crate) type Clock<'a> = &'a (dyn Fn() -> u64 + Sync);

#[derive(Debug)]
struct Past {
    change: Change,
    began: u64,
    /// `None` while nobody knows.
    done: Option<u64>,
}

/// Something that was promised of all that was done before it began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    pub(crate) began: u64,
    pub(crate) done: u64,
}

/// A sync that succeeded, and how many of its writer's changes were before it.
#[derive(Debug)]
struct Fsync {
    promise: Promise,
    count: usize,
}

/// What has to be there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Floor<'a> {
    /// Whatever was fsynced by anybody.
    Fsynced,
    /// Whatever these uploads promise.
    Uploaded(&'a [Promise]),
}

impl Floor<'_> {
    /// The moment before which nothing may be lost, as promised by `at`.
    fn moment(self, writers: &[Writer], at: u64) -> u64 {
        let fsyncs = || writers.iter().flat_map(|writer| &writer.fsyncs);
        let promises: Vec<Promise> = match self {
            Self::Fsynced => fsyncs().map(|fsync| fsync.promise).collect(),
            Self::Uploaded(uploads) => uploads.to_vec(),
        };
        let known = promises.iter().filter(|promise| promise.done <= at);
        known.map(|promise| promise.began).max().unwrap_or(0)
    }

    /// How many changes of a writer may not be lost, as promised by `at`.
    fn count(self, writer: &Writer, at: u64) -> usize {
        match self {
            Self::Uploaded(_) => 0,
            Self::Fsynced => {
                let known = writer.fsyncs.iter().filter(|fsync| fsync.promise.done <= at);
                known.map(|fsync| fsync.count).max().unwrap_or(0)
            }
        }
    }
}

/// A directory's writer and what it did since the directory was last seen to be right.
#[derive(Debug)]
pub(crate) struct Writer {
    name: String,
    draw: Numbers,
    /// What the directory held when `past` began, and holds now.
    base: Tree,
    tree: Tree,
    past: Vec<Past>,
    fsyncs: Vec<Fsync>,
}

impl Writer {
    /// Makes the directories of `count` writers, durably.
    pub(crate) fn start(mount: &Path, count: usize, seed: u64) -> Vec<Self> {
        let start = |number| {
            let name = format!("writer-{number}");
            fs::create_dir(mount.join(&name)).unwrap();
            File::open(mount).unwrap().sync_all().unwrap();
            let draw = Numbers::new(seed ^ ((number as u64) << 32));
            let (base, tree) = (Tree::default(), Tree::default());
            Self { name, draw, base, tree, past: vec![], fsyncs: vec![] }
        };
        (0..count).map(start).collect()
    }

    /// Changes things, up to `count` times or until that fails; says how.
    pub(crate) fn work(&mut self, mount: &Path, count: usize, now: Clock<'_>) -> io::Result<()> {
        let dir = mount.join(&self.name);
        for _ in 0..count {
            let change = Change::random(&mut self.draw, &self.tree);
            let began = now();
            // Before it is done: what is interrupted may have happened or not.
            self.past.push(Past { change: change.clone(), began, done: None });
            change.perform(&dir).map_err(|error| self.explain_failure(&change, &error))?;
            change.apply(&mut self.tree);
            let done = now();
            self.past.last_mut().unwrap().done = Some(done);
            if matches!(change, Change::Write { is_sync: true, .. } | Change::Map { .. }) {
                self.promise(began, done);
            }
            if self.draw.below(8) == 0 {
                let began = now();
                change.fsync(&dir).map_err(|error| self.explain_failure(&change, &error))?;
                self.promise(began, now());
            }
        }
        Ok(())
    }

    fn promise(&mut self, began: u64, done: u64) {
        let (promise, count) = (Promise { began, done }, self.past.len());
        self.fsyncs.push(Fsync { promise, count });
    }

    fn explain_failure(&self, change: &Change, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {change:?}: {error}", self.name))
    }

    /// Changes made so far.
    pub(crate) fn changes(&self) -> usize {
        self.past.len()
    }

    /// The numbers of changes after which the tree was as it is found, of those that
    /// may have happened by `at`, `least` or more.
    fn matches(&self, found: &Tree, at: u64, least: usize) -> Vec<usize> {
        let mut tree = self.base.clone();
        let mut matches = Vec::new();
        for index in 0..=self.past.len() {
            if index >= least && tree.shows_as(found) {
                matches.push(index);
            }
            match self.past.get(index) {
                Some(past) if past.began <= at => past.change.apply(&mut tree),
                _ => break,
            }
        }
        matches
    }

    /// Whether what it kept and what it lost fit one moment for all.
    fn fits(&self, kept: usize, moment: u64) -> bool {
        let has_begun = kept.checked_sub(1).is_none_or(|last| self.past[last].began <= moment);
        let lost = self.past.get(kept).and_then(|past| past.done);
        has_begun && lost.is_none_or(|done| done >= moment)
    }

    /// Goes on from what is found.
    fn settle(&mut self, found: &Tree) {
        (self.base, self.tree) = (found.clone(), found.clone());
        self.past.clear();
        self.fsyncs.clear();
    }

    /// What agrees with which prefix: what a failure needs to be understood.
    fn explain(&self, found: &Tree) -> String {
        let mut out = format!("{}: {} changes\n", self.name, self.past.len());
        let mut tree = self.base.clone();
        let mut trees = vec![tree.clone()];
        for past in &self.past {
            past.change.apply(&mut tree);
            trees.push(tree.clone());
        }
        let names: std::collections::BTreeSet<&str> =
            trees.iter().flat_map(Tree::names).chain(found.names()).collect();
        for name in names {
            let agrees = |tree: &Tree| tree.get(name) == found.get(name);
            let agreeing: Vec<usize> =
                (0..trees.len()).filter(|index| agrees(&trees[*index])).collect();
            let (first, last) = (agreeing.first(), agreeing.last());
            let len = found.data(name).map(<[u8]>::len);
            writeln!(out, "  {name}: len {len:?}, as after {first:?}..={last:?}").unwrap();
        }
        for (index, Past { change, began, done }) in self.past.iter().enumerate() {
            writeln!(out, "  {}: {change:?} {began}..{done:?}", index + 1).unwrap();
        }
        out
    }
}

/// Checks the tree below `mount` against what the writers had done by `at`. Gives what
/// each of them has, or says what is wrong.
pub(crate) fn check(
    writers: &[Writer],
    mount: &Path,
    at: u64,
    floor: Floor<'_>,
) -> Result<Vec<Tree>, String> {
    let trees: Vec<Tree> =
        writers.iter().map(|writer| read_tree(&mount.join(&writer.name))).collect();
    let promised = floor.moment(writers, at);
    let mut matches = Vec::new();
    for (writer, tree) in writers.iter().zip(&trees) {
        let least = floor.count(writer, at);
        let found = writer.matches(tree, at, least);
        if found.is_empty() {
            let writer = writer.explain(tree);
            return Err(format!("at {at}, {promised} and {least} promised, no prefix: {writer}"));
        }
        matches.push(found);
    }
    let past = || writers.iter().flat_map(|writer| &writer.past);
    let times = past().flat_map(|past| [Some(past.began), past.done]).flatten();
    let mut moments = times.chain([promised, at]).filter(|time| (promised..=at).contains(time));
    let fits = |moment| {
        let mut all = writers.iter().zip(&matches);
        all.all(|(writer, kept)| kept.iter().any(|kept| writer.fits(*kept, moment)))
    };
    if moments.any(fits) {
        return Ok(trees);
    }
    let mut out = format!("at {at}, {promised} promised, no moment fits {matches:?}\n");
    for (writer, tree) in writers.iter().zip(&trees) {
        out += &writer.explain(tree);
    }
    Err(out)
}

/// Lets the writers go on from what was found.
pub(crate) fn settle(writers: &mut [Writer], trees: &[Tree]) {
    for (writer, tree) in writers.iter_mut().zip(trees) {
        writer.settle(tree);
    }
}
