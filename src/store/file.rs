//! A store in a directory: `file:///path`.
//!
//! ```text
//! path/ab/abcd…      an object, below the first two characters of its name
//! path/vault.7       a vault header
//! path/.tmp/         what is being written
//! ```
//!
//! Everything is 0600 or 0700. Files that are none of these are left alone and
//! not listed, so the directory may be copied, synchronised and backed up by
//! other tools while nothing writes to it. Several processes may use one store.
//!
//! # Power loss
//!
//! A put answers after these, in this order, and none can be left out:
//!
//! 1. `fdatasync` of the file, before it gets its name. Otherwise the name can
//!    reach the disk before the bytes, and an object is empty or full of zeros.
//! 2. `fsync` of the directory above a new fan-out directory. Otherwise the
//!    whole fan-out directory is missing afterwards, with everything in it.
//!    Whoever finds one there cannot know whether its maker got that far, so
//!    each process does this once for every fan-out directory it puts into.
//! 3. `fsync` of the fan-out directory, after the file got its name. Otherwise
//!    the name is missing. This holds also when the name was already taken:
//!    the one who took it may not have got that far, and the loser is about to
//!    rely on it.
//!
//! `.tmp` needs none: what it loses had not been promised. A failed `fsync` of a
//! directory is final: the kernel may report it once and then forget what it
//! could not write, so a second attempt that succeeds would prove nothing. The
//! store takes no more puts and deletes until it is opened again. If it failed
//! because whoever has the directory is out of reach, nothing was forgotten: the
//! put has failed, and the next one asks again.
//!
//! # Blocking
//!
//! Calls work inline and never wait for another task: on a local disk that is
//! cheaper than moving the work to another thread, and the caller decides how
//! many run at once. Where they take long, `aside` makes them elsewhere.

mod durable;
mod put;
mod temp;

use super::{
    BlobStore, Capabilities, Error, ErrorKind, ObjectInfo, ObjectName, PutMode, PutOutcome, Result,
    StoreUrl, clip,
};
use async_trait::async_trait;
use bytes::Bytes;
use durable::Fanouts;
use put::Body;
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use temp::{Names, TempDir};

/// Above the largest pack. Also what a whole object may take in memory, however
/// long somebody has made the file.
const OBJECT_SIZE_MAX: u64 = 2 << 30;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
const DIR_MODE: Mode = Mode::RWXU;

/// A directory of objects; see the module for its layout.
pub struct FileStore {
    path: PathBuf,
    /// Held open, so that a disk mounted over the path later is not written to.
    root: OwnedFd,
    temp: TempDir,
    fanouts: Fanouts,
    /// An `fsync` of a directory has failed.
    is_broken: AtomicBool,
}

impl std::fmt::Debug for FileStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FileStore").field(&self.path).finish()
    }
}

/// Where an object's file is.
struct Place {
    /// Which fan-out directory; `None` is the root.
    fanout: Option<u8>,
    /// The file, relative to the root.
    file: String,
}

impl Place {
    fn of(name: &ObjectName) -> Self {
        let text = name.as_str();
        match u8::from_str_radix(&text[..2], 16) {
            Ok(byte) => Self { fanout: Some(byte), file: format!("{}/{text}", dir_name(byte)) },
            // A vault header: `va` is not hexadecimal.
            Err(_) => Self { fanout: None, file: text.to_owned() },
        }
    }

    /// The directory, relative to the root.
    fn dir(&self) -> String {
        self.fanout.map_or_else(|| ".".to_owned(), dir_name)
    }
}

fn dir_name(fanout: u8) -> String {
    format!("{fanout:02x}")
}

impl FileStore {
    /// Opens the store at `path`; makes the directory, and those above it, if
    /// they are not there.
    pub fn create(path: &Path) -> Result<Self> {
        crate::env::make_dirs(path).map_err(|error| {
            let (kind, detail) = match errno_of(&error) {
                Errno::NOTDIR | Errno::EXIST => (
                    ErrorKind::Invalid,
                    "something that is not a directory is in the way; give another path",
                ),
                errno => (
                    kind_of(errno),
                    "cannot make the directory; make it by hand, owned by this user, or give another path",
                ),
            };
            Error::new(kind).at(url_of(path)).detail(detail).because(error)
        })?;
        Self::open(path)
    }

