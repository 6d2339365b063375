//! A file system in memory that says what a file system must do.
//!
//! [`ModelFs`] is the executable specification: as simple as it can be, wholly
//! deterministic, and with the semantics of a local disk. The engine is compared
//! with it operation by operation, and the adapters are tested over it. One mutex
//! guards plain maps; nothing is ever written anywhere, so every
//! [`Stability`] asked for is granted and holds as long as the process does.
//!
//! What an adapter may rely on beyond the trait: an operation has one time, which
//! all inodes it changes get; a read-triggered access time changes neither
//! `ctime` nor `change`; nothing waits except a blocking lock.

mod changes;
mod clock;
mod file;
pub mod ops;

mod sparse;
mod state;
mod tree;

pub use changes::ModelChanges;
pub use clock::{Clock, ManualClock};

use crate::rules;
use crate::{
    Access, Allocate, At, Attr, Budget, Change, Context, Cookie, Created, DirPage, Entry,
    ErrorKind, IfExists, Ino, Limits, Lock, LockTable, LockWait, Make, Name, OpenFlags, ReadData,
    RenameMode, Result, Scope, SeekTo, Segments, SetAttr, Stability, Vfs, VolumeStat, Wcc, WriteAt,
    WriteVerifier, Written, XattrMode,
};
use bytes::Bytes;
use changes::Feeds;
use state::State;
use std::sync::{Arc, Mutex, PoisonError};

/// What a [`ModelFs`] is made with.
#[derive(Clone, Copy, Debug)]
pub struct ModelOptions {
    /// Granularity of holes, bytes; at least 1.
    pub block: u64,
    /// The limits it enforces and advertises.
    pub limits: Limits,
    /// Permission bits of the root directory, which belongs to root.
    pub root_mode: u16,
    /// What it says survived a restart.
    pub verifier: WriteVerifier,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            block: 4096,
            limits: Limits {
                read_max: 1 << 20,
                write_max: 1 << 20,
                preferred: 128 << 10,
                name_max: 255,
                link_max: 65_000,
                file_size_max: 1 << 62,
            },
            root_mode: 0o755,
            verifier: WriteVerifier(1),
        }
    }
}

/// The model file system; clones share one tree.
#[derive(Clone, Debug)]
pub struct ModelFs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    locks: LockTable,
    feeds: Feeds,
    options: ModelOptions,
}

/// An open file or directory of a [`ModelFs`].
#[derive(Debug)]
pub struct ModelHandle {
    shared: Arc<Shared>,
    ino: Ino,
    flags: OpenFlags,
}

impl Drop for ModelHandle {
    fn drop(&mut self) {
        self.shared.with(|state| state.close(self.ino));
    }
}

impl Shared {
    /// Runs one operation, alone.
    fn with<R>(&self, operation: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = operation(&mut state);
        let gone = std::mem::take(&mut state.gone);
        drop(state);
        for ino in gone {
            self.locks.forget(ino);
        }
        result
    }
}

