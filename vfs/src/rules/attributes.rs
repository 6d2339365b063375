//! Owners, modes and times: what they start as and what changes them.

use super::{SET_GID, SET_UID, STICKY, is_superuser, may};
use crate::{
    Access, Attr, Cred, Dac, ErrorKind, IfExists, Kind, Result, SetAttr, SetTime, Timestamp,
};

/// Seconds after which relatime refreshes an access time anyway.
const ATIME_AGE_MAX_S: i64 = 24 * 60 * 60;

/// Owner, group and mode of a new inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstAttributes {
    /// Permission, set-id and sticky bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Decides owner, group and mode of what the caller creates in `dir`.
///
/// A set-group-id directory gives its group to everything made in it, and the bit
/// to directories. An owner or group in `asked` is a `chown` right after the
/// creation and needs the same right. Without a mode, files get 0600 and
/// directories 0700: an exclusive NFSv3 create names its mode only afterwards.
pub fn first_attributes(
    cred: &Cred,
    dir: &Attr,
    kind: Kind,
    asked: &SetAttr,
    dac: Dac,
) -> Result<FirstAttributes> {
    let inherits = dir.mode & SET_GID != 0;
    let own_gid = if inherits { dir.gid } else { cred.gid.unwrap_or(dir.gid) };
    let uid = asked.uid.unwrap_or(cred.uid);
    let gid = asked.gid.unwrap_or(own_gid);
    let free = dac == Dac::Delegated || is_superuser(cred);
    if !free && (uid != cred.uid || (gid != own_gid && !cred.is_in_group(gid))) {
        return Err(ErrorKind::Permission.into());
    }
    let mode = match kind {
        Kind::Symlink => 0o777,
        Kind::Directory => {
            // mkdir(2) ignores the set-id bits of its mode.
            let mode = asked.mode.unwrap_or(0o700) & (0o777 | STICKY);
            if inherits { mode | SET_GID } else { mode }
        }
        _ => {
            let mode = asked.mode.unwrap_or(0o600) & 0o7777;
            let lends_group = mode & (SET_GID | 0o010) == SET_GID | 0o010;
            if lends_group && !free && !cred.is_in_group(gid) { mode & !SET_GID } else { mode }
        }
    };
    Ok(FirstAttributes { mode, uid, gid })
}

/// Owner, group and mode after an authorised [`setattr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Permission, set-id and sticky bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Authorises `set` on `attr` and decides the owner, group and mode it leads to.
///
/// `is_open_for_writing` says that the request came through a handle that may
/// write, so that the length may be set whatever the mode is now. All of `set` is
/// judged before any of it may be applied.
///
/// `chown` of anything but a directory drops the set-id bits, for root as well,
/// as on Linux; a mode in the same request is applied after that. Times that are
/// all "now" need ownership or write permission, any other time ownership.
pub fn setattr(
    cred: &Cred,
    attr: &Attr,
    set: &SetAttr,
    is_open_for_writing: bool,
    file_size_max: u64,
    dac: Dac,
) -> Result<Changed> {
    if set.only_if_ctime.is_some_and(|guard| guard != attr.ctime) {
        return Err(ErrorKind::NotSync.into());
    }
    if let Some(size) = set.size {
        match attr.kind {
            Kind::Regular if size > file_size_max => return Err(ErrorKind::FileTooBig.into()),
            Kind::Regular => {}
            Kind::Directory => return Err(ErrorKind::IsDirectory.into()),
            _ => return Err(ErrorKind::Invalid.into()),
        }
    }
    if dac != Dac::Delegated {
        may_set(cred, attr, set, is_open_for_writing, dac)?;
    }
    let (uid, gid) = (set.uid.unwrap_or(attr.uid), set.gid.unwrap_or(attr.gid));
    let mut mode = attr.mode;
    if set.size.is_some() {
        mode = mode_after_write(cred, attr, dac);
    }
    if (set.uid.is_some() || set.gid.is_some()) && attr.kind != Kind::Directory {
        mode &= !SET_UID;
        if mode & 0o010 != 0 {
            mode &= !SET_GID;
        }
    }
    if let Some(asked) = set.mode {
        mode = asked & 0o7777;
        let may_lend = dac == Dac::Delegated || is_superuser(cred) || cred.is_in_group(gid);
        if !may_lend {
            mode &= !SET_GID;
        }
    }
    Ok(Changed { mode, uid, gid })
}

