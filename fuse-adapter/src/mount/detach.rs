//! Takes a mount off its directory, as root or through `fusermount3`.

use super::{helper, table};
use crate::error::MountError;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::io;
use std::path::Path;
use std::process::Stdio;

/// What to do about files in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InUse {
    /// Refuse.
    Refuse,
    /// Take the mount out of the tree now, end it when the last file is closed.
    Linger,
}

/// Unmounts what is seen at `path`.
pub(crate) fn detach(path: &Path, in_use: InUse) -> Result<(), MountError> {
    let lazily = match in_use {
        InUse::Refuse => UnmountFlags::empty(),
        InUse::Linger => UnmountFlags::DETACH,
    };
    match rustix::mount::unmount(path, UnmountFlags::NOFOLLOW | lazily) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(MountError::Busy { path: path.to_owned() }),
        Err(Errno::PERM) => detach_through_helper(path, in_use),
        // Somebody was faster.
        Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed(path, errno.into())),
    }
}

fn failed(path: &Path, source: io::Error) -> MountError {
    MountError::Io { action: "unmount", path: path.to_owned(), source }
}

fn detach_through_helper(path: &Path, in_use: InUse) -> Result<(), MountError> {
    let output = helper::run(|command| {
        command.arg("-u");
        if in_use == InUse::Linger {
            command.arg("-z");
        }
        command.arg("--").arg(path).env("LC_ALL", "C").stdin(Stdio::null());
    })?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    if message.contains("busy") {
        return Err(MountError::Busy { path: path.to_owned() });
    }
    if table::top(path).map_err(|source| failed(path, source))?.is_none() {
        return Ok(());
    }
    Err(helper::refusal(path, &message))
}
