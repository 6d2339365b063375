//! Directories that are still there after a power loss.
//!
//! See the store's module for which `fsync` is needed when.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Opens `dir`, relative to `root`, for reading and for `fsync`.
pub(super) fn open_dir(root: BorrowedFd<'_>, dir: &str) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(root, dir, flags, Mode::empty()).map(File::from)
}

/// `fsync`s a directory.
///
/// By the standard library, since on macOS `fsync` alone stops at the drive's cache.
pub(super) fn sync(dir: &File) -> rustix::io::Result<()> {
    match dir.sync_all().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)) {
        // Some network file systems keep directories durable and have no fsync for them.
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        other => other,
    }
}

/// Makes `path` and what is missing above it, each one durable in its parent.
pub(super) fn make_dirs(path: &Path, mode: Mode) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let path = std::path::absolute(path)?;
    if let Some(parent) = path.parent() {
        make_dirs(parent, mode)?;
        match rustix::fs::mkdir(&path, mode) {
            Err(Errno::EXIST) if path.is_dir() => {}
            made => made?,
        }
        sync(&File::open(parent)?)?;
    }
    Ok(())
}

/// Which of the 256 fan-out directories this process knows to be durable.
#[derive(Debug, Default)]
pub(super) struct Fanouts {
    known: [AtomicU64; 4],
}

impl Fanouts {
    fn bit(&self, byte: u8) -> (&AtomicU64, u64) {
        (&self.known[usize::from(byte / 64)], 1 << (byte % 64))
    }

    pub(super) fn is_known(&self, byte: u8) -> bool {
        let (word, bit) = self.bit(byte);
        word.load(Ordering::Acquire) & bit != 0
    }

    pub(super) fn learn(&self, byte: u8) {
        let (word, bit) = self.bit(byte);
        word.fetch_or(bit, Ordering::Release);
    }
}