fn may_set(
    cred: &Cred,
    attr: &Attr,
    set: &SetAttr,
    is_open_for_writing: bool,
    dac: Dac,
) -> Result<()> {
    let root = is_superuser(cred);
    let owner = root || cred.uid == attr.uid;
    if let Some(uid) = set.uid
        && !root
        && (!owner || uid != attr.uid)
    {
        return Err(ErrorKind::Permission.into());
    }
    if let Some(gid) = set.gid
        && !root
        && (!owner || (gid != attr.gid && !cred.is_in_group(gid)))
    {
        return Err(ErrorKind::Permission.into());
    }
    if set.mode.is_some() && !owner {
        return Err(ErrorKind::Permission.into());
    }
    if set.size.is_some() && !is_open_for_writing {
        may(cred, attr, Access::WRITE, dac)?;
    }
    let times = [set.atime, set.mtime];
    if times.iter().flatten().any(|time| matches!(time, SetTime::To(_))) {
        if !owner {
            return Err(ErrorKind::Permission.into());
        }
    } else if times.iter().any(Option::is_some) && !owner && !is_open_for_writing {
        may(cred, attr, Access::WRITE, dac)?;
    }
    Ok(())
}

/// The mode after the caller wrote to or cut a regular file: others than root
/// leave no set-id bit behind on what somebody may run.
#[must_use]
pub fn mode_after_write(cred: &Cred, attr: &Attr, dac: Dac) -> u16 {
    if is_superuser(cred) || attr.kind != Kind::Regular {
        return attr.mode;
    }
    let runs_as_group = attr.mode & 0o010 != 0;
    let is_stranger = dac != Dac::Delegated && !cred.is_in_group(attr.gid);
    let kept = if runs_as_group || is_stranger { 0o1777 } else { 0o1777 | SET_GID };
    attr.mode & kept
}

/// The times that a file made by an exclusive create begins with: they are its verifier,
/// and as durable as the file, until the client sets them to what they should be, which is
/// its next request (RFC 1813 §3.3.8, and what Linux's server does).
fn verifier_times(verifier: [u8; 8]) -> (Timestamp, Timestamp) {
    let number = u64::from_be_bytes(verifier);
    let time = |seconds: u64| Timestamp { seconds: seconds as i64, nanoseconds: 0 };
    (time(number >> 32), time(number & 0xffff_ffff))
}

/// What is asked of a new file, with the verifier if it has one.
#[must_use]
pub fn with_verifier(asked: &SetAttr, if_exists: IfExists) -> SetAttr {
    let IfExists::SameVerifier(verifier) = if_exists else { return asked.clone() };
    let (atime, mtime) = verifier_times(verifier);
    SetAttr { atime: Some(SetTime::To(atime)), mtime: Some(SetTime::To(mtime)), ..asked.clone() }
}

/// Whether a file was made by an exclusive create with this verifier, and nobody has set
/// its times since.
#[must_use]
pub fn has_verifier(attr: &Attr, verifier: [u8; 8]) -> bool {
    attr.kind == Kind::Regular && (attr.atime, attr.mtime) == verifier_times(verifier)
}

/// The extended attribute that holds a file's capabilities. Every change of its
/// data takes it away, whoever makes it, and so does giving the file away.
pub const CAPABILITY: &[u8] = b"security.capability";

/// Whether a change of attributes takes a file's capabilities away.
#[must_use]
pub fn setattr_drops_capability(attr: &Attr, set: &SetAttr) -> bool {
    let gives_away = set.uid.is_some() || set.gid.is_some();
    (gives_away && attr.kind != Kind::Directory) || set.size.is_some()
}

/// Whether a read has to write the access time (relatime): it is not newer than
/// the last change, or a day old.
#[must_use]
pub fn atime_is_due(attr: &Attr, now: Timestamp) -> bool {
    attr.atime <= attr.mtime
        || attr.atime <= attr.ctime
        || now.seconds.saturating_sub(attr.atime.seconds) >= ATIME_AGE_MAX_S
}

/// The time of an operation that changes inodes with these change times: the
/// clock's, but later than all of them, so that a change time only ever rises
/// even when the clock stands still or is set back.
#[must_use]
pub fn op_time(now: Timestamp, ctimes: impl IntoIterator<Item = Timestamp>) -> Timestamp {
    ctimes.into_iter().map(just_after).fold(now, Timestamp::max)
}

fn just_after(time: Timestamp) -> Timestamp {
    if time.nanoseconds < 999_999_999 {
        Timestamp { seconds: time.seconds, nanoseconds: time.nanoseconds + 1 }
    } else {
        Timestamp { seconds: time.seconds.saturating_add(1), nanoseconds: 0 }
    }
}

/// The value a [`SetTime`] stands for in an operation at `now`.
#[must_use]
pub fn time_of(set: SetTime, now: Timestamp) -> Timestamp {
    match set {
        SetTime::Now => now,
        SetTime::To(time) => time,
    }
}
