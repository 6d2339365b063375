//! What every procedure works with, free of connections and threads.

use crate::buffers::DATA_MAX;
use crate::export::Export;
use crate::handle::{HANDLE_LEN, Handles};
use crate::late::Late;
use crate::xdr::Decoder;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use vfs::{
    At, Attr, Context, Cred, Dac, ErrorKind, Ino, Limits, OpId, Result, Scope, Stability, Vfs,
};

/// The status of what worked, in both programs.
pub(crate) const OK: u32 = 0;

/// What a handle in a call refers to, or what is wrong with it.
pub(crate) type Target = std::result::Result<Ino, ErrorKind>;

/// Who asks, and in which call.
#[derive(Debug)]
pub(crate) struct Ask {
    /// The number of the call.
    pub(crate) xid: u32,
    /// As whom the caller acts.
    pub(crate) cred: Cred,
    /// Names a call that must not be done twice.
    pub(crate) op: Option<OpId>,
}

impl Ask {
    /// The file system checks permissions, but lets owners read and write: there is no
    /// `open` that could have granted it.
    pub(crate) fn context(&self) -> Context<'_> {
        Context { cred: &self.cred, dac: Dac::EnforceExceptOwner, op: self.op }
    }
}

/// A file system and how it is talked about.
pub(crate) struct Core<V> {
    pub(crate) fs: Arc<V>,
    pub(crate) handles: Handles,
    pub(crate) export: Export,
    pub(crate) limits: Limits,
    /// The file system's number in attributes.
    pub(crate) fsid: u64,
    /// Set once a path that is good for a single mount has been mounted.
    pub(crate) is_spent: AtomicBool,
    /// How long reads take.
    pub(crate) reads: Pace,
    /// Those that take too long.
    pub(crate) late: Arc<Late>,
    /// How long it takes until something survives a crash.
    saves: Pace,
}

/// How long calls of a sort take, on average of the last few, nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Pace(AtomicU64);

impl Pace {
    /// Whether others should do it if more calls wait.
    pub(crate) fn is_long(&self) -> bool {
        self.0.load(Ordering::Relaxed) > LONG_NS
    }

    /// Notes how long one took.
    pub(crate) fn note(&self, since: Instant) {
        let took = since.elapsed().as_nanos().min(u128::from(u32::MAX)) as u64;
        let before = self.0.load(Ordering::Relaxed);
        self.0.store((7 * before + took) / 8, Ordering::Relaxed);
    }
}

/// How often saving a change is tried while the store is out of reach: for two minutes and
/// more, if the file system does not wait itself.
const SAVES_MAX: usize = 480;
/// Time between two of these.
const SAVE_EVERY: Duration = Duration::from_millis(250);

/// What takes this long is worth waking another thread for, nanoseconds.
const LONG_NS: u64 = 300_000;

impl<V: Vfs> Core<V> {
    pub(crate) fn new(fs: Arc<V>, export: Export) -> Self {
        let limits = fs.limits();
        let handles = Handles::new(export.fs_id, export.handle_key.clone());
        let fsid = u128::from_be_bytes(export.fs_id);
        let fsid = (fsid >> 64) as u64 ^ fsid as u64;
        let is_spent = AtomicBool::new(false);
        let (reads, saves) = (Pace::default(), Pace::default());
        let late = Late::new(export.reads_wait_max);
        Self { fs, handles, export, limits, fsid, is_spent, reads, late, saves }
    }

    /// Whether arguments begin with a handle that was made here: whoever sends one was let
    /// in, and may have something done.
    pub(crate) fn begins_with_handle(&self, arguments: &[u8]) -> bool {
        let handle = Decoder::new(arguments).opaque(HANDLE_LEN);
        handle.is_ok_and(|handle| self.handles.ino(handle).is_ok())
    }

    /// Bytes of the largest read.
    pub(crate) fn read_max(&self) -> u32 {
        self.limits.read_max.clamp(1, DATA_MAX as u32)
    }

    /// Bytes of the largest write.
    pub(crate) fn write_max(&self) -> u32 {
        self.limits.write_max.clamp(1, DATA_MAX as u32)
    }

    /// Runs what makes something survive a crash. Where that takes long it is left to
    /// others: whoever read the call reads the next, and several are saved as one.
    pub(crate) async fn saving<T>(&self, save: impl Future<Output = T>) -> T {
        if self.saves.is_long() {
            tokio::task::yield_now().await;
        }
        let began = now();
        let told = save.await;
        self.saves.note(began);
        told
    }

    /// Refuses a change of what may not be changed.
    pub(crate) fn may_change(&self) -> Result<()> {
        if self.export.read_only { Err(ErrorKind::ReadOnly.into()) } else { Ok(()) }
    }

    /// Has a change survive a crash before it is answered (RFC 1813 §4.7): clients do not
    /// ask for it again, and rely on files that they were told are there.
    ///
    /// The change is there already. To have the client try later would have it done twice,
    /// since Linux does so by a call of another number; so the call stays under way until
    /// it can be saved, and a repetition waits with it. What cannot be saved at all is told
    /// as what it is.
    pub(crate) async fn kept<T>(&self, ask: &Ask, changed: Result<T>) -> Result<T> {
        let told = changed?;
        for _ in 0..SAVES_MAX {
            let save = self.fs.sync(ask.context(), Scope::Volume, Stability::Journaled);
            match self.saving(save).await {
                Ok(_) => return Ok(told),
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    log::debug!("call {:#x} is done but cannot be saved: {error}", ask.xid);
                    pause().await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(vfs::Error::because(ErrorKind::Io, "what was changed could not be saved"))
    }

    /// Attributes of what an answer is about, if they can be had.
    pub(crate) async fn attr_of(&self, ask: &Ask, target: Target) -> Option<Attr> {
        let entry = self.fs.getattr(ask.context(), At::Ino(target.ok()?)).await;
        entry.ok().map(|entry| entry.attr)
    }

    /// Writes a failure to the log, once, and gives its number.
    pub(crate) fn report(&self, procedure: impl Debug, target: Target, error: &vfs::Error) -> u32 {
        let ino = target.map_or(0, Ino::get);
        if error.is_alarming() {
            log::error!("{procedure:?} of inode {ino} failed: {error}");
        } else {
            log::debug!("{procedure:?} of inode {ino}: {error}");
        }
        error.kind().nfs_status()
    }
}

#[expect(clippy::disallowed_methods, reason = "how to share work is no simulated time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "clients wait by no simulated time")]
async fn pause() {
    tokio::time::sleep(SAVE_EVERY).await;
}

/// An answer that breaks the trait's contract.
pub(crate) fn broken_contract(what: &'static str) -> vfs::Error {
    vfs::Error::because(ErrorKind::Io, what)
}
