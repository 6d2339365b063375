//! The contract between the file system and the protocols that serve it.
//!
//! One trait, [`Vfs`], sits between the engine (which implements it) and the
//! adapters (FUSE, NFSv3, 9P2000.L), which translate requests into it and
//! nothing else. The crate knows no protocol and no storage.
//!
//! Five rules hold for every implementation:
//!
//! 1. **Inode numbers are for ever.** An [`Ino`] is never reused, so there is no
//!    generation number, no lookup count and no `forget`.
//! 2. **Authority is in the type.** [`At::Open`] carries the permission granted
//!    when the handle was opened; [`At::Ino`] is checked on every call.
//! 3. **Cookies are stable.** A [`Cookie`] stays valid across restarts and
//!    concurrent changes, and fits in 63 bits.
//! 4. **Futures are cancel-safe.** Dropping one leaves the operation either
//!    wholly done or not done at all.
//! 5. **A reply is a promise.** [`Stability`] in a reply states what survives a
//!    crash *now*, never what is hoped for.

// Every method returns the same `Result` for the reasons `ErrorKind` lists.
#![allow(clippy::missing_errors_doc, reason = "one error table, in error.rs, for every method")]

#[cfg(feature = "model")]
pub mod conformance;
mod data;
mod error;
mod locks;
#[cfg(feature = "model")]
pub mod model;
pub mod rules;
mod types;

pub use data::{
    Allocate, ReadData, Scope, SeekTo, Segments, Stability, WriteAt, WriteVerifier, Written,
};
pub use error::{Error, ErrorKind};
pub use locks::{Acquire, CLIENT_LOCKS_MAX, LockTable};
pub use types::{
    Access, At, Attr, Budget, ClientId, Context, Cookie, Created, Cred, Dac, DirEntry, DirPage,
    Entry, Groups, IfExists, Ino, Kind, Lock, LockOwner, LockSpace, LockWait, Make, Name, OpId,
    OpenFlags, RenameMode, SetAttr, SetTime, Timestamp, Validity, Wcc, XattrMode,
};

use bytes::Bytes;
use std::future::Future;

/// Shorthand for a [`Vfs`] result.
pub type Result<T> = std::result::Result<T, Error>;

/// Something that changed other than through the listener's own requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An inode's attributes.
    Attr(Ino),
    /// A range of a file's data.
    Data {
        /// The file.
        ino: Ino,
        /// First byte.
        offset: u64,
        /// Number of bytes; `u64::MAX` means to the end.
        len: u64,
    },
    /// A name in a directory.
    Entry {
        /// The directory.
        dir: Ino,
        /// The name.
        name: Bytes,
    },
}

/// A feed of [`Change`]s.
pub trait Changes: Send + 'static {
    /// The next change; `None` once the file system shuts down.
    fn next(&mut self) -> impl Future<Output = Option<Change>> + Send;
}

/// Sizes and counts for `statfs`.
#[derive(Clone, Copy, Debug, Default)]
pub struct VolumeStat {
    /// Bytes in all, below 2^63.
    pub bytes_total: u64,
    /// Bytes free.
    pub bytes_free: u64,
    /// Inodes in all.
    pub inodes_total: u64,
    /// Inodes free.
    pub inodes_free: u64,
}

/// Fixed limits an adapter may advertise.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest read, bytes.
    pub read_max: u32,
    /// Largest write, bytes.
    pub write_max: u32,
    /// Transfers of this size and alignment are cheapest, bytes.
    pub preferred: u32,
    /// Longest name, bytes.
    pub name_max: u32,
    /// Most names of one inode.
    pub link_max: u32,
    /// Longest file, bytes.
    pub file_size_max: u64,
}

