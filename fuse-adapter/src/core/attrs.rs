//! Attributes of inodes and of the whole.

use super::{Caller, Core, Known};
use crate::convert::{absent, permissions, set_time};
use bytes::Bytes;
use fuser::TimeOrNow;
use std::time::Duration;
use vfs::{At, ErrorKind, Ino, Result, SetAttr, Vfs, VolumeStat};

/// What `setattr` is asked to change, as the kernel says it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// New mode, with type bits.
    pub(crate) mode: Option<u32>,
    /// New owner.
    pub(crate) uid: Option<u32>,
    /// New group.
    pub(crate) gid: Option<u32>,
    /// New length.
    pub(crate) size: Option<u64>,
    /// New access time.
    pub(crate) atime: Option<TimeOrNow>,
    /// New modification time.
    pub(crate) mtime: Option<TimeOrNow>,
    /// Whether a change time comes along: only if the kernel kept times itself.
    pub(crate) ctime: bool,
}

impl Asked {
    /// Whether this may be the kernel writing back times it has kept of a file, which
    /// nobody waits for but `sync(2)`.
    fn is_write_back(&self) -> bool {
        let others = self.mode.or(self.uid).or(self.gid).is_some() || self.size.is_some();
        self.ctime && self.mtime.is_some() && self.atime.is_none() && !others
    }
}

impl<V: Vfs> Core<V> {
    pub(crate) async fn getattr(
        &self,
        who: &Caller,
        ino: u64,
        handle: Option<u64>,
    ) -> Result<Known> {
        let handle = handle.and_then(|number| self.files.get(number).ok());
        let at = match &handle {
            Some(handle) => At::Open(&**handle),
            None => At::Ino(Ino::new(ino)?),
        };
        Ok(self.known(&self.fs.getattr(who.context(), at).await?))
    }

    pub(crate) async fn setattr(
        &self,
        who: &Caller,
        ino: u64,
        handle: Option<u64>,
        asked: Asked,
    ) -> Result<Known> {
        let handle = handle.and_then(|number| self.files.get(number).ok());
        let at = match &handle {
            Some(handle) => At::Open(&**handle),
            None => At::Ino(Ino::new(ino)?),
        };
        let set = SetAttr {
            mode: asked.mode.map(permissions),
            uid: asked.uid,
            gid: asked.gid,
            size: asked.size,
            atime: asked.atime.map(set_time),
            mtime: asked.mtime.map(set_time),
            only_if_ctime: None,
        };
        match self.fs.setattr(who.context(), at, &set).await {
            // Removed meanwhile, so no time is lost, as sync(2) would be told. Whoever
            // else set the time of a file that is gone did so before it was removed.
            Err(error) if error.kind() == ErrorKind::Stale && asked.is_write_back() => {
                Ok(Known { attr: absent(), ttl: Duration::ZERO })
            }
            changed => Ok(self.known_briefly(&changed?.after)),
        }
    }

    pub(crate) async fn read_link(&self, who: &Caller, ino: u64) -> Result<Bytes> {
        self.fs.readlink(who.context(), Ino::new(ino)?).await
    }

    pub(crate) async fn stat_volume(&self, who: &Caller) -> Result<VolumeStat> {
        self.fs.statfs(who.context()).await
    }
}
