//! The `Vfs` trait, by delegation.

use super::{Engine, FILE_SIZE_MAX, Handle, LINK_MAX};
use bytes::Bytes;
use vfs::{
    Access, Allocate, At, Budget, Change, Changes, Context, Cookie, Created, DirPage, Entry,
    IfExists, Ino, Limits, Lock, LockWait, Make, Name, OpenFlags, ReadData, RenameMode, Result,
    Scope, SeekTo, Segments, SetAttr, Stability, Vfs, VolumeStat, Wcc, WriteAt, WriteVerifier,
    Written, XattrMode,
};

/// Changes by others; there are none while one machine writes.
#[derive(Debug)]
pub struct NoChanges;

impl Changes for NoChanges {
    async fn next(&mut self) -> Option<Change> {
        std::future::pending().await
    }
}

impl Vfs for Engine {
    type Handle = Handle;
    type Changes = NoChanges;

    fn limits(&self) -> Limits {
        Limits {
            read_max: 1 << 20,
            write_max: 1 << 20,
            preferred: self.inner.block_size as u32,
            name_max: Name::LEN_MAX as u32,
            link_max: LINK_MAX,
            file_size_max: FILE_SIZE_MAX,
        }
    }

    fn changes(&self) -> NoChanges {
        NoChanges
    }

