//! Makes sure that a directory can be mounted on, and clears away what a killed
//! process left there.

use super::detach::{InUse, detach};
use super::table;
use crate::error::MountError;
use crate::options::Options;
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Left-over mounts that may lie on top of each other.
const LEFT_OVER_MAX: usize = 16;
/// A mount that does not answer for so long is not dead: a dead one fails at once.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Checks the mount point and gives its path, absolute and without links.
pub(crate) fn prepare(options: &Options) -> Result<PathBuf, MountError> {
    let path = resolve(&options.mount_point)?;
    clear(&path, &options.fs_type())?;
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => Ok(path),
        Ok(_) => Err(MountError::NotDirectory { path }),
        Err(error) => Err(unusable(path, error)),
    }
}

fn unusable(path: PathBuf, source: io::Error) -> MountError {
    match source.kind() {
        io::ErrorKind::NotFound => MountError::Missing { path },
        io::ErrorKind::NotADirectory => MountError::NotDirectory { path },
        io::ErrorKind::PermissionDenied => {
            MountError::NotPermitted { path, detail: source.to_string() }
        }
        _ => MountError::Io { action: "use", path, source },
    }
}

fn resolve(path: &Path) -> Result<PathBuf, MountError> {
    match path.canonicalize() {
        Ok(path) => Ok(path),
        // The mount point itself is a dead mount; its directory is not.
        Err(error) if is_dead(&error) => match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                let parent = parent.canonicalize().map_err(|e| unusable(path.to_owned(), e))?;
                Ok(parent.join(name))
            }
            _ => Err(unusable(path.to_owned(), error)),
        },
        Err(error) => Err(unusable(path.to_owned(), error)),
    }
}

/// Removes dead mounts of our own type; refuses live ones and other people's.
fn clear(path: &Path, own_type: &str) -> Result<(), MountError> {
    for _ in 0..LEFT_OVER_MAX {
        let row = table::top(path).map_err(|e| unusable(path.to_owned(), e))?;
        let Some(row) = row.filter(table::Row::is_fuse) else { return Ok(()) };
        let (path, fs_type) = (path.to_owned(), row.fs_type);
        if !answers_dead(&path) {
            return Err(MountError::AlreadyMounted { path, fs_type });
        }
        if fs_type != own_type || detach(&path, InUse::Linger).is_err() {
            return Err(MountError::LeftOver { path, fs_type });
        }
        log::warn!("removed a mount that a killed process left on {}", path.display());
    }
    Ok(())
}

/// Whether nobody serves the mount at `path` any more. Asked for its statistics, because
/// the kernel keeps those of no mount, and from a thread of its own, because a mount that
/// hangs would hang whoever asks.
fn answers_dead(path: &Path) -> bool {
    let (sender, receiver) = channel();
    let path = path.to_owned();
    let look = move || {
        let dead = rustix::fs::statfs(&path).is_err_and(|errno| is_dead(&errno.into()));
        // Nobody listens any more if this came too late.
        let _ = sender.send(dead);
    };
    let thread = std::thread::Builder::new().name("fuse-look".to_owned()).spawn(look);
    thread.is_ok() && receiver.recv_timeout(ANSWER_MAX).unwrap_or(false)
}

/// "Transport endpoint is not connected".
fn is_dead(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error())
}