impl ModelFs {
    /// An empty file system with the usual options.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self::with_options(clock, ModelOptions::default())
    }

    /// An empty file system.
    #[must_use]
    pub fn with_options(clock: Clock, options: ModelOptions) -> Self {
        let mut options = ModelOptions { block: options.block.max(1), ..options };
        // Leaves room to round an offset up to a whole block.
        options.limits.file_size_max = options.limits.file_size_max.min(1 << 62);
        options.block = options.block.min(1 << 30);
        let shared = Shared {
            state: Mutex::new(State::new(clock, options)),
            locks: LockTable::new(),
            feeds: Feeds::default(),
            options,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Tells every listener of [`Vfs::changes`] that something changed elsewhere,
    /// for tests of what adapters make of it.
    pub fn announce(&self, change: &Change) {
        self.shared.feeds.announce(change);
    }

    fn with<R>(&self, operation: impl FnOnce(&mut State) -> R) -> R {
        self.shared.with(operation)
    }

    /// The inode meant, and what the handle it is reached by may do.
    fn reach(&self, at: At<'_, ModelHandle>) -> Result<Reach> {
        match at {
            At::Ino(ino) => Ok(Reach { ino, opened: None }),
            At::Open(handle) if Arc::ptr_eq(&handle.shared, &self.shared) => {
                Ok(Reach { ino: handle.ino, opened: Some(handle.flags) })
            }
            At::Open(_) => Err(ErrorKind::BadHandle.into()),
        }
    }

    fn handle(&self, ino: Ino, flags: OpenFlags) -> ModelHandle {
        ModelHandle { shared: Arc::clone(&self.shared), ino, flags }
    }

    fn created(&self, made: Made) -> Created<ModelHandle> {
        let handle = made.open.map(|flags| self.handle(made.entry.attr.ino, flags));
        Created { entry: made.entry, dir: made.dir, handle }
    }
}

/// What an operation is directed at.
#[derive(Clone, Copy, Debug)]
struct Reach {
    ino: Ino,
    /// What was granted when it was opened, if it was.
    opened: Option<OpenFlags>,
}

/// A [`Created`] whose handle has been counted, but not made.
struct Made {
    entry: Entry,
    dir: Wcc,
    open: Option<OpenFlags>,
}

impl Vfs for ModelFs {
    type Handle = ModelHandle;
    type Changes = ModelChanges;

    fn limits(&self) -> Limits {
        self.shared.options.limits
    }

    fn changes(&self) -> ModelChanges {
        self.shared.feeds.subscribe()
    }

    async fn lookup(&self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Entry> {
        self.with(|state| state.lookup(cx, dir, name))
    }

    async fn parent(&self, cx: Context<'_>, dir: Ino) -> Result<Entry> {
        self.with(|state| state.parent(cx, dir))
    }

    async fn getattr(&self, _cx: Context<'_>, at: At<'_, ModelHandle>) -> Result<Entry> {
        let reach = self.reach(at)?;
        self.with(|state| state.entry(reach.ino))
    }

    async fn setattr(
        &self,
        cx: Context<'_>,
        at: At<'_, ModelHandle>,
        set: &SetAttr,
    ) -> Result<Wcc> {
        let reach = self.reach(at)?;
        self.with(|state| state.setattr(cx, reach, set))
    }

    async fn access(&self, cx: Context<'_>, ino: Ino, want: Access) -> Result<Access> {
        let attr = self.with(|state| state.attr(ino).cloned())?;
        let have = match cx.dac {
            crate::Dac::Delegated => want,
            _ => rules::granted(cx.cred, &attr),
        };
        Ok(Access(have.0 & want.0))
    }

    async fn readlink(&self, _cx: Context<'_>, ino: Ino) -> Result<Bytes> {
        self.with(|state| state.readlink(ino))
    }

    async fn open(&self, cx: Context<'_>, ino: Ino, flags: OpenFlags) -> Result<ModelHandle> {
        self.with(|state| state.open(cx, ino, flags))?;
        Ok(self.handle(ino, flags))
    }

    async fn create(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: Name<'_>,
        attr: &SetAttr,
        if_exists: IfExists,
        open: Option<OpenFlags>,
    ) -> Result<Created<ModelHandle>> {
        let made = self.with(|state| state.create(cx, (dir, name), attr, if_exists, open))?;
        Ok(self.created(made))
    }

    async fn make(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: Name<'_>,
        what: Make<'_>,
        attr: &SetAttr,
    ) -> Result<Created<ModelHandle>> {
        let made = self.with(|state| state.make(cx, (dir, name), what, attr))?;
        Ok(self.created(made))
    }

    async fn link(
        &self,
        cx: Context<'_>,
        ino: Ino,
        dir: Ino,
        name: Name<'_>,
    ) -> Result<Created<ModelHandle>> {
        let made = self.with(|state| state.link(cx, ino, (dir, name)))?;
        Ok(self.created(made))
    }

    async fn unlink(&self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Wcc> {
        self.with(|state| state.unlink(cx, dir, name))
    }

    async fn rmdir(&self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Wcc> {
        self.with(|state| state.rmdir(cx, dir, name))
    }

    async fn rename(
        &self,
        cx: Context<'_>,
        from: (Ino, Name<'_>),
        to: (Ino, Name<'_>),
        mode: RenameMode,
    ) -> Result<(Wcc, Wcc)> {
        self.with(|state| state.rename(cx, from, to, mode))
    }

    async fn readdir(
        &self,
        cx: Context<'_>,
        dir: At<'_, ModelHandle>,
        after: Cookie,
        budget: Budget,
    ) -> Result<DirPage> {
        let reach = self.reach(dir)?;
        self.with(|state| state.readdir(cx, reach, after, budget))
    }

    async fn read(
        &self,
        cx: Context<'_>,
        file: At<'_, ModelHandle>,
        offset: u64,
        len: u32,
    ) -> Result<ReadData> {
        let reach = self.reach(file)?;
        self.with(|state| state.read(cx, reach, offset, len))
    }

    async fn write(
        &self,
        cx: Context<'_>,
        file: At<'_, ModelHandle>,
        at: WriteAt,
        data: Segments,
        stability: Stability,
    ) -> Result<Written> {
        let reach = self.reach(file)?;
        let count = u32::try_from(data.len()).map_err(|_| ErrorKind::Invalid)?;
        let wcc = self.with(|state| state.write(cx, reach, at, &data))?;
        Ok(Written { count, wcc, stability, verifier: self.shared.options.verifier })
    }

    async fn flush(&self, _cx: Context<'_>, file: &ModelHandle) -> Result<()> {
        self.reach(At::Open(file)).map(drop)
    }

    async fn sync(
        &self,
        _cx: Context<'_>,
        scope: Scope<'_, ModelHandle>,
        _stability: Stability,
    ) -> Result<WriteVerifier> {
        match scope {
            Scope::Range { file, .. } => {
                let reach = self.reach(file)?;
                self.with(|state| state.attr(reach.ino).map(drop))?;
            }
            Scope::Directory(ino) => self.with(|state| state.dir(ino).map(drop))?,
            Scope::Volume => {}
        }
        Ok(self.shared.options.verifier)
    }

    async fn allocate(
        &self,
        cx: Context<'_>,
        file: At<'_, ModelHandle>,
        offset: u64,
        len: u64,
        what: Allocate,
    ) -> Result<Wcc> {
        let reach = self.reach(file)?;
        self.with(|state| state.allocate(cx, reach, (offset, len), what))
    }

    async fn seek(
        &self,
        cx: Context<'_>,
        file: At<'_, ModelHandle>,
        offset: u64,
        to: SeekTo,
    ) -> Result<u64> {
        let reach = self.reach(file)?;
        self.with(|state| state.seek(cx, reach, offset, to))
    }

    async fn copy(
        &self,
        cx: Context<'_>,
        from: (At<'_, ModelHandle>, u64),
        to: (At<'_, ModelHandle>, u64),
        len: u64,
    ) -> Result<u64> {
        let (from, to) = ((self.reach(from.0)?, from.1), (self.reach(to.0)?, to.1));
        self.with(|state| state.copy(cx, from, to, len))
    }

    async fn lock_conflict(
        &self,
        _cx: Context<'_>,
        file: At<'_, ModelHandle>,
        probe: &Lock,
    ) -> Result<Option<Lock>> {
        let ino = self.lockable(file)?;
        self.shared.locks.conflict(ino, probe)
    }

    async fn lock(
        &self,
        _cx: Context<'_>,
        file: At<'_, ModelHandle>,
        lock: &Lock,
        wait: LockWait,
    ) -> Result<()> {
        let ino = self.lockable(file)?;
        self.shared.locks.lock(ino, lock, wait).await
    }

    async fn unlock(&self, _cx: Context<'_>, file: At<'_, ModelHandle>, lock: &Lock) -> Result<()> {
        let ino = self.lockable(file)?;
        self.shared.locks.unlock(ino, lock)
    }

    async fn xattr(&self, cx: Context<'_>, ino: Ino, name: &[u8]) -> Result<Bytes> {
        self.with(|state| state.xattr(cx, ino, name))
    }

    async fn set_xattr(
        &self,
        cx: Context<'_>,
        ino: Ino,
        name: &[u8],
        value: Option<Bytes>,
        mode: XattrMode,
    ) -> Result<()> {
        self.with(|state| state.set_xattr(cx, ino, name, value, mode))
    }

    async fn xattrs(&self, cx: Context<'_>, ino: Ino) -> Result<Vec<Bytes>> {
        self.with(|state| state.xattrs(cx, ino))
    }

    async fn statfs(&self, _cx: Context<'_>) -> Result<VolumeStat> {
        Ok(self.with(|state| state.statfs()))
    }
}

impl ModelFs {
    /// Whatever can be open can be locked.
    fn lockable(&self, at: At<'_, ModelHandle>) -> Result<Ino> {
        let reach = self.reach(at)?;
        let attr: Attr = self.with(|state| state.attr(reach.ino).cloned())?;
        match attr.kind {
            crate::Kind::Symlink => Err(ErrorKind::Invalid.into()),
            _ => Ok(reach.ino),
        }
    }
}

#[cfg(test)]
mod tests;