    async fn lookup(&self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Entry> {
        self.do_lookup(cx, dir, name)
    }

    async fn parent(&self, cx: Context<'_>, dir: Ino) -> Result<Entry> {
        self.do_parent(cx, dir)
    }

    async fn getattr(&self, _: Context<'_>, at: At<'_, Handle>) -> Result<Entry> {
        self.do_getattr(at)
    }

    async fn setattr(&self, cx: Context<'_>, at: At<'_, Handle>, set: &SetAttr) -> Result<Wcc> {
        self.inner.keep_up().await?;
        self.do_setattr(cx, at, set)
    }

    async fn access(&self, cx: Context<'_>, ino: Ino, want: Access) -> Result<Access> {
        self.do_access(cx, ino, want)
    }

    async fn readlink(&self, _: Context<'_>, ino: Ino) -> Result<Bytes> {
        self.do_readlink(ino)
    }

    async fn open(&self, cx: Context<'_>, ino: Ino, flags: OpenFlags) -> Result<Handle> {
        self.do_open(cx, ino, flags)
    }

    async fn create(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: Name<'_>,
        attr: &SetAttr,
        if_exists: IfExists,
        open: Option<OpenFlags>,
    ) -> Result<Created<Handle>> {
        self.inner.keep_up().await?;
        self.do_create(cx, dir, name, attr, if_exists, open)
    }

    async fn make(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: Name<'_>,
        what: Make<'_>,
        attr: &SetAttr,
    ) -> Result<Created<Handle>> {
        self.inner.keep_up().await?;
        self.do_make(cx, dir, name, what, attr)
    }

    async fn link(
        &self,
        cx: Context<'_>,
        ino: Ino,
        dir: Ino,
        name: Name<'_>,
    ) -> Result<Created<Handle>> {
        self.inner.keep_up().await?;
        self.do_link(cx, ino, dir, name)
    }

    async fn unlink(&self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Wcc> {
        self.inner.keep_up().await?;
        self.do_remove(cx, dir, name, false)
    }

    async fn rmdir(&self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Wcc> {
        self.inner.keep_up().await?;
        self.do_remove(cx, dir, name, true)
    }

    async fn rename(
        &self,
        cx: Context<'_>,
        from: (Ino, Name<'_>),
        to: (Ino, Name<'_>),
        mode: RenameMode,
    ) -> Result<(Wcc, Wcc)> {
        self.inner.keep_up().await?;
        self.do_rename(cx, from, to, mode)
    }

    async fn readdir(
        &self,
        cx: Context<'_>,
        dir: At<'_, Handle>,
        after: Cookie,
        budget: Budget,
    ) -> Result<DirPage> {
        self.do_readdir(cx, dir, after, budget)
    }

    async fn read(
        &self,
        cx: Context<'_>,
        file: At<'_, Handle>,
        offset: u64,
        len: u32,
    ) -> Result<ReadData> {
        let wait = self.wait();
        loop {
            let told = self.do_read(cx, file, offset, len).await;
            if !wait.tries_again(told.as_ref().err()).await {
                return told;
            }
        }
    }

    async fn write(
        &self,
        cx: Context<'_>,
        file: At<'_, Handle>,
        at: WriteAt,
        data: Segments,
        stability: Stability,
    ) -> Result<Written> {
        self.inner.keep_up().await?;
        self.do_write(cx, file, at, data, stability).await
    }

    async fn flush(&self, _: Context<'_>, file: &Handle) -> Result<()> {
        self.inner.take_failure(file.ino)
    }

    async fn sync(
        &self,
        _: Context<'_>,
        scope: Scope<'_, Handle>,
        stability: Stability,
    ) -> Result<WriteVerifier> {
        let file = match scope {
            Scope::Range { file, .. } => Some(self.do_getattr(file)?.attr.ino.get()),
            Scope::Directory(dir) => {
                if self.do_getattr(At::Ino(dir))?.attr.kind != vfs::Kind::Directory {
                    return Err(vfs::ErrorKind::NotDirectory.into());
                }
                None
            }
            Scope::Volume => None,
        };
        // A commit takes everything: what happened before in other places must
        // not be missing when this survives.
        self.make_stable(stability.max(Stability::Journaled), file).await?;
        Ok(self.inner.verifier)
    }

    async fn allocate(
        &self,
        cx: Context<'_>,
        file: At<'_, Handle>,
        offset: u64,
        len: u64,
        what: Allocate,
    ) -> Result<Wcc> {
        let wait = self.wait();
        loop {
            let told = self.do_allocate(cx, file, offset, len, what).await;
            if !wait.tries_again(told.as_ref().err()).await {
                return told;
            }
        }
    }

    async fn seek(
        &self,
        cx: Context<'_>,
        file: At<'_, Handle>,
        offset: u64,
        to: SeekTo,
    ) -> Result<u64> {
        let wait = self.wait();
        loop {
            let told = self.do_seek(cx, file, offset, to).await;
            if !wait.tries_again(told.as_ref().err()).await {
                return told;
            }
        }
    }

    async fn copy(
        &self,
        cx: Context<'_>,
        from: (At<'_, Handle>, u64),
        to: (At<'_, Handle>, u64),
        len: u64,
    ) -> Result<u64> {
        let wait = self.wait();
        loop {
            let told = self.do_copy(cx, from, to, len).await;
            if !wait.tries_again(told.as_ref().err()).await {
                return told;
            }
        }
    }

    async fn lock_conflict(
        &self,
        _: Context<'_>,
        file: At<'_, Handle>,
        probe: &Lock,
    ) -> Result<Option<Lock>> {
        self.inner.locks.conflict(self.do_getattr(file)?.attr.ino, probe)
    }

    async fn lock(
        &self,
        _: Context<'_>,
        file: At<'_, Handle>,
        lock: &Lock,
        wait: LockWait,
    ) -> Result<()> {
        let ino = self.do_getattr(file)?.attr.ino;
        self.inner.locks.lock(ino, lock, wait).await
    }

    async fn unlock(&self, _: Context<'_>, file: At<'_, Handle>, lock: &Lock) -> Result<()> {
        self.inner.locks.unlock(self.do_getattr(file)?.attr.ino, lock)
    }

    async fn xattr(&self, cx: Context<'_>, ino: Ino, name: &[u8]) -> Result<Bytes> {
        self.do_xattr(cx, ino, name)
    }

    async fn set_xattr(
        &self,
        cx: Context<'_>,
        ino: Ino,
        name: &[u8],
        value: Option<Bytes>,
        mode: XattrMode,
    ) -> Result<()> {
        self.inner.keep_up().await?;
        self.do_set_xattr(cx, ino, name, value, mode)
    }

    async fn xattrs(&self, cx: Context<'_>, ino: Ino) -> Result<Vec<Bytes>> {
        self.do_xattrs(cx, ino)
    }

    async fn statfs(&self, _: Context<'_>) -> Result<VolumeStat> {
        self.do_statfs()
    }
}
