//! What POSIX decides without looking at any storage.
//!
//! Every file system behind [`crate::Vfs`] has to answer the same questions: may
//! this caller do that, what becomes of the set-id bits, is this rename legal.
//! The answers are pure functions of [`Attr`](crate::Attr) and
//! [`Cred`](crate::Cred) and live here once, so that the engine and the model
//! cannot disagree about them. Where POSIX leaves a choice, they do as Linux does
//! on a local disk, in the order in which Linux checks, because that order
//! decides which of two possible errors a program sees.
//!
//! With [`Dac::Delegated`](crate::Dac::Delegated) the kernel has made every
//! decision that depends on who the caller is: permission bits, ownership, sticky
//! directories, and the bits `chmod` drops. The rules then skip those, since the
//! supplementary groups are not known. What still holds whoever asks: kinds (no
//! data in a directory, no directory over a file), sizes, name and link limits,
//! inheritance of the group, dropping set-id bits on `chown` and on writes by
//! others than root, and `trusted.*` attributes being root's.

mod attributes;
mod names;
mod permission;
mod xattrs;

pub use attributes::{
    CAPABILITY, Changed, FirstAttributes, atime_is_due, first_attributes, has_verifier,
    mode_after_write, op_time, setattr, setattr_drops_capability, time_of, with_verifier,
};
pub use names::{
    RenameFacts, RenamePlan, link, may_add, may_make_node, may_remove, rename, rmdir, unlink,
};
pub use permission::{granted, is_superuser, may, may_change_data, may_look_up, may_open, permits};
pub use xattrs::{
    XATTR_NAME_LEN_MAX, XATTR_TOTAL_MAX, XATTR_VALUE_LEN_MAX, XattrSpace, may_read_xattr,
    may_write_xattr, xattr_fits, xattr_is_listed, xattr_mode_allows,
};

use crate::{ErrorKind, Result};

/// The longest target of a symbolic link, bytes (`PATH_MAX` less the NUL).
pub const SYMLINK_LEN_MAX: usize = 4095;

/// Set-user-id, as in `st_mode`.
pub const SET_UID: u16 = 0o4000;
/// Set-group-id, as in `st_mode`.
pub const SET_GID: u16 = 0o2000;
/// Only owners may remove entries, as in `st_mode`.
pub const STICKY: u16 = 0o1000;

/// Checks the target of a symbolic link.
pub fn symlink_target(target: &[u8]) -> Result<()> {
    if target.is_empty() {
        // What symlink(2) answers for an empty target.
        return Err(ErrorKind::NotFound.into());
    }
    if target.len() > SYMLINK_LEN_MAX {
        return Err(ErrorKind::NameTooLong.into());
    }
    if target.contains(&0) {
        return Err(ErrorKind::Invalid.into());
    }
    Ok(())
}

/// The end of a byte range, which no file may be longer than.
pub fn range_end(offset: u64, len: u64, file_size_max: u64) -> Result<u64> {
    match offset.checked_add(len) {
        Some(end) if end <= file_size_max => Ok(end),
        _ => Err(ErrorKind::FileTooBig.into()),
    }
}

#[cfg(test)]
mod tests;
