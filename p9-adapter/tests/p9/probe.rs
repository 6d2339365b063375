//! A file system in front of the model that counts what it is asked, and can be told to
//! wait or panic.

use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use tokio::sync::Notify;
use vfs::model::{ModelChanges, ModelFs, ModelHandle};
use vfs::{
    Access, Allocate, At, Budget, Context, Cookie, Created, DirPage, Entry, IfExists, Ino, Limits,
    Lock, LockWait, Make, Name, OpenFlags, ReadData, RenameMode, Result, Scope, SeekTo, Segments,
    SetAttr, Stability, Vfs, VolumeStat, Wcc, WriteAt, WriteVerifier, Written, XattrMode,
};

pub(crate) struct Probe {
    pub(crate) model: ModelFs,
    counts: Mutex<HashMap<&'static str, usize>>,
    shut: Mutex<HashSet<&'static str>>,
    panics: Mutex<HashSet<&'static str>>,
    opened: Notify,
    syncs: Mutex<Vec<(&'static str, Stability)>>,
    writes: Mutex<Vec<(WriteAt, Stability, usize)>>,
}

impl Probe {
    pub(crate) fn new(model: ModelFs) -> Self {
        Self {
            model,
            counts: Mutex::default(),
            shut: Mutex::default(),
            panics: Mutex::default(),
            opened: Notify::new(),
            syncs: Mutex::default(),
            writes: Mutex::default(),
        }
    }

    /// How often a method was finished.
    pub(crate) fn count(&self, method: &str) -> usize {
        self.counts.lock().unwrap().get(method).copied().unwrap_or(0)
    }

    /// Makes everybody wait at a method, until it is opened.
    pub(crate) fn shut(&self, method: &'static str) {
        self.shut.lock().unwrap().insert(method);
    }

    pub(crate) fn open_up(&self, method: &'static str) {
        self.shut.lock().unwrap().remove(method);
        self.opened.notify_waiters();
    }

    /// Makes a method panic, at once or after having waited.
    pub(crate) fn panics(&self, method: &'static str) {
        self.panics.lock().unwrap().insert(method);
    }

    /// What was synced, and how safely.
    pub(crate) fn syncs(&self) -> Vec<(&'static str, Stability)> {
        self.syncs.lock().unwrap().clone()
    }

    /// Where was written, how safely, and in how many slices.
    pub(crate) fn writes(&self) -> Vec<(WriteAt, Stability, usize)> {
        self.writes.lock().unwrap().clone()
    }

    #[expect(clippy::panic, reason = "that is the trouble asked for")]
    async fn enter(&self, method: &'static str) {
        loop {
            let opened = self.opened.notified();
            let mut opened = std::pin::pin!(opened);
            opened.as_mut().enable();
            if !self.shut.lock().unwrap().contains(method) {
                break;
            }
            opened.await;
        }
        if self.panics.lock().unwrap().contains(method) {
            panic!("asked for by a test");
        }
        *self.counts.lock().unwrap().entry(method).or_default() += 1;
    }
}

/// Methods that only count and pass on.
macro_rules! pass {
    ($($method:ident($($arg:ident: $type:ty),*) -> $out:ty;)*) => {$(
        async fn $method(&self, cx: Context<'_>, $($arg: $type),*) -> Result<$out> {
            self.enter(stringify!($method)).await;
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
        self.enter("write").await;
        self.writes.lock().unwrap().push((at, stability, data.as_slices().len()));
        self.model.write(cx, file, at, data, stability).await
    }

    async fn sync(
        &self,
        cx: Context<'_>,
        scope: Scope<'_, H>,
        stability: Stability,
    ) -> Result<WriteVerifier> {
        self.enter("sync").await;
        let what = match scope {
            Scope::Range { data_only: true, .. } => "data",
            Scope::Range { .. } => "file",
            Scope::Directory(_) => "directory",
            Scope::Volume => "volume",
        };
        self.syncs.lock().unwrap().push((what, stability));
        self.model.sync(cx, scope, stability).await
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
        readdir(dir: At<'_, H>, after: Cookie, budget: Budget) -> DirPage;
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
