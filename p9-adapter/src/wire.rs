//! The protocol's numbers: 9P2000 as in Plan 9's intro(5), with the messages and the
//! numbers of Linux that 9P2000.L adds.
//!
//! Integers are little-endian. A string is two bytes of length and that many bytes of
//! any kind. A message is its own length in four bytes, a kind, a tag and its fields.

mod reply;
mod request;

pub(crate) use reply::Reply;
pub(crate) use request::{ClaimedLock, Message, Request, SetAttrRequest};

use vfs::{Attr, ErrorKind, Ino, Kind};

/// The one version that is spoken.
pub(crate) const VERSION: &[u8] = b"9P2000.L";
/// What a version nobody speaks is answered with.
pub(crate) const VERSION_UNKNOWN: &[u8] = b"unknown";
/// The longest message that can be agreed on, and the shortest worth it.
pub(crate) const MSIZE_MAX: u32 = 1 << 20;
pub(crate) const MSIZE_MIN: u32 = 4096;
/// The longest message before one was agreed on.
pub(crate) const MSIZE_FIRST: u32 = 8192;

/// Length, kind and tag.
pub(crate) const HEADER_LEN: usize = 7;
/// Header and count, in front of the data of a reply.
pub(crate) const DATA_HEADER_LEN: u32 = 11;
/// What Linux leaves for everything but the data of a read or a write.
pub(crate) const IO_OVERHEAD: u32 = 24;
/// Most names in one walk.
pub(crate) const WALK_MAX: usize = 16;
/// Fields of a directory entry besides its name.
pub(crate) const DIR_ENTRY_LEN: usize = 24;

/// No fid.
pub(crate) const NO_FID: u32 = u32::MAX;
/// No uid or gid.
pub(crate) const NO_ID: u32 = u32::MAX;

/// Kinds of messages; a reply is its request's plus one.
pub(crate) mod kind {
    pub(crate) const LERROR: u8 = 7;
    pub(crate) const STATFS: u8 = 8;
    pub(crate) const LOPEN: u8 = 12;
    pub(crate) const LCREATE: u8 = 14;
    pub(crate) const SYMLINK: u8 = 16;
    pub(crate) const MKNOD: u8 = 18;
    pub(crate) const RENAME: u8 = 20;
    pub(crate) const READLINK: u8 = 22;
    pub(crate) const GETATTR: u8 = 24;
    pub(crate) const SETATTR: u8 = 26;
    pub(crate) const XATTRWALK: u8 = 30;
    pub(crate) const XATTRCREATE: u8 = 32;
    pub(crate) const READDIR: u8 = 40;
    pub(crate) const FSYNC: u8 = 50;
    pub(crate) const LOCK: u8 = 52;
    pub(crate) const GETLOCK: u8 = 54;
    pub(crate) const LINK: u8 = 70;
    pub(crate) const MKDIR: u8 = 72;
    pub(crate) const RENAMEAT: u8 = 74;
    pub(crate) const UNLINKAT: u8 = 76;
    pub(crate) const VERSION: u8 = 100;
    pub(crate) const AUTH: u8 = 102;
    pub(crate) const ATTACH: u8 = 104;
    pub(crate) const FLUSH: u8 = 108;
    pub(crate) const WALK: u8 = 110;
    pub(crate) const READ: u8 = 116;
    pub(crate) const WRITE: u8 = 118;
    pub(crate) const CLUNK: u8 = 120;
    pub(crate) const REMOVE: u8 = 122;
}

/// How a file is to be opened: Linux's numbers, whatever the host.
pub(crate) mod open {
    pub(crate) const ACCESS: u32 = 0o3;
    pub(crate) const WRITE_ONLY: u32 = 0o1;
    pub(crate) const READ_WRITE: u32 = 0o2;
    pub(crate) const EXCLUSIVE: u32 = 0o200;
    pub(crate) const TRUNCATE: u32 = 0o1000;
    pub(crate) const APPEND: u32 = 0o2000;
    pub(crate) const DATA_SYNC: u32 = 0o10000;
    pub(crate) const DIRECTORY: u32 = 0o200_000;
    pub(crate) const SYNC: u32 = 0o4_000_000;
}

