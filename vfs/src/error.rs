//! Why an operation failed, and the one table of protocol numbers.
//!
//! Causes become kinds where the engine implements the trait; kinds become
//! numbers here and nowhere else. The three protocols disagree: FUSE wants the
//! host's errno, 9P2000.L carries Linux errno whatever the host, NFSv3 has a
//! list of its own (RFC 1813 §2.6).

/// Why an operation failed. Closed on purpose: a new variant must be given all
/// its numbers, or nothing compiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Permission bits forbid it.
    Access,
    /// A malformed handle.
    BadHandle,
    /// In use.
    Busy,
    /// Stored data failed its authentication.
    Corrupt,
    /// Across two file systems.
    CrossDevice,
    /// Waiting for this lock would never end.
    Deadlock,
    /// The name is taken.
    Exists,
    /// Another writer took over.
    Fenced,
    /// Beyond the largest file size.
    FileTooBig,
    /// An argument makes no sense.
    Invalid,
    /// The disk or the store failed.
    Io,
    /// A directory where none may be.
    IsDirectory,
    /// A name over 255 bytes.
    NameTooLong,
    /// No such extended attribute.
    NoData,
    /// The client has as many locks as one may have.
    NoLocks,
    /// The disk is full.
    NoSpace,
    /// Nothing at or after this offset (`lseek`).
    NoSuchOffset,
    /// A directory is needed.
    NotDirectory,
    /// The directory has entries.
    NotEmpty,
    /// No such name.
    NotFound,
    /// Not offered. Never `ENOSYS`, which a FUSE kernel remembers for the life
    /// of the mount.
    NotSupported,
    /// Changed since the caller looked (NFSv3 guarded `SETATTR`).
    NotSync,
    /// Only the owner or root may.
    Permission,
    /// Over the quota.
    Quota,
    /// A larger value than the caller's buffer or the protocol's limit.
    Range,
    /// Written to a read-only file system.
    ReadOnly,
    /// The inode is gone.
    Stale,
    /// Too many names for one inode.
    TooManyLinks,
    /// As many files are open, or known to a client, as may be.
    TooManyOpen,
    /// The store is out of reach or throttles.
    Unavailable,
    /// Somebody else holds the lock.
    WouldBlock,
}

/// One row of the table: Linux errno, macOS errno, NFSv3 status.
struct Numbers(i32, i32, u32);

impl ErrorKind {
    /// Every kind, in order.
    pub const ALL: [Self; 31] = [
        Self::Access,
        Self::BadHandle,
        Self::Busy,
        Self::Corrupt,
        Self::CrossDevice,
        Self::Deadlock,
        Self::Exists,
        Self::Fenced,
        Self::FileTooBig,
        Self::Invalid,
        Self::Io,
        Self::IsDirectory,
        Self::NameTooLong,
        Self::NoData,
        Self::NoLocks,
        Self::NoSpace,
        Self::NoSuchOffset,
        Self::NotDirectory,
        Self::NotEmpty,
        Self::NotFound,
        Self::NotSupported,
        Self::NotSync,
        Self::Permission,
        Self::Quota,
        Self::Range,
        Self::ReadOnly,
        Self::Stale,
        Self::TooManyLinks,
        Self::TooManyOpen,
        Self::Unavailable,
        Self::WouldBlock,
    ];

    const fn numbers(self) -> Numbers {
        match self {
            Self::Access => Numbers(13, 13, 13),
            Self::BadHandle => Numbers(9, 9, 10001),
            Self::Busy => Numbers(16, 16, 5),
            Self::Corrupt | Self::Fenced | Self::Io => Numbers(5, 5, 5),
            Self::CrossDevice => Numbers(18, 18, 18),
            Self::Deadlock => Numbers(35, 11, 10008),
            Self::Exists => Numbers(17, 17, 17),
            Self::FileTooBig => Numbers(27, 27, 27),
            Self::Invalid => Numbers(22, 22, 22),
            Self::IsDirectory => Numbers(21, 21, 21),
            Self::NameTooLong => Numbers(36, 63, 63),
            Self::NoData => Numbers(61, 93, 10004),
            // RFC 1813 has no number for locks, which are another protocol's.
            Self::NoLocks => Numbers(37, 77, 10006),
            Self::NoSpace => Numbers(28, 28, 28),
            Self::NoSuchOffset => Numbers(6, 6, 6),
            Self::NotDirectory => Numbers(20, 20, 20),
            Self::NotEmpty => Numbers(39, 66, 66),
            Self::NotFound => Numbers(2, 2, 2),
            Self::NotSupported => Numbers(95, 102, 10004),
            Self::NotSync => Numbers(11, 35, 10002),
            Self::Permission => Numbers(1, 1, 1),
            Self::Quota => Numbers(122, 69, 69),
            Self::Range => Numbers(34, 34, 22),
            Self::ReadOnly => Numbers(30, 30, 30),
            Self::Stale => Numbers(116, 70, 70),
            Self::TooManyLinks => Numbers(31, 31, 31),
            // Nothing is opened over NFS.
            Self::TooManyOpen => Numbers(24, 24, 10006),
            Self::Unavailable => Numbers(110, 60, 10008),
            Self::WouldBlock => Numbers(11, 35, 10008),
        }
    }

