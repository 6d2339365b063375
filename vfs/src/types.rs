//! Who asks, what is named, and what is told about it.
//!
//! Newtypes at the boundary: a raw number or byte string from a protocol is
//! parsed into one of these once, and is valid from then on.

use crate::{ErrorKind, Result};
use bytes::Bytes;
use std::num::NonZeroU64;
use std::time::Duration;

/// An inode number: never zero, never reused, below 2^63.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub NonZeroU64);

impl Ino {
    /// The root directory, numbered 1 as the kernel's FUSE driver expects.
    pub const ROOT: Self = Self(NonZeroU64::MIN);

    /// Parses a number that came from a protocol; zero is no inode.
    pub fn new(number: u64) -> Result<Self> {
        NonZeroU64::new(number).map(Self).ok_or_else(|| ErrorKind::Stale.into())
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

/// A position in a directory; zero means "from the start".
///
/// 1 and 2 are reserved for `.` and `..`, which adapters add; every entry's own
/// cookie is at least 3 and below 2^63.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cookie(pub u64);

impl Cookie {
    /// The smallest cookie an entry may have.
    pub const FIRST_ENTRY: u64 = 3;
}

/// A single path component: 1 to 255 bytes of any encoding, no `/` or NUL, and
/// neither `.` nor `..`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// The longest name, in bytes.
    pub const LEN_MAX: usize = 255;

    /// Checks the rules above.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() > Self::LEN_MAX {
            return Err(ErrorKind::NameTooLong.into());
        }
        if matches!(bytes, b"" | b"." | b"..") || bytes.iter().any(|b| matches!(b, b'/' | 0)) {
            return Err(ErrorKind::Invalid.into());
        }
        Ok(Self(bytes))
    }

    /// The bytes of the name.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// A session that can retry an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(pub u64);

/// Names one attempt of one operation, so that a retry is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpId {
    /// Who is asking.
    pub client: ClientId,
    /// Which request of theirs this is.
    pub sequence: u64,
}

/// Where an operation is directed.
#[derive(Debug)]
pub enum At<'a, H> {
    /// By number: permission is checked against the caller now.
    Ino(Ino),
    /// By open handle: permission was granted when it was opened.
    Open(&'a H),
}

impl<H> Clone for At<'_, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H> Copy for At<'_, H> {}

/// A caller's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cred {
    /// Effective user.
    pub uid: u32,
    /// Effective group; 9P2000.L does not always say.
    pub gid: Option<u32>,
    /// Supplementary groups.
    pub groups: Groups,
}

impl Cred {
    /// The superuser.
    #[must_use]
    pub fn root() -> Self {
        Self { uid: 0, gid: Some(0), groups: Groups::Known(Box::new([])) }
    }

    /// A user with one group.
    #[must_use]
    pub fn user(uid: u32, gid: u32) -> Self {
        Self { uid, gid: Some(gid), groups: Groups::Known(Box::new([])) }
    }

    /// Whether the caller belongs to `gid`, as far as the protocol said.
    #[must_use]
    pub fn is_in_group(&self, gid: u32) -> bool {
        self.gid == Some(gid) || self.groups.as_slice().contains(&gid)
    }
}

/// Supplementary groups, as far as the protocol carries them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Groups {
    /// All of them.
    Known(Box<[u32]>),
    /// Some or none: FUSE sends none, `AUTH_SYS` at most sixteen.
    Partial(Box<[u32]>),
}

impl Groups {
    /// The groups that are known.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        match self {
            Self::Known(groups) | Self::Partial(groups) => groups,
        }
    }
}

/// Who decides whether the caller may do this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dac {
    /// The file system does (9P).
    Enforce,
    /// The file system does, but an owner may always read and write, and who may
    /// run a file may read it (NFSv3).
    EnforceExceptOwner,
    /// The kernel already has (FUSE with `default_permissions`).
    Delegated,
}

/// Everything about a request that is not its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Who is asking.
    pub cred: &'a Cred,
    /// Who decides.
    pub dac: Dac,
    /// Which attempt this is, for operations that must not run twice.
    pub op: Option<OpId>,
}

/// What kind of thing an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A file with data.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix domain socket's name.
    Socket,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// Seconds and nanoseconds since the Unix epoch; seconds may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds, rounded towards minus infinity.
    pub seconds: i64,
    /// The rest, below 10^9.
    pub nanoseconds: u32,
}

/// The attributes of an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Its number.
    pub ino: Ino,
    /// Its kind.
    pub kind: Kind,
    /// Permission, set-id and sticky bits: the low twelve of `st_mode`.
    pub mode: u16,
    /// Number of names; for a directory, 2 plus its subdirectories.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Bytes of storage in use, before deduplication and compression.
    pub used: u64,
    /// Last read (relatime).
    pub atime: Timestamp,
    /// Last change of the data.
    pub mtime: Timestamp,
    /// Last change of data or attributes.
    pub ctime: Timestamp,
    /// Creation.
    pub btime: Timestamp,
    /// Rises on every change to data or metadata.
    pub change: u64,
}

/// How long a caller may cache what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// For this long.
    For(Duration),
    /// Until [`crate::Vfs::changes`] says otherwise.
    UntilChanged,
}

