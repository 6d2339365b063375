//! A file system in front of the model that counts what it is asked, and can be told
//! to wait for leave, fail, promise less or panic.

use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use vfs::model::{ModelChanges, ModelFs, ModelHandle};
use vfs::{
    Access, Allocate, At, Budget, Context, Cookie, Created, Dac, DirPage, Entry, ErrorKind,
    IfExists, Ino, Limits, Lock, LockWait, Make, Name, OpenFlags, ReadData, RenameMode, Result,
    Scope, SeekTo, Segments, SetAttr, Stability, Vfs, VolumeStat, Wcc, WriteAt, WriteVerifier,
    Written, XattrMode,
};

/// What a method does before the model is asked.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// Waits until so many permits are there, and takes one.
    Wait(Arc<Semaphore>),
    Fail(ErrorKind),
    Panic,
    /// Waits once, shortly, then panics.
    PanicLate,
    /// Keeps the thread busy for a while, and counts how many are at it.
    Busy(Arc<Busy>),
}

/// How many are busy, and how many were at most.
#[derive(Debug, Default)]
pub(crate) struct Busy {
    now: AtomicUsize,
    pub(crate) most: AtomicUsize,
}

/// What was written last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastWrite {
    pub(crate) uid: u32,
    pub(crate) dac: Dac,
    pub(crate) has_op: bool,
    pub(crate) place: WriteAt,
    pub(crate) len: usize,
    pub(crate) slices: usize,
    pub(crate) stability: Stability,
}

pub(crate) struct Probe {
    model: ModelFs,
    counts: Mutex<HashMap<&'static str, usize>>,
    troubles: Mutex<HashMap<&'static str, Trouble>>,
    last_write: Mutex<Option<LastWrite>>,
    last_sync: Mutex<Option<(u64, u64, Stability)>>,
    /// What replies to writes and syncs say instead of the model's.
    verifier: Mutex<Option<WriteVerifier>>,
    /// Directory pages come without attributes.
    hides_attr: AtomicBool,
}

impl Probe {
    pub(crate) fn new(model: ModelFs) -> Self {
        Self {
            model,
            counts: Mutex::default(),
            troubles: Mutex::default(),
            last_write: Mutex::default(),
            last_sync: Mutex::default(),
            verifier: Mutex::default(),
            hides_attr: AtomicBool::new(false),
        }
    }

    /// How often a method was called.
    pub(crate) fn count(&self, method: &str) -> usize {
        self.counts.lock().unwrap().get(method).copied().unwrap_or(0)
    }

    pub(crate) fn model(&self) -> &ModelFs {
        &self.model
    }

    /// Says that another life of the file system answers from now on.
    pub(crate) fn set_verifier(&self, verifier: u64) {
        *self.verifier.lock().unwrap() = Some(WriteVerifier(verifier));
    }

    pub(crate) fn hide_attr(&self) {
        self.hides_attr.store(true, Ordering::Relaxed);
    }

    fn verifier(&self, from_model: WriteVerifier) -> WriteVerifier {
        self.verifier.lock().unwrap().unwrap_or(from_model)
    }

    pub(crate) fn last_write(&self) -> Option<LastWrite> {
        *self.last_write.lock().unwrap()
    }

    /// Range of the last `sync`, and how safe it was asked to make it.
    pub(crate) fn last_sync(&self) -> Option<(u64, u64, Stability)> {
        *self.last_sync.lock().unwrap()
    }

    /// Makes a method misbehave from now on; `None` heals it.
    pub(crate) fn trouble(&self, method: &'static str, trouble: Option<Trouble>) {
        let mut troubles = self.troubles.lock().unwrap();
        match trouble {
            Some(trouble) => troubles.insert(method, trouble),
            None => troubles.remove(method),
        };
    }

    #[expect(clippy::panic, clippy::disallowed_methods, reason = "the trouble asked for")]
    async fn enter(&self, method: &'static str) -> Result<()> {
        *self.counts.lock().unwrap().entry(method).or_default() += 1;
        let trouble = self.troubles.lock().unwrap().get(method).cloned();
        match trouble {
            None => Ok(()),
            Some(Trouble::Wait(leave)) => {
                leave.acquire().await.unwrap().forget();
                Ok(())
            }
            Some(Trouble::Busy(busy)) => {
                let count = busy.now.fetch_add(1, Ordering::SeqCst) + 1;
                busy.most.fetch_max(count, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(5));
                busy.now.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }
            Some(Trouble::PanicLate) => {
                tokio::task::yield_now().await;
                panic!("asked for by a test, late")
            }
            Some(Trouble::Fail(kind)) => Err(kind.into()),
            Some(Trouble::Panic) => panic!("asked for by a test"),
        }
    }
}