    /// The number this host's C library uses; what FUSE wants.
    #[must_use]
    pub const fn errno(self) -> i32 {
        let Numbers(linux, macos, _) = self.numbers();
        if cfg!(target_os = "macos") { macos } else { linux }
    }

    /// Linux's number, whatever the host; what 9P2000.L carries.
    #[must_use]
    pub const fn linux_errno(self) -> i32 {
        self.numbers().0
    }

    /// The NFSv3 status (`nfsstat3`).
    #[must_use]
    pub const fn nfs_status(self) -> u32 {
        self.numbers().2
    }

    /// The kind a client sees behind a Linux errno; the first in order where
    /// several share one.
    #[must_use]
    pub fn from_linux_errno(errno: i32) -> Option<Self> {
        match errno {
            5 => Some(Self::Io),
            11 => Some(Self::WouldBlock),
            _ => Self::ALL.into_iter().find(|kind| kind.linux_errno() == errno),
        }
    }
}

impl std::fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Access => "permission denied",
            Self::BadHandle => "malformed handle",
            Self::Busy => "in use",
            Self::Corrupt => "stored data failed its authentication",
            Self::CrossDevice => "across two file systems",
            Self::Deadlock => "waiting for this lock would never end",
            Self::Exists => "already exists",
            Self::Fenced => "another writer took over",
            Self::FileTooBig => "beyond the largest file size",
            Self::Invalid => "invalid argument",
            Self::Io => "input/output error",
            Self::IsDirectory => "is a directory",
            Self::NameTooLong => "name longer than 255 bytes",
            Self::NoData => "no such attribute",
            Self::NoLocks => "too many locks",
            Self::NoSpace => "no space left",
            Self::NoSuchOffset => "nothing at or after this offset",
            Self::NotDirectory => "not a directory",
            Self::NotEmpty => "directory not empty",
            Self::NotFound => "no such file or directory",
            Self::NotSupported => "not supported",
            Self::NotSync => "changed in the meantime",
            Self::Permission => "operation not permitted",
            Self::Quota => "over the quota",
            Self::Range => "value too large",
            Self::ReadOnly => "read-only file system",
            Self::Stale => "the inode is gone",
            Self::TooManyLinks => "too many links",
            Self::TooManyOpen => "too many open files",
            Self::Unavailable => "the store is out of reach",
            Self::WouldBlock => "held by somebody else",
        })
    }
}

/// A failure, with its cause where there is one worth logging.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Attaches a cause.
    #[must_use]
    pub fn because(
        kind: ErrorKind,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { kind, source: Some(source.into()) }
    }

    /// How loudly to report it: what is wrong with the stored data or the disk
    /// is for the log, what is wrong with a request is for its sender.
    #[must_use]
    pub fn is_alarming(&self) -> bool {
        matches!(self.kind, ErrorKind::Corrupt | ErrorKind::Fenced | ErrorKind::Io)
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{}: {source}", self.kind),
            None => write!(f, "{}", self.kind),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::ErrorKind;

    #[test]
    fn every_kind_has_a_number_in_every_protocol() {
        for kind in ErrorKind::ALL {
            assert!(
                kind.errno() > 0 && kind.linux_errno() > 0 && kind.nfs_status() > 0,
                "{kind:?}"
            );
            // A FUSE kernel takes ENOSYS (38) as "never ask again".
            assert_ne!(kind.linux_errno(), 38, "{kind:?}");
            let back = ErrorKind::from_linux_errno(kind.linux_errno()).map(ErrorKind::linux_errno);
            assert_eq!(back, Some(kind.linux_errno()), "{kind:?}");
        }
    }

    #[test]
    fn numbers_are_those_of_this_host() {
        // Linux values from errno(3); the table's first column.
        let expected = [
            (ErrorKind::NotEmpty, 39),
            (ErrorKind::NameTooLong, 36),
            (ErrorKind::NotSupported, 95),
            (ErrorKind::Stale, 116),
            (ErrorKind::Quota, 122),
            (ErrorKind::NoData, 61),
        ];
        for (kind, errno) in expected {
            assert_eq!(kind.linux_errno(), errno, "{kind:?}");
        }
    }
}