/// A found or created inode.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its attributes.
    pub attr: Attr,
    /// How long they hold.
    pub validity: Validity,
}

/// The state of an inode just before and just after an operation, read under
/// the lock that performed it (NFSv3 calls this weak cache consistency data,
/// RFC 1813 §2.6).
#[derive(Clone, Debug)]
pub struct Wcc {
    /// Size before.
    pub before_size: u64,
    /// Modification time before.
    pub before_mtime: Timestamp,
    /// Change time before.
    pub before_ctime: Timestamp,
    /// Everything after.
    pub after: Attr,
}

impl Wcc {
    /// Pairs the attributes before an operation with those after it.
    #[must_use]
    pub fn new(before: &Attr, after: Attr) -> Self {
        Self {
            before_size: before.size,
            before_mtime: before.mtime,
            before_ctime: before.ctime,
            after,
        }
    }
}

/// A new value for a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The file system's clock.
    Now,
    /// The caller's value.
    To(Timestamp),
}

/// Attributes to change; `None` leaves one alone.
#[derive(Clone, Debug, Default)]
pub struct SetAttr {
    /// Permission bits, the low twelve of `st_mode`.
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length: cut, or extended with a hole.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
    /// Fail with [`ErrorKind::NotSync`] unless the `ctime` is still this.
    pub only_if_ctime: Option<Timestamp>,
}

/// Permissions asked for or granted: read 4, write 2, execute (search) 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access(pub u8);

impl Access {
    /// May run or search.
    pub const EXECUTE: Self = Self(1);
    /// May write.
    pub const WRITE: Self = Self(2);
    /// May read.
    pub const READ: Self = Self(4);

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is included.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// How much of a directory fits in the caller's reply.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Entries at most; at least one is returned if there is one.
    pub entries: u32,
    /// Bytes of names at most.
    pub name_bytes: u32,
    /// Whether attributes are wanted too.
    pub with_attr: bool,
}

/// One directory entry.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// What it names.
    pub ino: Ino,
    /// What kind of thing that is.
    pub kind: Kind,
    /// Its name.
    pub name: Bytes,
    /// Where to resume after this entry.
    pub cookie: Cookie,
    /// Its attributes, when the budget asked for them.
    pub entry: Option<Entry>,
}

/// A page of a directory, without `.` and `..`, which adapters add.
#[derive(Clone, Debug)]
pub struct DirPage {
    /// The entries, in cookie order.
    pub entries: Vec<DirEntry>,
    /// Whether nothing follows.
    pub end: bool,
    /// The directory itself.
    pub dir: Attr,
}

/// What an open handle may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFlags {
    /// Reading is allowed.
    pub read: bool,
    /// Writing is allowed.
    pub write: bool,
    /// Cut to nothing while opening.
    pub truncate: bool,
}

impl OpenFlags {
    /// Reading only.
    pub const READ: Self = Self { read: true, write: false, truncate: false };
    /// Reading and writing.
    pub const READ_WRITE: Self = Self { read: true, write: true, truncate: false };
}

/// What to do when the name is already taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfExists {
    /// Use what is there.
    Reuse,
    /// Fail with [`ErrorKind::Exists`].
    Fail,
    /// Succeed only if it was made by this same request (NFSv3 `EXCLUSIVE`).
    SameVerifier([u8; 8]),
}

/// Something to create that is not a regular file.
#[derive(Clone, Copy, Debug)]
pub enum Make<'a> {
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points: 1 to 4095 bytes, data only.
        target: &'a [u8],
    },
    /// A fifo, socket or device.
    Node(Kind),
}

/// A created inode.
#[derive(Debug)]
pub struct Created<H> {
    /// What was created or found.
    pub entry: Entry,
    /// The directory around the operation.
    pub dir: Wcc,
    /// Present when the request also opened it.
    pub handle: Option<H>,
}

/// What setting an extended attribute requires of the old one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XattrMode {
    /// Nothing.
    #[default]
    Either,
    /// That there is none.
    Create,
    /// That there is one.
    Replace,
}

/// What a rename does when the target exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RenameMode {
    /// Replaces it, atomically.
    #[default]
    Replace,
    /// Fails with [`ErrorKind::Exists`].
    NoReplace,
    /// Both exist and trade places.
    Exchange,
}

/// The party holding a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LockOwner {
    /// The session.
    pub client: ClientId,
    /// The owner within it.
    pub owner: u64,
}

/// Whose rules a lock follows; the two kinds never conflict with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockSpace {
    /// `fcntl` byte ranges.
    Posix,
    /// `flock`, always the whole file.
    Flock,
}

/// An advisory lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Who holds or wants it.
    pub owner: LockOwner,
    /// Which rules.
    pub space: LockSpace,
    /// First byte.
    pub start: u64,
    /// One past the last byte; `u64::MAX` reaches the end however it grows.
    pub end: u64,
    /// Whether it excludes every other lock, or only exclusive ones.
    pub exclusive: bool,
    /// The holder's process, as reported to whoever asks; 0 if unknown.
    pub pid: u32,
}

/// What to do when a lock is taken by somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockWait {
    /// Fail with [`ErrorKind::WouldBlock`].
    Try,
    /// Wait; dropping the future gives up the wait.
    Block,
}