/// Methods that only count and pass on.
macro_rules! pass {
    ($($method:ident($($arg:ident: $type:ty),*) -> $out:ty;)*) => {$(
        async fn $method(&self, cx: Context<'_>, $($arg: $type),*) -> Result<$out> {
            self.enter(stringify!($method)).await?;
            self.model.$method(cx, $($arg),*).await
        }
    )*};
}

type H = ModelHandle;

impl Vfs for Probe {
    type Handle = H;
    type Changes = ModelChanges;

    fn limits(&self) -> Limits {
        self.model.limits()
    }

    fn changes(&self) -> ModelChanges {
        self.model.changes()
    }

    async fn write(
        &self,
        cx: Context<'_>,
        file: At<'_, H>,
        at: WriteAt,
        data: Segments,
        stability: Stability,
    ) -> Result<Written> {
        self.enter("write").await?;
        *self.last_write.lock().unwrap() = Some(LastWrite {
            uid: cx.cred.uid,
            dac: cx.dac,
            has_op: cx.op.is_some(),
            place: at,
            len: data.len(),
            slices: data.as_slices().len(),
            stability,
        });
        let mut written = self.model.write(cx, file, at, data, stability).await?;
        written.verifier = self.verifier(written.verifier);
        Ok(written)
    }

    async fn sync(
        &self,
        cx: Context<'_>,
        scope: Scope<'_, H>,
        stability: Stability,
    ) -> Result<WriteVerifier> {
        self.enter("sync").await?;
        if let Scope::Range { offset, len, data_only: false, .. } = scope {
            *self.last_sync.lock().unwrap() = Some((offset, len, stability));
        }
        Ok(self.verifier(self.model.sync(cx, scope, stability).await?))
    }

    async fn readdir(
        &self,
        cx: Context<'_>,
        dir: At<'_, H>,
        after: Cookie,
        budget: Budget,
    ) -> Result<DirPage> {
        self.enter("readdir").await?;
        let with_attr = budget.with_attr && !self.hides_attr.load(Ordering::Relaxed);
        self.model.readdir(cx, dir, after, Budget { with_attr, ..budget }).await
    }

    pass! {
        lookup(dir: Ino, name: Name<'_>) -> Entry;
        parent(dir: Ino) -> Entry;
        getattr(at: At<'_, H>) -> Entry;
        setattr(at: At<'_, H>, set: &SetAttr) -> Wcc;
        access(ino: Ino, want: Access) -> Access;
        readlink(ino: Ino) -> Bytes;
        open(ino: Ino, flags: OpenFlags) -> H;
        create(dir: Ino, name: Name<'_>, attr: &SetAttr, exists: IfExists, open: Option<OpenFlags>)
            -> Created<H>;
        make(dir: Ino, name: Name<'_>, what: Make<'_>, attr: &SetAttr) -> Created<H>;
        link(ino: Ino, dir: Ino, name: Name<'_>) -> Created<H>;
        unlink(dir: Ino, name: Name<'_>) -> Wcc;
        rmdir(dir: Ino, name: Name<'_>) -> Wcc;
        rename(from: (Ino, Name<'_>), to: (Ino, Name<'_>), mode: RenameMode) -> (Wcc, Wcc);
        read(file: At<'_, H>, offset: u64, len: u32) -> ReadData;
        flush(file: &H) -> ();
        allocate(file: At<'_, H>, offset: u64, len: u64, what: Allocate) -> Wcc;
        seek(file: At<'_, H>, offset: u64, to: SeekTo) -> u64;
        copy(from: (At<'_, H>, u64), to: (At<'_, H>, u64), len: u64) -> u64;
        lock_conflict(file: At<'_, H>, probe: &Lock) -> Option<Lock>;
        lock(file: At<'_, H>, lock: &Lock, wait: LockWait) -> ();
        unlock(file: At<'_, H>, lock: &Lock) -> ();
        xattr(ino: Ino, name: &[u8]) -> Bytes;
        set_xattr(ino: Ino, name: &[u8], value: Option<Bytes>, mode: XattrMode) -> ();
        xattrs(ino: Ino) -> Vec<Bytes>;
        statfs() -> VolumeStat;
    }
}
