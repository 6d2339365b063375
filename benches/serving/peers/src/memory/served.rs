//! The file system as the project's own servers see it. What the load does not ask for
//! is refused.

use super::{COOKIE_FIRST, Memory, Node};
use bytes::Bytes;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use vfs::{
    Access, Allocate, At, Budget, Change, Context, Cookie, Created, DirEntry, DirPage, Entry,
    ErrorKind, IfExists, Ino, Kind, Limits, Lock, LockWait, Make, Name, OpenFlags, ReadData,
    RenameMode, Result, Scope, SeekTo, Segments, SetAttr, Stability, Validity, Vfs, VolumeStat,
    Wcc, WriteAt, WriteVerifier, Written, XattrMode,
};

const VERIFIER: WriteVerifier = WriteVerifier(1);

/// Nothing changes but by requests.
pub(crate) struct Silence;

impl vfs::Changes for Silence {
    async fn next(&mut self) -> Option<Change> {
        pending().await
    }
}

fn refused<T>() -> Result<T> {
    Err(ErrorKind::NotSupported.into())
}

fn entry(node: &Node) -> Entry {
    Entry { attr: node.attr(), validity: Validity::For(Duration::from_secs(1)) }
}

impl Memory {
    fn at(&self, at: At<'_, Arc<Node>>) -> Result<Arc<Node>> {
        match at {
            At::Ino(ino) => self.node(ino.get()),
            At::Open(node) => Ok(Arc::clone(node)),
        }
    }
}

impl Vfs for Memory {
    type Handle = Arc<Node>;
    type Changes = Silence;

    fn limits(&self) -> Limits {
        Limits {
            read_max: 1 << 20,
            write_max: 1 << 20,
            preferred: 1 << 20,
            name_max: 255,
            link_max: 1,
            file_size_max: 1 << 40,
        }
    }

    fn changes(&self) -> Silence {
        Silence
    }

