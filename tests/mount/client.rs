//! A [`Vfs`] by system calls on a directory, for holding a mount to what the trait says.
//!
//! It knows nothing about what is mounted. An operation is the system call that a
//! program would make for it, made by a thread that has become the caller, so that the
//! kernel checks permissions as it does for everybody.
//!
//! What system calls cannot say is done with several of them or refused here:
//!
//! * owners, sizes and times at creation follow it, and undo it when they fail;
//! * `SetAttr::only_if_ctime` is looked at before the change;
//! * numbers of 2^63 and more are too big here already;
//! * what is neither a file nor a directory is not opened, and `mknod` makes neither;
//! * the state before and after an operation is asked for before and after it;
//! * whose lock refuses another is remembered (`locks.rs`).

mod data;
mod locks;
mod names;
mod nodes;
mod raw;

use locks::Locks;
use nodes::{Node, Nodes, path_of};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, StatxTimestamp};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use std::future::pending;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vfs::{
    At, Attr, Change, Context, Cred, Entry, ErrorKind, Ino, Kind, Limits, OpenFlags, Result,
    Timestamp, Validity, Wcc,
};

/// The answer where nothing is known of earlier lives.
const VERIFIER: vfs::WriteVerifier = vfs::WriteVerifier(1);

/// A client of the directory it was given. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    nodes: Nodes,
    locks: Locks,
    limits: Limits,
}

/// An open file or directory.
#[derive(Debug)]
pub(crate) struct Handle {
    file: OwnedFd,
    ino: Ino,
    shared: Arc<Shared>,
    /// Held while `O_APPEND` is set.
    appending: Mutex<()>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.nodes.closed(self.ino);
    }
}

/// A file to work with, which may have to be opened for it.
enum Usable<'a> {
    Open(BorrowedFd<'a>),
    Found(Node),
}

impl Usable<'_> {
    /// The file, opened as `flags` say unless it was before. The caller opens it.
    fn open(&self, flags: OFlags) -> Result<Opened<'_>> {
        match self {
            Self::Open(file) => Ok(Opened::Before(*file)),
            Self::Found(node) => Ok(Opened::Now(open_node(node, flags)?)),
        }
    }
}

/// An open file, whoever closes it.
enum Opened<'a> {
    Before(BorrowedFd<'a>),
    Now(OwnedFd),
}

impl AsFd for Opened<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Before(file) => *file,
            Self::Now(file) => file.as_fd(),
        }
    }
}

/// Nothing is ever announced.
#[derive(Debug)]
pub(crate) struct Silence;

impl vfs::Changes for Silence {
    async fn next(&mut self) -> Option<Change> {
        pending().await
    }
}

/// The kind behind an error number.
fn fail(errno: Errno) -> vfs::Error {
    let kind = match errno {
        // An extended attribute over 64 KiB.
        Errno::TOOBIG => ErrorKind::Range,
        // A link where none may be.
        Errno::LOOP => ErrorKind::Invalid,
        _ => ErrorKind::from_linux_errno(errno.raw_os_error()).unwrap_or(ErrorKind::Io),
    };
    vfs::Error::because(kind, errno)
}