    /// Opens the store at `path`, which must be there and writable.
    pub fn open(path: &Path) -> Result<Self> {
        let fail = |errno: Errno| {
            let error = Error::new(kind_of(errno)).at(url_of(path)).because(errno);
            match errno {
                Errno::NOENT => error.detail(
                    "there is no such directory; if it is on another disk, mount that first",
                ),
                Errno::NOTDIR => {
                    Error::new(ErrorKind::Invalid).at(url_of(path)).because(errno).detail(
                        "this is not a directory; give the directory that holds the objects",
                    )
                }
                Errno::ACCESS | Errno::PERM => error.detail(
                    "this user may not read and write the directory; change its owner with chown, or run as its owner",
                ),
                Errno::ROFS => error.detail(
                    "the directory is on a read-only file system; mount that for writing",
                ),
                _ => error,
            }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(fail)?;
        let temp = TempDir::open(root.as_fd()).map_err(fail)?;
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let (fanouts, is_broken) = (Fanouts::default(), AtomicBool::new(false));
        Ok(Self { path, root, temp, fanouts, is_broken })
    }

    fn error(&self, name: &ObjectName, errno: Errno) -> Error {
        Error::new(kind_of(errno)).at(self.location()).named(name).because(errno)
    }

    /// For calls on which an absent file means that the directory is gone.
    fn write_error(&self, name: &ObjectName, errno: Errno) -> Error {
        match errno {
            Errno::NOENT => Error::new(ErrorKind::Io)
                .at(self.location())
                .named(name)
                .because(errno)
                .detail("the store's directory has been removed; restore it and try again"),
            _ => self.error(name, errno),
        }
    }

    fn check_size(&self, name: &ObjectName, size: u64) -> Result<()> {
        if size <= OBJECT_SIZE_MAX {
            return Ok(());
        }
        Err(Error::new(ErrorKind::TooLarge)
            .at(self.location())
            .named(name)
            .detail(format!("{size} bytes are more than one object may have ({OBJECT_SIZE_MAX})")))
    }

    fn read(&self, name: &ObjectName, range: Option<Range<u64>>) -> Result<Bytes> {
        let fail = |errno| self.error(name, errno);
        // Without O_NONBLOCK, opening a FIFO that somebody put here would hang.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.root, Place::of(name).file, flags, Mode::empty())
            .map_err(fail)?;
        let stat = rustix::fs::fstat(&file).map_err(fail)?;
        self.check_regular(name, stat.st_mode)?;
        let part = clip(range, stat.st_size as u64);
        let len = part.end - part.start;
        self.check_size(name, len)?;
        let mut body = Vec::new();
        body.try_reserve_exact(len as usize).map_err(|error| {
            Error::new(ErrorKind::TooLarge)
                .at(self.location())
                .named(name)
                .detail(format!("no memory for {len} bytes"))
                .because(error)
        })?;
        while (body.len() as u64) < len {
            let offset = part.start + body.len() as u64;
            match rustix::io::pread(&file, spare_capacity(&mut body), offset) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(fail(errno)),
            }
        }
        // The allocator may have given more than was asked for.
        body.truncate(len as usize);
        Ok(body.into())
    }

    fn check_regular(&self, name: &ObjectName, mode: rustix::fs::RawMode) -> Result<()> {
        if FileType::from_raw_mode(mode) == FileType::RegularFile {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Io)
            .at(self.location())
            .named(name)
            .detail("something that is not a file has this object's name; remove it"))
    }

    fn list_dir(&self, dir: &str, prefix: &str, found: &mut Vec<ObjectInfo>) -> Result<()> {
        let fail = |errno: Errno| Error::new(kind_of(errno)).at(self.location()).because(errno);
        for entry in Names::read(self.root.as_fd(), dir).map_err(fail)? {
            let Ok(name) = entry.map_err(fail)?.parse::<ObjectName>() else { continue };
            let place = Place::of(&name);
            if place.dir() != dir || !name.as_str().starts_with(prefix) {
                continue;
            }
            match rustix::fs::statat(&self.root, &place.file, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                    found.push(ObjectInfo { name, size: stat.st_size as u64 });
                }
                // Deleted since, or not ours.
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(fail(errno).named(&name)),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl BlobStore for FileStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            create_if_absent: true,
            total_order: false,
            ranged_get: true,
            is_local: true,
            object_size_max: OBJECT_SIZE_MAX,
            alignment: 1,
        }
    }

    fn space(&self) -> Option<u64> {
        // What anybody may use, without what the disk keeps for root.
        let stat = rustix::fs::fstatvfs(&self.root).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn location(&self) -> String {
        url_of(&self.path)
    }

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        self.put_body(name, Body::Bytes(&body), mode)
    }

    async fn put_file(&self, name: &ObjectName, path: &Path, mode: PutMode) -> Result<PutOutcome> {
        self.put_body(name, Body::File(path), mode)
    }

    async fn get(&self, name: &ObjectName, range: Option<Range<u64>>) -> Result<Bytes> {
        self.read(name, range)
    }

    async fn size(&self, name: &ObjectName) -> Result<Option<u64>> {
        match rustix::fs::statat(&self.root, Place::of(name).file, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                self.check_regular(name, stat.st_mode)?;
                Ok(Some(stat.st_size as u64))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error(name, errno)),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let mut found = Vec::new();
        self.list_dir(".", prefix, &mut found)?;
        for byte in 0..=u8::MAX {
            let dir = dir_name(byte);
            if !dir.starts_with(prefix) && !prefix.starts_with(&dir) {
                continue;
            }
            match self.list_dir(&dir, prefix, &mut found) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                listed => listed?,
            }
        }
        Ok(found)
    }

    async fn delete(&self, name: &ObjectName) -> Result<()> {
        self.check_not_broken(name)?;
        let place = Place::of(name);
        match rustix::fs::unlinkat(&self.root, &place.file, AtFlags::empty()) {
            // Absent may mean that somebody else removed it a moment ago.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(self.error(name, errno)),
        }
        match durable::open_dir(self.root.as_fd(), &place.dir()) {
            Ok(dir) => self.sync_dir(name, &dir),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.error(name, errno)),
        }
    }
}

fn url_of(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    StoreUrl::File(path).to_string()
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// What the caller can do about what the kernel says.
fn kind_of(errno: Errno) -> ErrorKind {
    match errno {
        Errno::NOENT => ErrorKind::NotFound,
        Errno::NOSPC | Errno::DQUOT => ErrorKind::Full,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => ErrorKind::Denied,
        Errno::FBIG => ErrorKind::TooLarge,
        Errno::TIMEDOUT => ErrorKind::Offline,
        _ if is_elsewhere(errno) => ErrorKind::Offline,
        _ => ErrorKind::Io,
    }
}

/// Whether whoever has the directory cannot be asked: it is really on the network, or
/// behind FUSE. No disk of this machine says so.
fn is_elsewhere(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::HOSTDOWN | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::NETUNREACH | Errno::NOTCONN
    )
}

#[cfg(test)]
mod tests;
