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

macro_rules! opcodes {
    ($($name:ident = $number:literal),* $(,)?) => {
        /// What a request is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Opcode {
            $($name,)*
            /// Anything else; the kernel does without.
            Other(u32),
        }

        impl Opcode {
            pub(crate) fn of(number: u32) -> Self {
                match number {
                    $($number => Self::$name,)*
                    other => Self::Other(other),
                }
            }

            pub(crate) fn number(self) -> u32 {
                match self {
                    $(Self::$name => $number,)*
                    Self::Other(number) => number,
                }
            }
        }
    };
}

opcodes! {
    Lookup = 1,
    Forget = 2,
    GetAttr = 3,
    SetAttr = 4,
    ReadLink = 5,
    Symlink = 6,
    MakeNode = 8,
    MakeDir = 9,
    Unlink = 10,
    RemoveDir = 11,
    Rename = 12,
    Link = 13,
    Open = 14,
    Read = 15,
    Write = 16,
    StatVolume = 17,
    Release = 18,
    Sync = 20,
    SetXattr = 21,
    GetXattr = 22,
    ListXattr = 23,
    RemoveXattr = 24,
    Flush = 25,
    Init = 26,
    OpenDir = 27,
    ReadDir = 28,
    ReleaseDir = 29,
    SyncDir = 30,
    Create = 35,
    Destroy = 38,
    Ioctl = 39,
    BatchForget = 42,
    Allocate = 43,
    ReadDirPlus = 44,
    RenameWithFlags = 45,
    Seek = 46,
    Copy = 47,
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
    pub(crate) const CTIME: u32 = 1 << 10;
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
