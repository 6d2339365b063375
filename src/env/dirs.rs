//! Directories that are still there after a power loss.

use rustix::fs::Mode;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::path::Path;

/// `fsync`s a directory.
///
/// By the standard library, since on macOS `fsync` alone stops at the drive's cache.
pub fn sync_dir(dir: &File) -> io::Result<()> {
    match dir.sync_all() {
        // Some network file systems keep directories durable and have no fsync for them.
        Err(error)
            if matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::NOTSUP)) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Makes `path` and what is missing above it, for its owner only, each one durable
/// in its parent.
pub fn make_dirs(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let path = std::path::absolute(path)?;
    if let Some(parent) = path.parent() {
        make_dirs(parent)?;
        match rustix::fs::mkdir(&path, Mode::RWXU) {
            Err(Errno::EXIST) if path.is_dir() => {}
            made => made?,
        }
        sync_dir(&File::open(parent)?)?;
    }
    Ok(())
}
