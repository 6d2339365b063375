//! Who may read, write and search what.
//!
//! The order of the classes is POSIX's: the owner's bits decide for the owner
//! even when the group's would give more.

use crate::{Access, Attr, Cred, Dac, ErrorKind, Kind, OpenFlags, Result};

/// Whether the caller overrides permission and ownership.
#[must_use]
pub fn is_superuser(cred: &Cred) -> bool {
    cred.uid == 0
}

/// What the permission bits of `attr` grant the caller.
///
/// This is what `access(2)` reports. Root may do everything, except run a file
/// that nobody may run.
#[must_use]
pub fn granted(cred: &Cred, attr: &Attr) -> Access {
    if is_superuser(cred) {
        let runs = attr.kind == Kind::Directory || attr.mode & 0o111 != 0;
        let data = Access::READ.and(Access::WRITE);
        return if runs { data.and(Access::EXECUTE) } else { data };
    }
    let shift = if cred.uid == attr.uid {
        6
    } else if cred.is_in_group(attr.gid) {
        3
    } else {
        0
    };
    Access(u8::try_from(attr.mode >> shift & 7).unwrap_or(0))
}

/// Whether the caller has all of `want` on `attr`.
///
/// With [`Dac::EnforceExceptOwner`] two more things are allowed on regular files,
/// because an NFSv3 server sees only single reads and writes: the owner may read
/// and write (the permission was there at `open`), and who may run a file may
/// read it (that is how a client runs it).
#[must_use]
pub fn permits(cred: &Cred, attr: &Attr, want: Access, dac: Dac) -> bool {
    if dac == Dac::Delegated {
        return true;
    }
    let have = granted(cred, attr);
    if have.contains(want) {
        return true;
    }
    if dac != Dac::EnforceExceptOwner || attr.kind != Kind::Regular {
        return false;
    }
    let data = Access::READ.and(Access::WRITE);
    (cred.uid == attr.uid && have.and(data).contains(want))
        || (have.contains(Access::EXECUTE) && have.and(Access::READ).contains(want))
}

/// Fails with [`ErrorKind::Access`] unless the caller has all of `want`.
pub fn may(cred: &Cred, attr: &Attr, want: Access, dac: Dac) -> Result<()> {
    if permits(cred, attr, want, dac) { Ok(()) } else { Err(ErrorKind::Access.into()) }
}

/// Checks that names may be looked up in `dir`.
pub fn may_look_up(cred: &Cred, dir: &Attr, dac: Dac) -> Result<()> {
    if dir.kind != Kind::Directory {
        return Err(ErrorKind::NotDirectory.into());
    }
    may(cred, dir, Access::EXECUTE, dac)
}

/// Checks that `attr` is a file whose data `want` may be done to, now.
pub fn may_change_data(cred: &Cred, attr: &Attr, want: Access, dac: Dac) -> Result<()> {
    match attr.kind {
        Kind::Regular => may(cred, attr, want, dac),
        Kind::Directory => Err(ErrorKind::IsDirectory.into()),
        _ => Err(ErrorKind::Invalid.into()),
    }
}

/// Checks that `attr` may be opened with `flags`.
///
/// Fifos, sockets, devices and symbolic links are the kernel's to open and never
/// a file system's.
pub fn may_open(cred: &Cred, attr: &Attr, flags: OpenFlags, dac: Dac) -> Result<()> {
    let changes = flags.write || flags.truncate;
    match attr.kind {
        Kind::Directory if changes => return Err(ErrorKind::IsDirectory.into()),
        Kind::Directory | Kind::Regular => {}
        _ => return Err(ErrorKind::Invalid.into()),
    }
    let mut want = Access::default();
    if flags.read {
        want = want.and(Access::READ);
    }
    if changes {
        want = want.and(Access::WRITE);
    }
    may(cred, attr, want, dac)
}
