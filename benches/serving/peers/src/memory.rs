//! A file system in memory that costs as little as it can, so that what is measured is
//! the server in front of it.
//!
//! It knows files and directories, and nobody's rights. Data lies in pieces of 1 MiB. A
//! write is copied into them; a read hands out references to them, and only who wants a
//! vector gets a copy. Or it lies in files on tmpfs, as that of servers which want a
//! directory. An inode number is also the entry's cookie in its directory (less
//! [`COOKIE_FIRST`]), which is what `nfsserve` asks of a file system.

mod file;
mod served;

use bytes::Bytes;
use file::{File, Spare};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use vfs::{Attr, ErrorKind, Ino, Kind, ReadData, Result, SetAttr, SetTime, Timestamp, Wcc};

/// What is added to an inode number to make its cookie.
pub(crate) const COOKIE_FIRST: u64 = vfs::Cookie::FIRST_ENTRY - 1;
/// The number of the root.
pub(crate) const ROOT: u64 = Ino::ROOT.get();
const PIECE_LEN: u64 = 1 << 20;
/// What is allocated before anything is measured: what the largest file needs.
const SPARE_PIECES: usize = 512;

/// The file system.
pub(crate) struct Memory {
    nodes: RwLock<HashMap<u64, Arc<Node>>>,
    last: AtomicU64,
    /// The directory that data lies in, if it does not lie in memory.
    dir: Option<PathBuf>,
    /// Where it lies in memory.
    spare: Arc<Spare>,
}

/// A file or directory.
pub(crate) struct Node {
    state: Mutex<State>,
}

struct State {
    attr: Attr,
    body: Body,
}

enum Body {
    File(File),
    Dir(Dir),
}

struct Dir {
    parent: u64,
    names: HashMap<Bytes, Arc<Node>>,
    listed: BTreeMap<u64, (Bytes, Arc<Node>)>,
}

impl Dir {
    fn new(parent: u64) -> Self {
        Self { parent, names: HashMap::new(), listed: BTreeMap::new() }
    }
}

pub(crate) fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: now.as_secs() as i64, nanoseconds: now.subsec_nanos() }
}

fn time_of(set: SetTime, now: Timestamp) -> Timestamp {
    match set {
        SetTime::Now => now,
        SetTime::To(time) => time,
    }
}

impl State {
    fn dir(&mut self) -> Result<&mut Dir> {
        match &mut self.body {
            Body::Dir(dir) => Ok(dir),
            Body::File(_) => Err(ErrorKind::NotDirectory.into()),
        }
    }

    fn file(&mut self) -> Result<&mut File> {
        match &mut self.body {
            Body::File(file) => Ok(file),
            Body::Dir(_) => Err(ErrorKind::IsDirectory.into()),
        }
    }

    fn touch(&mut self, time: Timestamp) {
        self.attr.mtime = time;
        self.attr.ctime = time;
        self.attr.change += 1;
    }
}

impl Node {
    fn new(ino: u64, kind: Kind, body: Body, set: &SetAttr) -> Result<Self> {
        let (time, is_dir) = (now(), kind == Kind::Directory);
        let attr = Attr {
            ino: Ino::new(ino)?,
            kind,
            mode: set.mode.unwrap_or(if is_dir { 0o755 } else { 0o644 }) & 0o7777,
            nlink: if is_dir { 2 } else { 1 },
            uid: set.uid.unwrap_or(0),
            gid: set.gid.unwrap_or(0),
            size: if is_dir { 4096 } else { set.size.unwrap_or(0) },
            used: 0,
            atime: set.atime.map_or(time, |set| time_of(set, time)),
            mtime: set.mtime.map_or(time, |set| time_of(set, time)),
            ctime: time,
            btime: time,
            change: 1,
        };
        Ok(Self { state: Mutex::new(State { attr, body }) })
    }

    /// Its attributes.
    pub(crate) fn attr(&self) -> Attr {
        self.state.lock().attr.clone()
    }

    /// Changes attributes.
    pub(crate) fn set(&self, set: &SetAttr) -> Result<Wcc> {
        let (mut state, time) = (self.state.lock(), now());
        let before = state.attr.clone();
        if let Some(size) = set.size {
            state.file()?.cut(size)?;
            state.attr.size = size;
            state.attr.mtime = time;
        }
        let attr = &mut state.attr;
        attr.mode = set.mode.map_or(attr.mode, |mode| mode & 0o7777);
        attr.uid = set.uid.unwrap_or(attr.uid);
        attr.gid = set.gid.unwrap_or(attr.gid);
        attr.atime = set.atime.map_or(attr.atime, |set| time_of(set, time));
        attr.mtime = set.mtime.map_or(attr.mtime, |set| time_of(set, time));
        attr.ctime = time;
        attr.change += 1;
        Ok(Wcc::new(&before, attr.clone()))
    }

    /// Reads by reference.
    pub(crate) fn read(&self, offset: u64, len: u32) -> Result<ReadData> {
        let mut state = self.state.lock();
        let (len, eof) = within(state.attr.size, offset, len);
        Ok(ReadData { data: state.file()?.read(offset, len)?, eof })
    }

