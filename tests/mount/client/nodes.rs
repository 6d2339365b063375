//! From inode numbers to files.
//!
//! Where the kernel can find a file by its handle (`open_by_handle_at(2)`: FUSE with
//! `EXPORT_SUPPORT`, NFS, local disks), a number is just that, and a file that is gone is
//! gone. Elsewhere every file that was ever seen is held by an `O_PATH` descriptor, and
//! numbers work for what has a name only.

use super::{fail, raw};
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vfs::{ErrorKind, Ino, Result};

/// How long a file without names may take to go after its last close, which FUSE does
/// not wait for.
const CLOSING: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
enum Anchor {
    Handle(raw::FileHandle),
    Held(Arc<OwnedFd>),
}

/// A file, named by a descriptor that permits nothing.
#[derive(Debug)]
pub(super) struct Node(Arc<OwnedFd>);

impl Node {
    /// What a descriptor that permits nothing refers to.
    pub(super) fn held(file: OwnedFd) -> Self {
        Self(Arc::new(file))
    }

    /// A path that leads to the file whatever its names are.
    pub(super) fn path(&self) -> String {
        path_of(self.as_fd())
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A path that leads to an open file.
pub(super) fn path_of(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// All files that were seen.
#[derive(Debug)]
pub(super) struct Nodes {
    /// Opened for reading, because `open_by_handle_at` takes nothing less.
    root: OwnedFd,
    root_number: u64,
    finds_handles: bool,
    known: Mutex<HashMap<Ino, Anchor>>,
    /// Handles that the client's user holds.
    open: Mutex<HashMap<Ino, usize>>,
}

impl Nodes {
    /// Starts with the directory `root`.
    pub(super) fn new(root: &Path) -> Self {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).unwrap();
        let stat = rustix::fs::fstat(&root).unwrap();
        let found = raw::handle_of(root.as_fd()).and_then(|it| raw::find_handle(root.as_fd(), &it));
        let nodes = Self {
            root_number: stat.st_ino,
            finds_handles: found.is_ok(),
            known: Mutex::default(),
            open: Mutex::default(),
            root,
        };
        nodes.remember(Ino::ROOT, nodes.root.as_fd()).unwrap();
        nodes
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Whether what has no name can be asked for by number.
    pub(super) fn finds_handles(&self) -> bool {
        self.finds_handles
    }

    /// The trait's number for what the kernel calls `number`.
    pub(super) fn ino(&self, number: u64) -> Result<Ino> {
        if number == self.root_number { Ok(Ino::ROOT) } else { Ino::new(number) }
    }

    pub(super) fn knows(&self, ino: Ino) -> bool {
        self.known.lock().unwrap().contains_key(&ino)
    }

    /// Keeps what finds an open file again.
    pub(super) fn remember(&self, ino: Ino, file: BorrowedFd<'_>) -> Result<()> {
        let anchor = if self.finds_handles {
            Anchor::Handle(raw::handle_of(file).map_err(fail)?)
        } else if self.knows(ino) {
            return Ok(());
        } else {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let held = rustix::fs::open(path_of(file), flags, Mode::empty()).map_err(fail)?;
            Anchor::Held(Arc::new(held))
        };
        // Local disks use numbers again, so the newest anchor is the right one.
        self.known.lock().unwrap().insert(ino, anchor);
        Ok(())
    }

    /// Finds a file by number. One that has no name, and that nobody has open, is on its
    /// way out: its last close may not have arrived yet, so that is waited for.
    pub(super) fn find(&self, ino: Ino) -> Result<Node> {
        let step = Duration::from_millis(1);
        for _ in 0..CLOSING.as_millis() / step.as_millis() {
            let node = self.find_now(ino)?;
            if !self.finds_handles || self.open.lock().unwrap().contains_key(&ino) {
                return Ok(node);
            }
            let stat = rustix::fs::statx(&node, "", AtFlags::EMPTY_PATH, StatxFlags::NLINK);
            if stat.map_err(fail)?.stx_nlink > 0 {
                return Ok(node);
            }
            drop(node);
            #[expect(clippy::disallowed_methods, reason = "the kernel's time is real")]
            std::thread::sleep(step);
        }
        self.find_now(ino)
    }

    fn find_now(&self, ino: Ino) -> Result<Node> {
        let anchor = self.known.lock().unwrap().get(&ino).cloned();
        match anchor.ok_or(ErrorKind::Stale)? {
            Anchor::Held(held) => Ok(Node(held)),
            Anchor::Handle(handle) => match raw::find_handle(self.root(), &handle) {
                Ok(found) => Ok(Node(Arc::new(found))),
                Err(Errno::STALE) => Err(ErrorKind::Stale.into()),
                Err(errno) => Err(fail(errno)),
            },
        }
    }

    pub(super) fn opened(&self, ino: Ino) {
        *self.open.lock().unwrap().entry(ino).or_default() += 1;
    }

    pub(super) fn closed(&self, ino: Ino) {
        let mut open = self.open.lock().unwrap();
        if let Some(count) = open.get_mut(&ino) {
            *count -= 1;
            if *count == 0 {
                open.remove(&ino);
            }
        }
    }
}
