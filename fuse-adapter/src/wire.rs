//! The kernel's side of the protocol: numbers, and how requests and replies lie in
//! memory (`include/uapi/linux/fuse.h`, which is also under the 2-clause BSD licence).
//!
//! All integers are the host's; every structure is laid out so that it has no gaps,
//! so a request is read and a reply is written field by field.

mod message;

pub(crate) use message::{Arguments, Body, Malformed, listed_len, listed_plus_len};

/// The protocol's version; the minor one is the newest whose messages are known here.
pub(crate) const MAJOR: u32 = 7;
pub(crate) const MINOR: u32 = 44;
/// Before Linux 4.20 replies were laid out differently or features here were missing.
pub(crate) const MINOR_MIN: u32 = 28;

/// Bytes of a request besides the data it carries: the headers, and room for names.
pub(crate) const REQUEST_OVERHEAD: usize = 8192;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Lookup,
    Forget,
    BatchForget,
    GetAttr,
    SetAttr,
    ReadLink,
    Symlink,
    MakeNode,
    MakeDir,
    Unlink,
    RemoveDir,
    Rename,
    RenameWithFlags,
    Link,
    Open,
    Read,
    Write,
    StatVolume,
    Release,
    Sync,
    SetXattr,
    GetXattr,
    ListXattr,
    RemoveXattr,
    Flush,
    Init,
    OpenDir,
    ReadDir,
    ReadDirPlus,
    ReleaseDir,
    SyncDir,
    Create,
    Destroy,
    Ioctl,
    Allocate,
    Seek,
    Copy,
    /// Anything else; the kernel does without.
    Other(u32),
}

impl Opcode {
    pub(crate) fn of(number: u32) -> Self {
        match number {
            1 => Self::Lookup,
            2 => Self::Forget,
            3 => Self::GetAttr,
            4 => Self::SetAttr,
            5 => Self::ReadLink,
            6 => Self::Symlink,
            8 => Self::MakeNode,
            9 => Self::MakeDir,
            10 => Self::Unlink,
            11 => Self::RemoveDir,
            12 => Self::Rename,
            13 => Self::Link,
            14 => Self::Open,
            15 => Self::Read,
            16 => Self::Write,
            17 => Self::StatVolume,
            18 => Self::Release,
            20 => Self::Sync,
            21 => Self::SetXattr,
            22 => Self::GetXattr,
            23 => Self::ListXattr,
            24 => Self::RemoveXattr,
            25 => Self::Flush,
            26 => Self::Init,
            27 => Self::OpenDir,
            28 => Self::ReadDir,
            29 => Self::ReleaseDir,
            30 => Self::SyncDir,
            35 => Self::Create,
            38 => Self::Destroy,
            39 => Self::Ioctl,
            42 => Self::BatchForget,
            43 => Self::Allocate,
            44 => Self::ReadDirPlus,
            45 => Self::RenameWithFlags,
            46 => Self::Seek,
            47 => Self::Copy,
            other => Self::Other(other),
        }
    }
}

/// Features that are agreed on when the session starts.
pub(crate) mod feature {
    pub(crate) const ASYNC_READ: u64 = 1;
    pub(crate) const ATOMIC_O_TRUNC: u64 = 1 << 3;
    pub(crate) const EXPORT_SUPPORT: u64 = 1 << 4;
    pub(crate) const BIG_WRITES: u64 = 1 << 5;
    pub(crate) const AUTO_INVAL_DATA: u64 = 1 << 12;
    pub(crate) const DO_READDIRPLUS: u64 = 1 << 13;
    pub(crate) const READDIRPLUS_AUTO: u64 = 1 << 14;
    pub(crate) const ASYNC_DIO: u64 = 1 << 15;
    pub(crate) const WRITEBACK_CACHE: u64 = 1 << 16;
    pub(crate) const PARALLEL_DIROPS: u64 = 1 << 18;
    pub(crate) const MAX_PAGES: u64 = 1 << 22;
    pub(crate) const CACHE_SYMLINKS: u64 = 1 << 23;
    pub(crate) const EXPLICIT_INVAL_DATA: u64 = 1 << 25;
    pub(crate) const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    /// There are more than 32 features.
    pub(crate) const INIT_EXT: u64 = 1 << 30;
}

/// Which fields of a change of attributes are meant.
pub(crate) mod set {
    pub(crate) const MODE: u32 = 1;
    pub(crate) const UID: u32 = 1 << 1;
    pub(crate) const GID: u32 = 1 << 2;
    pub(crate) const SIZE: u32 = 1 << 3;
    pub(crate) const ATIME: u32 = 1 << 4;
    pub(crate) const MTIME: u32 = 1 << 5;
    pub(crate) const HANDLE: u32 = 1 << 6;
    pub(crate) const ATIME_NOW: u32 = 1 << 7;
    pub(crate) const MTIME_NOW: u32 = 1 << 8;
}

/// What the kernel says about a write.
pub(crate) mod write {
    /// It comes from the kernel's pages; nobody in particular asks.
    pub(crate) const FROM_CACHE: u32 = 1;
    /// The set-id bits have to go.
    pub(crate) const KILL_PRIVILEGES: u32 = 1 << 2;
}

/// What the kernel may do with a file that was opened.
pub(crate) mod opened {
    pub(crate) const KEEP_CACHE: u32 = 1 << 1;
    pub(crate) const CACHE_DIR: u32 = 1 << 3;
}

/// Attributes are asked of a handle.
pub(crate) const GETATTR_HANDLE: u32 = 1;
/// Only data has to be safe, not times.
pub(crate) const SYNC_DATA: u32 = 1;

/// What the kernel is told unasked.
pub(crate) mod notice {
    pub(crate) const INVAL_INODE: i32 = 2;
    pub(crate) const INVAL_ENTRY: i32 = 3;
}

/// Before every request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    /// What is asked.
    pub(crate) opcode: Opcode,
    /// By which the answer is recognised.
    pub(crate) unique: u64,
    /// What it is about.
    pub(crate) ino: u64,
    /// Who asks.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Attributes as the kernel wants them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attr {
    pub(crate) ino: u64,
    pub(crate) size: u64,
    /// In units of 512 bytes.
    pub(crate) blocks: u64,
    /// Seconds and nanoseconds.
    pub(crate) atime: (i64, u32),
    pub(crate) mtime: (i64, u32),
    pub(crate) ctime: (i64, u32),
    /// With the type bits.
    pub(crate) mode: u32,
    pub(crate) nlink: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) rdev: u32,
    pub(crate) blksize: u32,
}
