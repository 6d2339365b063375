//! Between the kernel's numbers and the trait's types.
//!
//! The one place that knows bit layouts: modes, device numbers, open flags.

use crate::wire;
use vfs::{Allocate, Attr, ErrorKind, Kind, OpenFlags, RenameMode, SeekTo, Timestamp};

/// Largest `st_blksize` reported; programs allocate a buffer of that size.
const BLOCK_SIZE_MAX: u32 = 1 << 20;
/// Smallest, because the kernel works in pages.
const BLOCK_SIZE_MIN: u32 = 4096;
/// What `st_blocks` counts in, whatever `st_blksize` says.
const SECTOR: u64 = 512;

/// The `st_blksize` for a preferred transfer size: the kernel keeps only its logarithm.
pub(crate) fn block_size(preferred: u32) -> u32 {
    let size = preferred.clamp(BLOCK_SIZE_MIN, BLOCK_SIZE_MAX);
    1 << size.ilog2()
}

/// Attributes as the kernel wants them.
pub(crate) fn file_attr(attr: &Attr, block_size: u32) -> wire::Attr {
    let (type_bits, rdev) = file_type(attr.kind);
    let time = |time: Timestamp| (time.seconds, time.nanoseconds);
    wire::Attr {
        ino: attr.ino.get(),
        size: attr.size,
        blocks: attr.used.div_ceil(SECTOR),
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
        mode: type_bits | u32::from(attr.mode & 0o7777),
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev,
        blksize: block_size,
    }
}

/// A kind as the type bits of a mode, and the device number.
pub(crate) fn file_type(kind: Kind) -> (u32, u32) {
    match kind {
        Kind::Regular => (libc::S_IFREG, 0),
        Kind::Directory => (libc::S_IFDIR, 0),
        Kind::Symlink => (libc::S_IFLNK, 0),
        Kind::Fifo => (libc::S_IFIFO, 0),
        Kind::Socket => (libc::S_IFSOCK, 0),
        Kind::CharDevice { major, minor } => (libc::S_IFCHR, encode_device(major, minor)),
        Kind::BlockDevice { major, minor } => (libc::S_IFBLK, encode_device(major, minor)),
    }
}

/// What `mknod(2)` is asked for, from the type bits of `mode`.
pub(crate) fn node_kind(mode: u32, rdev: u32) -> vfs::Result<Kind> {
    let (major, minor) = decode_device(rdev);
    match mode & libc::S_IFMT {
        // POSIX lets zero mean a regular file.
        0 | libc::S_IFREG => Ok(Kind::Regular),
        libc::S_IFIFO => Ok(Kind::Fifo),
        libc::S_IFSOCK => Ok(Kind::Socket),
        libc::S_IFCHR => Ok(Kind::CharDevice { major, minor }),
        libc::S_IFBLK => Ok(Kind::BlockDevice { major, minor }),
        _ => Err(ErrorKind::Invalid.into()),
    }
}

/// The permission bits of a mode.
pub(crate) fn permissions(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

/// Linux's 32-bit device number: twelve bits major, the minor around them.
fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12)
}

fn decode_device(rdev: u32) -> (u32, u32) {
    ((rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & 0xf_ff00))
}

/// What a handle opened with `flags` may do.
///
/// With the write-back cache the kernel fills the rest of a page before it changes part
/// of it, so a file opened for writing is read too.
pub(crate) fn open_flags(flags: i32, writeback: bool) -> OpenFlags {
    let mode = flags & libc::O_ACCMODE;
    let write = mode == libc::O_WRONLY || mode == libc::O_RDWR;
    OpenFlags {
        read: mode != libc::O_WRONLY || writeback,
        write,
        // Even for reading only: the kernel takes the file for empty from then on.
        truncate: flags & libc::O_TRUNC != 0,
    }
}

/// What `renameat2(2)` is asked for.
pub(crate) fn rename_mode(flags: u32) -> vfs::Result<RenameMode> {
    match flags {
        0 => Ok(RenameMode::Replace),
        libc::RENAME_NOREPLACE => Ok(RenameMode::NoReplace),
        libc::RENAME_EXCHANGE => Ok(RenameMode::Exchange),
        // Whiteouts belong to overlays; anything else is not known yet.
        _ => Err(ErrorKind::Invalid.into()),
    }
}

/// What `fallocate(2)` is asked for.
pub(crate) fn allocation(mode: i32) -> vfs::Result<Allocate> {
    const KEEP_SIZE: i32 = libc::FALLOC_FL_KEEP_SIZE;
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP_SIZE;
    const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
    const ZERO_KEEP_SIZE: i32 = ZERO | KEEP_SIZE;
    match mode {
        0 => Ok(Allocate::Reserve { keep_size: false }),
        KEEP_SIZE => Ok(Allocate::Reserve { keep_size: true }),
        PUNCH => Ok(Allocate::PunchHole),
        ZERO => Ok(Allocate::Zero { keep_size: false }),
        ZERO_KEEP_SIZE => Ok(Allocate::Zero { keep_size: true }),
        _ => Err(ErrorKind::NotSupported.into()),
    }
}

/// What `lseek(2)` looks for; the kernel answers the plain kinds itself.
pub(crate) fn seek_to(whence: i32) -> vfs::Result<SeekTo> {
    match whence {
        libc::SEEK_DATA => Ok(SeekTo::Data),
        libc::SEEK_HOLE => Ok(SeekTo::Hole),
        _ => Err(ErrorKind::Invalid.into()),
    }
}

#[cfg(test)]
mod tests;
