//! Extended attributes: namespaces, limits and who may see or change which.

use super::{STICKY, is_superuser, may};
use crate::{Access, Attr, Cred, Dac, ErrorKind, Kind, Result, XattrMode};

/// The longest name, bytes.
pub const XATTR_NAME_LEN_MAX: usize = 255;
/// The longest value, bytes.
pub const XATTR_VALUE_LEN_MAX: usize = 65_536;
/// Bytes of all names and values of one inode together.
pub const XATTR_TOTAL_MAX: usize = 65_536;

/// A namespace that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrSpace {
    /// `user.*`: anybody's, guarded by the permission bits.
    User,
    /// `trusted.*`: root's, invisible to others.
    Trusted,
    /// `security.*`: read by everybody, written by root.
    Security,
    /// `system.posix_acl_access`: kept, not interpreted.
    AclAccess,
    /// `system.posix_acl_default`: kept, not interpreted.
    AclDefault,
}

impl XattrSpace {
    /// Finds the namespace of `name`, and checks the name.
    pub fn of(name: &[u8]) -> Result<Self> {
        if name.is_empty() || name.len() > XATTR_NAME_LEN_MAX {
            return Err(ErrorKind::Range.into());
        }
        if name.contains(&0) {
            return Err(ErrorKind::Invalid.into());
        }
        let spaces: [(&[u8], Self); 3] =
            [(b"user.", Self::User), (b"trusted.", Self::Trusted), (b"security.", Self::Security)];
        for (prefix, space) in spaces {
            match name.strip_prefix(prefix) {
                Some([]) => return Err(ErrorKind::Invalid.into()),
                Some(_) => return Ok(space),
                None => {}
            }
        }
        match name {
            b"system.posix_acl_access" => Ok(Self::AclAccess),
            b"system.posix_acl_default" => Ok(Self::AclDefault),
            _ => Err(ErrorKind::NotSupported.into()),
        }
    }
}

/// Whether `user.*` exists on this kind at all.
const fn has_user_space(kind: Kind) -> bool {
    matches!(kind, Kind::Regular | Kind::Directory)
}

/// Checks that the caller may read the attribute `name` of `attr`.
pub fn may_read_xattr(cred: &Cred, attr: &Attr, name: &[u8], dac: Dac) -> Result<()> {
    match XattrSpace::of(name)? {
        XattrSpace::User if !has_user_space(attr.kind) => Err(ErrorKind::NoData.into()),
        XattrSpace::User => may(cred, attr, Access::READ, dac),
        XattrSpace::Trusted if !is_superuser(cred) => Err(ErrorKind::NoData.into()),
        _ => Ok(()),
    }
}

/// Checks that the caller may set (`value_len` given) or remove the attribute
/// `name` of `attr`.
pub fn may_write_xattr(
    cred: &Cred,
    attr: &Attr,
    name: &[u8],
    value_len: Option<usize>,
    dac: Dac,
) -> Result<()> {
    let space = XattrSpace::of(name)?;
    if value_len.is_some_and(|len| len > XATTR_VALUE_LEN_MAX) {
        return Err(ErrorKind::Range.into());
    }
    let root = is_superuser(cred);
    let owner = root || cred.uid == attr.uid || dac == Dac::Delegated;
    match space {
        XattrSpace::User => {
            let is_foreign_sticky =
                attr.kind == Kind::Directory && attr.mode & STICKY != 0 && !owner;
            if !has_user_space(attr.kind) || is_foreign_sticky {
                return Err(ErrorKind::Permission.into());
            }
            may(cred, attr, Access::WRITE, dac)
        }
        XattrSpace::Trusted if !root => Err(ErrorKind::Permission.into()),
        XattrSpace::Security if !root && dac != Dac::Delegated => Err(ErrorKind::Permission.into()),
        XattrSpace::AclAccess | XattrSpace::AclDefault if attr.kind == Kind::Symlink => {
            Err(ErrorKind::NotSupported.into())
        }
        XattrSpace::AclAccess | XattrSpace::AclDefault if !owner => {
            Err(ErrorKind::Permission.into())
        }
        XattrSpace::AclDefault if attr.kind != Kind::Directory && value_len.is_some() => {
            Err(ErrorKind::Access.into())
        }
        _ => Ok(()),
    }
}

/// Whether the caller sees `name` in a listing.
#[must_use]
pub fn xattr_is_listed(cred: &Cred, name: &[u8]) -> bool {
    is_superuser(cred) || !name.starts_with(b"trusted.")
}

/// Checks what `mode` requires of an attribute that `exists` or not.
pub fn xattr_mode_allows(mode: XattrMode, exists: bool) -> Result<()> {
    match (mode, exists) {
        (XattrMode::Create, true) => Err(ErrorKind::Exists.into()),
        (XattrMode::Replace, false) => Err(ErrorKind::NoData.into()),
        _ => Ok(()),
    }
}

/// Checks that names and values of this many bytes may be kept with one inode.
pub fn xattr_fits(total_bytes: usize) -> Result<()> {
    if total_bytes > XATTR_TOTAL_MAX { Err(ErrorKind::NoSpace.into()) } else { Ok(()) }
}
