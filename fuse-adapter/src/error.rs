//! Why mounting or unmounting failed: what, where, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why mounting or unmounting failed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mount point does not exist.
    #[error("mount point {} does not exist: create it with `mkdir -p {}`", path.display(), path.display())]
    Missing {
        /// The mount point.
        path: PathBuf,
    },
    /// The mount point is something else.
    #[error("mount point {} is not a directory: name an existing directory", path.display())]
    NotDirectory {
        /// The mount point.
        path: PathBuf,
    },
    /// Another FUSE file system is there already, and it is alive.
    #[error(
        "a {fs_type} file system is already mounted on {}: unmount it with \
         `fusermount3 -u {}` or choose another directory", path.display(), path.display()
    )]
    AlreadyMounted {
        /// The mount point.
        path: PathBuf,
        /// What is mounted there.
        fs_type: String,
    },
    /// The process behind an earlier mount is gone, and its mount is still there.
    #[error(
        "{} is left over from a {fs_type} file system whose process is gone (\"Transport \
         endpoint is not connected\"): remove it with `fusermount3 -u {}`",
        path.display(), path.display()
    )]
    LeftOver {
        /// The mount point.
        path: PathBuf,
        /// What was mounted there.
        fs_type: String,
    },
    /// Files or directories of the mount are in use.
    #[error(
        "{} is in use: close what `fuser -vm {}` lists, or unmount with \
         `fusermount3 -uz {}`, which lets open files finish",
        path.display(), path.display(), path.display()
    )]
    Busy {
        /// The mount point.
        path: PathBuf,
    },
    /// The system does not let this user mount here.
    #[error(
        "not permitted to mount on {} ({detail}): the directory must be yours, and \
         mounting must be allowed to you (as root, outside a restricted container)",
        path.display()
    )]
    NotPermitted {
        /// The mount point.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// There is no FUSE device.
    #[error(
        "/dev/fuse is missing: load the driver with `modprobe fuse`; in a container, start \
         it with `--device /dev/fuse --cap-add SYS_ADMIN`"
    )]
    NoDevice,
    /// The FUSE device may not be opened.
    #[error(
        "/dev/fuse may not be opened by this user: make it accessible with \
         `chmod 666 /dev/fuse` (the usual mode) or mount as root"
    )]
    DeviceDenied,
    /// Whoever is not root needs a helper, and it is not installed.
    #[error(
        "fusermount3 was not found, and only root can mount without it: install the \
         package `fuse3` or mount as root"
    )]
    NoHelper,
    /// The system's configuration forbids `allow_other`.
    #[error(
        "allow_other is not permitted to this user: add a line `user_allow_other` to \
         /etc/fuse.conf, or mount without it"
    )]
    AllowOther,
    /// The helper refused for another reason.
    #[error("fusermount3 could not serve {}: {message}", path.display())]
    Helper {
        /// The mount point.
        path: PathBuf,
        /// What it said.
        message: String,
    },
    /// The kernel and this program could not agree, or the session broke.
    #[error("the FUSE session of {} failed: {message}", path.display())]
    Session {
        /// The mount point.
        path: PathBuf,
        /// What happened.
        message: String,
    },
    /// Anything else the system refused.
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}