/// A file system that protocols can serve.
///
/// Methods take `&self` and may run concurrently in any number. Mutations are
/// atomic and linearizable per inode.
pub trait Vfs: Send + Sync + 'static {
    /// An open file or directory. Dropping the last reference closes it.
    type Handle: Send + Sync + 'static;
    /// A feed of changes made elsewhere.
    type Changes: Changes;

    /// Fixed limits.
    fn limits(&self) -> Limits;

    /// Subscribes to changes made by other clients and other machines.
    fn changes(&self) -> Self::Changes;

    /// Finds `name` in `dir`.
    fn lookup(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: Name<'_>,
    ) -> impl Future<Output = Result<Entry>> + Send;

    /// Finds the directory that holds `dir`; the root is its own parent.
    fn parent(&self, cx: Context<'_>, dir: Ino) -> impl Future<Output = Result<Entry>> + Send;

    /// Reads attributes.
    fn getattr(
        &self,
        cx: Context<'_>,
        at: At<'_, Self::Handle>,
    ) -> impl Future<Output = Result<Entry>> + Send;

    /// Changes attributes, all or none.
    fn setattr(
        &self,
        cx: Context<'_>,
        at: At<'_, Self::Handle>,
        set: &SetAttr,
    ) -> impl Future<Output = Result<Wcc>> + Send;

    /// Reports which of `want` the caller has.
    fn access(
        &self,
        cx: Context<'_>,
        ino: Ino,
        want: Access,
    ) -> impl Future<Output = Result<Access>> + Send;

    /// Reads a symbolic link.
    fn readlink(&self, cx: Context<'_>, ino: Ino) -> impl Future<Output = Result<Bytes>> + Send;

    /// Opens a file or directory.
    fn open(
        &self,
        cx: Context<'_>,
        ino: Ino,
        flags: OpenFlags,
    ) -> impl Future<Output = Result<Self::Handle>> + Send;

    /// Creates a regular file, and opens it when `open` is given. The creator
    /// may use the handle whatever mode it gave the file (`open(2)`).
    fn create(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: Name<'_>,
        attr: &SetAttr,
        if_exists: IfExists,
        open: Option<OpenFlags>,
    ) -> impl Future<Output = Result<Created<Self::Handle>>> + Send;

    /// Creates anything that is not a regular file.
    fn make(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: Name<'_>,
        what: Make<'_>,
        attr: &SetAttr,
    ) -> impl Future<Output = Result<Created<Self::Handle>>> + Send;

    /// Gives `ino` a further name.
    fn link(
        &self,
        cx: Context<'_>,
        ino: Ino,
        dir: Ino,
        name: Name<'_>,
    ) -> impl Future<Output = Result<Created<Self::Handle>>> + Send;

    /// Removes a name that is not a directory's.
    fn unlink(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: Name<'_>,
    ) -> impl Future<Output = Result<Wcc>> + Send;

    /// Removes an empty directory.
    fn rmdir(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: Name<'_>,
    ) -> impl Future<Output = Result<Wcc>> + Send;

    /// Moves a name; answers for the old and the new directory.
    fn rename(
        &self,
        cx: Context<'_>,
        from: (Ino, Name<'_>),
        to: (Ino, Name<'_>),
        mode: RenameMode,
    ) -> impl Future<Output = Result<(Wcc, Wcc)>> + Send;

    /// Lists entries after `after`, as many as fit in `budget`.
    fn readdir(
        &self,
        cx: Context<'_>,
        dir: At<'_, Self::Handle>,
        after: Cookie,
        budget: Budget,
    ) -> impl Future<Output = Result<DirPage>> + Send;

    /// Reads up to `len` bytes at `offset`; short only at the end of the file.
    fn read(
        &self,
        cx: Context<'_>,
        file: At<'_, Self::Handle>,
        offset: u64,
        len: u32,
    ) -> impl Future<Output = Result<ReadData>> + Send;

    /// Writes all of `data`, at least as safely as `stability`.
    fn write(
        &self,
        cx: Context<'_>,
        file: At<'_, Self::Handle>,
        at: WriteAt,
        data: Segments,
        stability: Stability,
    ) -> impl Future<Output = Result<Written>> + Send;

    /// Reports errors of earlier buffered writes; called at every `close(2)`.
    fn flush(
        &self,
        cx: Context<'_>,
        file: &Self::Handle,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Makes `scope` at least as safe as `stability`.
    fn sync(
        &self,
        cx: Context<'_>,
        scope: Scope<'_, Self::Handle>,
        stability: Stability,
    ) -> impl Future<Output = Result<WriteVerifier>> + Send;

    /// Reserves, punches or zeroes a range.
    fn allocate(
        &self,
        cx: Context<'_>,
        file: At<'_, Self::Handle>,
        offset: u64,
        len: u64,
        what: Allocate,
    ) -> impl Future<Output = Result<Wcc>> + Send;

    /// Finds the next data or hole at or after `offset`; fails with
    /// [`ErrorKind::NoSuchOffset`] at or past the end of the file.
    fn seek(
        &self,
        cx: Context<'_>,
        file: At<'_, Self::Handle>,
        offset: u64,
        to: SeekTo,
    ) -> impl Future<Output = Result<u64>> + Send;

    /// Copies up to `len` bytes between files, sharing blocks where both ends
    /// are aligned; answers how many, short only at the end of the source.
    fn copy(
        &self,
        cx: Context<'_>,
        from: (At<'_, Self::Handle>, u64),
        to: (At<'_, Self::Handle>, u64),
        len: u64,
    ) -> impl Future<Output = Result<u64>> + Send;

    /// Finds the lock that would refuse `probe`.
    fn lock_conflict(
        &self,
        cx: Context<'_>,
        file: At<'_, Self::Handle>,
        probe: &Lock,
    ) -> impl Future<Output = Result<Option<Lock>>> + Send;

    /// Takes `lock`, replacing the owner's own locks in its range.
    fn lock(
        &self,
        cx: Context<'_>,
        file: At<'_, Self::Handle>,
        lock: &Lock,
        wait: LockWait,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Drops the owner's locks in the range and space of `lock`.
    fn unlock(
        &self,
        cx: Context<'_>,
        file: At<'_, Self::Handle>,
        lock: &Lock,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Reads an extended attribute; [`ErrorKind::NoData`] if there is none.
    fn xattr(
        &self,
        cx: Context<'_>,
        ino: Ino,
        name: &[u8],
    ) -> impl Future<Output = Result<Bytes>> + Send;

    /// Writes an extended attribute; `None` removes it.
    fn set_xattr(
        &self,
        cx: Context<'_>,
        ino: Ino,
        name: &[u8],
        value: Option<Bytes>,
        mode: XattrMode,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Lists extended attribute names.
    fn xattrs(&self, cx: Context<'_>, ino: Ino) -> impl Future<Output = Result<Vec<Bytes>>> + Send;

    /// Reports sizes and counts.
    fn statfs(&self, cx: Context<'_>) -> impl Future<Output = Result<VolumeStat>> + Send;
}