    /// Reads a copy.
    pub(crate) fn read_copied(&self, offset: u64, len: u32) -> Result<(Vec<u8>, bool)> {
        let read = self.read(offset, len)?;
        let mut data = Vec::with_capacity(read.data.len());
        read.data.as_slices().iter().for_each(|slice| data.extend_from_slice(slice));
        Ok((data, read.eof))
    }

    /// Writes.
    pub(crate) fn write<'a>(
        &self,
        mut offset: u64,
        slices: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Wcc> {
        let mut state = self.state.lock();
        let before = state.attr.clone();
        for slice in slices {
            state.file()?.write(offset, slice)?;
            offset += slice.len() as u64;
        }
        state.attr.size = state.attr.size.max(offset);
        state.attr.used = state.attr.size;
        state.touch(now());
        Ok(Wcc::new(&before, state.attr.clone()))
    }

    /// Finds a name.
    pub(crate) fn find(&self, name: &[u8]) -> Result<Arc<Node>> {
        let found = self.state.lock().dir()?.names.get(name).cloned();
        found.ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Shows the entries after a cookie until `visit` has had enough; whether it saw all.
    pub(crate) fn list(
        &self,
        after: u64,
        mut visit: impl FnMut(u64, &Bytes, Attr) -> bool,
    ) -> Result<bool> {
        let mut state = self.state.lock();
        for (cookie, (name, node)) in state.dir()?.listed.range(after.saturating_add(1)..) {
            if !visit(*cookie, name, node.attr()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// How much of a range lies in a file, and whether it reaches the end.
fn within(size: u64, offset: u64, len: u32) -> (usize, bool) {
    let left = size.saturating_sub(offset);
    (left.min(u64::from(len)) as usize, u64::from(len) >= left)
}

impl Memory {
    /// An empty file system, with its data in memory or in a directory.
    pub(crate) fn new(dir: Option<PathBuf>) -> Self {
        let mut nodes = HashMap::new();
        let set = SetAttr { mode: Some(0o777), ..SetAttr::default() };
        if let Ok(root) = Node::new(ROOT, Kind::Directory, Body::Dir(Dir::new(ROOT)), &set) {
            nodes.insert(ROOT, Arc::new(root));
        }
        let spare = Spare::new(if dir.is_none() { SPARE_PIECES } else { 0 });
        Self { nodes: RwLock::new(nodes), last: AtomicU64::new(ROOT), dir, spare }
    }

    /// An inode by number.
    pub(crate) fn node(&self, ino: u64) -> Result<Arc<Node>> {
        self.nodes.read().get(&ino).cloned().ok_or_else(|| ErrorKind::Stale.into())
    }

    /// The directory that holds a directory.
    fn above(&self, dir: &Node) -> Result<Arc<Node>> {
        let parent = dir.state.lock().dir()?.parent;
        self.node(parent)
    }

    /// Adds a file or directory, or fails if the name is taken.
    pub(crate) fn add(
        &self,
        dir: &Node,
        name: &[u8],
        kind: Kind,
        set: &SetAttr,
    ) -> Result<(Arc<Node>, Wcc)> {
        let mut state = dir.state.lock();
        let parent = state.attr.ino.get();
        if state.dir()?.names.contains_key(name) {
            return Err(ErrorKind::Exists.into());
        }
        let before = state.attr.clone();
        let ino = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let body = match kind {
            Kind::Regular => Body::File(File::new(self.dir.as_deref(), &self.spare, ino)?),
            Kind::Directory => Body::Dir(Dir::new(parent)),
            _ => return Err(ErrorKind::NotSupported.into()),
        };
        let node = Arc::new(Node::new(ino, kind, body, set)?);
        let name = Bytes::copy_from_slice(name);
        let entries = state.dir()?;
        entries.names.insert(name.clone(), Arc::clone(&node));
        entries.listed.insert(ino + COOKIE_FIRST, (name, Arc::clone(&node)));
        self.nodes.write().insert(ino, Arc::clone(&node));
        state.attr.nlink += u32::from(kind == Kind::Directory);
        state.touch(now());
        Ok((node, Wcc::new(&before, state.attr.clone())))
    }

    /// Removes a file.
    pub(crate) fn remove(&self, dir: &Node, name: &[u8]) -> Result<Wcc> {
        let mut state = dir.state.lock();
        let before = state.attr.clone();
        let entries = state.dir()?;
        let node = entries.names.get(name).ok_or(ErrorKind::NotFound)?;
        let Attr { ino, kind, .. } = node.attr();
        if kind == Kind::Directory {
            return Err(ErrorKind::IsDirectory.into());
        }
        entries.names.remove(name);
        entries.listed.remove(&(ino.get() + COOKIE_FIRST));
        self.nodes.write().remove(&ino.get());
        state.touch(now());
        Ok(Wcc::new(&before, state.attr.clone()))
    }
}