/// Does `work` as the caller: root here and now, anybody else on a thread of their own.
fn as_caller<T: Send>(cred: &Cred, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    if cred.uid == 0 {
        return work();
    }
    let become_caller = || {
        let (uid, gid) = (Uid::from_raw(cred.uid), Gid::from_raw(cred.gid.unwrap_or(cred.uid)));
        let groups: Vec<_> = cred.groups.as_slice().iter().map(|&it| Gid::from_raw(it)).collect();
        rustix::thread::set_thread_groups(&groups)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        // The last, because it takes the thread's capabilities.
        rustix::thread::set_thread_res_uid(uid, uid, uid)
    };
    let body = || become_caller().map_err(fail).and_then(|()| work());
    std::thread::scope(|scope| {
        scope.spawn(body).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Opens a file that was found.
fn open_node(node: &Node, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(node.path(), flags | OFlags::CLOEXEC, Mode::empty()).map_err(fail)
}

fn flags_of(flags: OpenFlags) -> OFlags {
    let access = match (flags.read, flags.write) {
        (_, false) => OFlags::RDONLY,
        (false, true) => OFlags::WRONLY,
        (true, true) => OFlags::RDWR,
    };
    if flags.truncate { access | OFlags::TRUNC } else { access }
}

fn time_of(time: StatxTimestamp) -> Timestamp {
    Timestamp { seconds: time.tv_sec, nanoseconds: time.tv_nsec }
}

fn kind_of(file_type: FileType, major: u32, minor: u32) -> Result<Kind> {
    match file_type {
        FileType::RegularFile => Ok(Kind::Regular),
        FileType::Directory => Ok(Kind::Directory),
        FileType::Symlink => Ok(Kind::Symlink),
        FileType::Fifo => Ok(Kind::Fifo),
        FileType::Socket => Ok(Kind::Socket),
        FileType::CharacterDevice => Ok(Kind::CharDevice { major, minor }),
        FileType::BlockDevice => Ok(Kind::BlockDevice { major, minor }),
        FileType::Unknown => Err(ErrorKind::Io.into()),
    }
}

impl Client {
    /// A client whose root is `root`; what a mount cannot say about its limits is told
    /// here. Takes the process's umask away.
    pub(crate) fn new(root: &Path, limits: Limits) -> Self {
        rustix::process::umask(Mode::empty());
        let (nodes, locks) = (Nodes::new(root), Locks::default());
        Self { shared: Arc::new(Shared { nodes, locks, limits }) }
    }

    /// Whether what has no name can be asked for by number.
    pub(crate) fn finds_by_number(&self) -> bool {
        self.nodes().finds_handles()
    }

    fn nodes(&self) -> &Nodes {
        &self.shared.nodes
    }

    /// The attributes of a file that is open or was found.
    fn attr(&self, file: BorrowedFd<'_>) -> Result<Attr> {
        let asked = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let stat = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, asked).map_err(fail)?;
        let mode = stat.stx_mode;
        let file_type = FileType::from_raw_mode(mode.into());
        Ok(Attr {
            ino: self.nodes().ino(stat.stx_ino)?,
            kind: kind_of(file_type, stat.stx_rdev_major, stat.stx_rdev_minor)?,
            mode: mode & 0o7777,
            nlink: stat.stx_nlink,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: stat.stx_size,
            used: stat.stx_blocks * 512,
            atime: time_of(stat.stx_atime),
            mtime: time_of(stat.stx_mtime),
            ctime: time_of(stat.stx_ctime),
            btime: time_of(stat.stx_btime),
            change: 0,
        })
    }

    /// The entry of a file that is open or was found, which can be found from now on.
    fn entry(&self, file: BorrowedFd<'_>) -> Result<Entry> {
        let attr = self.attr(file)?;
        self.nodes().remember(attr.ino, file)?;
        Ok(Entry { attr, validity: Validity::For(Duration::ZERO) })
    }

    fn attr_at(&self, at: At<'_, Handle>) -> Result<Attr> {
        match at {
            At::Ino(ino) => self.attr(self.nodes().find(ino)?.as_fd()),
            At::Open(handle) => self.attr(handle.file.as_fd()),
        }
    }

    fn ino_of(at: At<'_, Handle>) -> Ino {
        match at {
            At::Ino(ino) => ino,
            At::Open(handle) => handle.ino,
        }
    }

    /// Surrounds `work` with the state of the inode before and after it.
    fn around<T>(&self, at: At<'_, Handle>, work: impl FnOnce() -> Result<T>) -> Result<(T, Wcc)> {
        let before = self.attr_at(at)?;
        let done = work()?;
        Ok((done, Wcc::new(&before, self.attr_at(at)?)))
    }

    /// What may be opened: files and directories.
    fn find_openable(&self, ino: Ino) -> Result<Node> {
        let node = self.nodes().find(ino)?;
        match self.attr(node.as_fd())?.kind {
            Kind::Regular | Kind::Directory => Ok(node),
            _ => Err(ErrorKind::Invalid.into()),
        }
    }

    /// Does `work` as the caller with a file that is open, or is opened as `flags` say.
    fn with_file<T: Send>(
        &self,
        cx: Context<'_>,
        at: At<'_, Handle>,
        flags: OFlags,
        work: impl FnOnce(BorrowedFd<'_>) -> Result<T> + Send,
    ) -> Result<T> {
        let file = self.usable(at)?;
        as_caller(cx.cred, || work(file.open(flags)?.as_fd()))
    }

    /// What an operation on data is directed at.
    fn usable<'a>(&self, at: At<'a, Handle>) -> Result<Usable<'a>> {
        match at {
            At::Open(handle) => Ok(Usable::Open(handle.file.as_fd())),
            At::Ino(ino) => Ok(Usable::Found(self.find_openable(ino)?)),
        }
    }

    fn handle(&self, file: OwnedFd, ino: Ino) -> Handle {
        self.nodes().opened(ino);
        Handle { file, ino, shared: Arc::clone(&self.shared), appending: Mutex::new(()) }
    }
}