    async fn lookup(&self, _: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Entry> {
        Ok(entry(&*self.node(dir.get())?.find(name.as_bytes())?))
    }

    async fn parent(&self, _: Context<'_>, dir: Ino) -> Result<Entry> {
        Ok(entry(&*self.above(&*self.node(dir.get())?)?))
    }

    async fn getattr(&self, _: Context<'_>, at: At<'_, Arc<Node>>) -> Result<Entry> {
        Ok(entry(&*self.at(at)?))
    }

    async fn setattr(&self, _: Context<'_>, at: At<'_, Arc<Node>>, set: &SetAttr) -> Result<Wcc> {
        self.at(at)?.set(set)
    }

    async fn access(&self, _: Context<'_>, ino: Ino, want: Access) -> Result<Access> {
        self.node(ino.get()).map(|_| want)
    }

    async fn readlink(&self, _: Context<'_>, _: Ino) -> Result<Bytes> {
        refused()
    }

    async fn open(&self, _: Context<'_>, ino: Ino, flags: OpenFlags) -> Result<Arc<Node>> {
        let node = self.node(ino.get())?;
        if flags.truncate {
            node.set(&SetAttr { size: Some(0), ..SetAttr::default() })?;
        }
        Ok(node)
    }

    async fn create(
        &self,
        _: Context<'_>,
        dir: Ino,
        name: Name<'_>,
        attr: &SetAttr,
        if_exists: IfExists,
        open: Option<OpenFlags>,
    ) -> Result<Created<Arc<Node>>> {
        let dir = self.node(dir.get())?;
        let (node, wcc) = match self.add(&dir, name.as_bytes(), Kind::Regular, attr) {
            Err(error) if error.kind() == ErrorKind::Exists && if_exists == IfExists::Reuse => {
                let (node, attr) = (dir.find(name.as_bytes())?, dir.attr());
                (node, Wcc::new(&attr, attr.clone()))
            }
            added => added?,
        };
        Ok(Created { entry: entry(&node), dir: wcc, handle: open.map(|_| node) })
    }

    async fn make(
        &self,
        _: Context<'_>,
        dir: Ino,
        name: Name<'_>,
        what: Make<'_>,
        attr: &SetAttr,
    ) -> Result<Created<Arc<Node>>> {
        let Make::Directory = what else { return refused() };
        let dir = self.node(dir.get())?;
        let (node, dir) = self.add(&dir, name.as_bytes(), Kind::Directory, attr)?;
        Ok(Created { entry: entry(&node), dir, handle: None })
    }

    async fn link(
        &self,
        _: Context<'_>,
        _: Ino,
        _: Ino,
        _: Name<'_>,
    ) -> Result<Created<Arc<Node>>> {
        refused()
    }

    async fn unlink(&self, _: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Wcc> {
        self.remove(&*self.node(dir.get())?, name.as_bytes())
    }

    async fn rmdir(&self, _: Context<'_>, _: Ino, _: Name<'_>) -> Result<Wcc> {
        refused()
    }

    async fn rename(
        &self,
        _: Context<'_>,
        _: (Ino, Name<'_>),
        _: (Ino, Name<'_>),
        _: RenameMode,
    ) -> Result<(Wcc, Wcc)> {
        refused()
    }

    async fn readdir(
        &self,
        _: Context<'_>,
        dir: At<'_, Arc<Node>>,
        after: Cookie,
        budget: Budget,
    ) -> Result<DirPage> {
        let dir = self.at(dir)?;
        let (mut entries, mut name_bytes) = (Vec::new(), 0);
        let end = dir.list(after.0.max(COOKIE_FIRST), |cookie, name, attr| {
            name_bytes += name.len();
            let is_full =
                entries.len() >= budget.entries as usize || name_bytes > budget.name_bytes as usize;
            if is_full && !entries.is_empty() {
                return false;
            }
            let (ino, kind, name, cookie) = (attr.ino, attr.kind, name.clone(), Cookie(cookie));
            let validity = Validity::For(Duration::from_secs(1));
            let entry = budget.with_attr.then_some(Entry { attr, validity });
            entries.push(DirEntry { ino, kind, name, cookie, entry });
            true
        })?;
        Ok(DirPage { entries, end, dir: dir.attr() })
    }

    async fn read(
        &self,
        _: Context<'_>,
        file: At<'_, Arc<Node>>,
        offset: u64,
        len: u32,
    ) -> Result<ReadData> {
        self.at(file)?.read(offset, len)
    }

    async fn write(
        &self,
        _: Context<'_>,
        file: At<'_, Arc<Node>>,
        at: WriteAt,
        data: Segments,
        stability: Stability,
    ) -> Result<Written> {
        let WriteAt::Offset(offset) = at else { return refused() };
        let wcc = self.at(file)?.write(offset, data.as_slices().iter().map(|slice| &slice[..]))?;
        Ok(Written { count: data.len() as u32, wcc, stability, verifier: VERIFIER })
    }

    async fn flush(&self, _: Context<'_>, _: &Arc<Node>) -> Result<()> {
        Ok(())
    }

    async fn sync(
        &self,
        _: Context<'_>,
        _: Scope<'_, Arc<Node>>,
        _: Stability,
    ) -> Result<WriteVerifier> {
        Ok(VERIFIER)
    }

    async fn allocate(
        &self,
        _: Context<'_>,
        _: At<'_, Arc<Node>>,
        _: u64,
        _: u64,
        _: Allocate,
    ) -> Result<Wcc> {
        refused()
    }

    async fn seek(&self, _: Context<'_>, _: At<'_, Arc<Node>>, _: u64, _: SeekTo) -> Result<u64> {
        refused()
    }

    async fn copy(
        &self,
        _: Context<'_>,
        _: (At<'_, Arc<Node>>, u64),
        _: (At<'_, Arc<Node>>, u64),
        _: u64,
    ) -> Result<u64> {
        refused()
    }

    async fn lock_conflict(
        &self,
        _: Context<'_>,
        _: At<'_, Arc<Node>>,
        _: &Lock,
    ) -> Result<Option<Lock>> {
        refused()
    }

    async fn lock(
        &self,
        _: Context<'_>,
        _: At<'_, Arc<Node>>,
        _: &Lock,
        _: LockWait,
    ) -> Result<()> {
        refused()
    }

    async fn unlock(&self, _: Context<'_>, _: At<'_, Arc<Node>>, _: &Lock) -> Result<()> {
        Ok(())
    }

    async fn xattr(&self, _: Context<'_>, _: Ino, _: &[u8]) -> Result<Bytes> {
        refused()
    }

    async fn set_xattr(
        &self,
        _: Context<'_>,
        _: Ino,
        _: &[u8],
        _: Option<Bytes>,
        _: XattrMode,
    ) -> Result<()> {
        refused()
    }

    async fn xattrs(&self, _: Context<'_>, _: Ino) -> Result<Vec<Bytes>> {
        refused()
    }

    async fn statfs(&self, _: Context<'_>) -> Result<VolumeStat> {
        Ok(VolumeStat {
            bytes_total: 1 << 40,
            bytes_free: 1 << 40,
            inodes_total: 1 << 30,
            inodes_free: 1 << 30,
        })
    }
}
