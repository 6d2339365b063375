//! A file system in front of the model that counts what it is asked, and can be told
//! to wait, fail or panic.

use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use vfs::model::{ModelChanges, ModelFs, ModelHandle};
use vfs::{
    Access, Allocate, At, Budget, Context, Cookie, Created, DirPage, Entry, ErrorKind, IfExists,
    Ino, Limits, Lock, LockWait, Make, Name, OpenFlags, ReadData, RenameMode, Result, Scope,
    SeekTo, Segments, SetAttr, Stability, Vfs, VolumeStat, Wcc, WriteAt, WriteVerifier, Written,
    XattrMode,
};

/// What a method does before the model is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    Wait(Duration),
    Fail(ErrorKind),
    Panic,
}

pub(crate) struct Probe {
    model: ModelFs,
    counts: Mutex<HashMap<&'static str, usize>>,
    troubles: Mutex<HashMap<&'static str, Trouble>>,
    last_write: Mutex<Option<(u32, WriteAt, usize)>>,
    last_sync: Mutex<Option<Stability>>,
}

impl Probe {
    pub(crate) fn new(model: ModelFs) -> Self {
        Self {
            model,
            counts: Mutex::default(),
            troubles: Mutex::default(),
            last_write: Mutex::default(),
            last_sync: Mutex::default(),
        }
    }

    /// How often a method was called.
    pub(crate) fn count(&self, method: &str) -> usize {
        self.counts.lock().unwrap().get(method).copied().unwrap_or(0)
    }

    /// The caller's uid, the place and the size of the last write.
    pub(crate) fn last_write(&self) -> Option<(u32, WriteAt, usize)> {
        *self.last_write.lock().unwrap()
    }

    /// How safe the last `sync` was asked to make things.
    pub(crate) fn last_sync(&self) -> Option<Stability> {
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

    #[expect(clippy::disallowed_methods, clippy::panic, reason = "that is the trouble asked for")]
    async fn enter(&self, method: &'static str) -> Result<()> {
        *self.counts.lock().unwrap().entry(method).or_default() += 1;
        let trouble = self.troubles.lock().unwrap().get(method).copied();
        match trouble {
            None => Ok(()),
            Some(Trouble::Wait(time)) => {
                tokio::time::sleep(time).await;
                Ok(())
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
        *self.last_write.lock().unwrap() = Some((cx.cred.uid, at, data.len()));
        self.model.write(cx, file, at, data, stability).await
    }

    async fn sync(
        &self,
        cx: Context<'_>,
        scope: Scope<'_, H>,
        stability: Stability,
    ) -> Result<WriteVerifier> {
        let method = match scope {
            Scope::Range { data_only: true, .. } => "sync data",
            Scope::Range { .. } => "sync file",
            Scope::Directory(_) => "sync directory",
            Scope::Volume => "sync volume",
        };
        self.enter(method).await?;
        *self.last_sync.lock().unwrap() = Some(stability);
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