/// Which fields of a change of attributes are meant.
pub(crate) mod set {
    pub(crate) const MODE: u32 = 1;
    pub(crate) const UID: u32 = 1 << 1;
    pub(crate) const GID: u32 = 1 << 2;
    pub(crate) const SIZE: u32 = 1 << 3;
    pub(crate) const ATIME: u32 = 1 << 4;
    pub(crate) const MTIME: u32 = 1 << 5;
    pub(crate) const ATIME_SET: u32 = 1 << 7;
    pub(crate) const MTIME_SET: u32 = 1 << 8;
}

/// Every attribute there is: creation time, generation and change counter too.
pub(crate) const GETATTR_ALL: u64 = 0x3fff;

/// What is asked of a lock, and what comes of it.
pub(crate) mod lock {
    pub(crate) const READ: u8 = 0;
    pub(crate) const WRITE: u8 = 1;
    pub(crate) const UNLOCK: u8 = 2;

    pub(crate) const SUCCESS: u8 = 0;
    pub(crate) const BLOCKED: u8 = 1;
}

/// Conditions on setting an extended attribute.
pub(crate) const XATTR_CREATE: u32 = 1;
pub(crate) const XATTR_REPLACE: u32 = 2;

/// What is removed is a directory.
pub(crate) const REMOVE_DIR: u32 = 0x200;

/// What `statfs(2)` calls a 9P file system.
pub(crate) const FS_MAGIC: u32 = 0x0102_1997;

const S_IFMT: u32 = 0o170_000;
const S_IFIFO: u32 = 0o010_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFBLK: u32 = 0o060_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;
const S_IFSOCK: u32 = 0o140_000;

/// The type bits of a mode, and the device number as Linux packs it into 32 bits.
pub(crate) fn file_type(kind: Kind) -> (u32, u32) {
    let device = |major: u32, minor: u32| {
        (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
    };
    match kind {
        Kind::Regular => (S_IFREG, 0),
        Kind::Directory => (S_IFDIR, 0),
        Kind::Symlink => (S_IFLNK, 0),
        Kind::Fifo => (S_IFIFO, 0),
        Kind::Socket => (S_IFSOCK, 0),
        Kind::CharDevice { major, minor } => (S_IFCHR, device(major, minor)),
        Kind::BlockDevice { major, minor } => (S_IFBLK, device(major, minor)),
    }
}

/// What `mknod(2)` is asked for, from the type bits of `mode`.
pub(crate) fn node_kind(mode: u32, major: u32, minor: u32) -> vfs::Result<Kind> {
    match mode & S_IFMT {
        // POSIX lets zero mean a regular file.
        0 | S_IFREG => Ok(Kind::Regular),
        S_IFIFO => Ok(Kind::Fifo),
        S_IFSOCK => Ok(Kind::Socket),
        S_IFCHR => Ok(Kind::CharDevice { major, minor }),
        S_IFBLK => Ok(Kind::BlockDevice { major, minor }),
        _ => Err(ErrorKind::Invalid.into()),
    }
}

/// The type in a directory entry (`d_type`).
pub(crate) fn entry_type(kind: Kind) -> u8 {
    (file_type(kind).0 >> 12) as u8
}

/// The permission bits of a mode.
pub(crate) fn permissions(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

/// What tells files apart.
///
/// The version is always zero. A version that moved with each change would promise too
/// much: a client sees it only when it walks, so its pages are no fresher for it, and
/// Linux takes a file whose version moved for another file, which its own writes would
/// then split. Zero tells Linux (from 6.4 on) that the file may change behind its back
/// and that data must not be kept; who knows better says `ignoreqv`. The counter itself
/// is in the attributes (`data_version`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Qid {
    /// Directory, symbolic link or anything else.
    pub(crate) kind: u8,
    /// The inode number: never used again, so it needs no generation.
    pub(crate) path: u64,
}

impl Qid {
    /// Bytes on the wire.
    pub(crate) const LEN: usize = 13;
    const DIRECTORY: u8 = 0x80;
    const SYMLINK: u8 = 0x02;

    pub(crate) fn new(ino: Ino, kind: Kind) -> Self {
        let kind = match kind {
            Kind::Directory => Self::DIRECTORY,
            Kind::Symlink => Self::SYMLINK,
            _ => 0,
        };
        Self { kind, path: ino.get() }
    }

    pub(crate) fn of(attr: &Attr) -> Self {
        Self::new(attr.ino, attr.kind)
    }
}

#[cfg(test)]
mod tests;
