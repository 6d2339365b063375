//! Attributes of inodes and of the whole.

use super::{Caller, Core, Known};
use crate::convert::permissions;
use crate::wire;
use bytes::Bytes;
use std::time::Duration;
use vfs::{At, ErrorKind, Ino, Result, SetAttr, SetTime, Vfs, VolumeStat};

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
    pub(crate) atime: Option<SetTime>,
    /// New modification time.
    pub(crate) mtime: Option<SetTime>,
    /// Whether a change time came along, which only the kernel itself sets.
    pub(crate) has_ctime: bool,
}

impl Asked {
    /// Whether the kernel hands over times that it has kept on its own.
    fn is_written_back(&self) -> bool {
        let others = [self.mode, self.uid, self.gid];
        let is_times_only = others.iter().all(Option::is_none) && self.size.is_none();
        is_times_only && self.atime.is_none() && self.mtime.is_some() && self.has_ctime
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
            atime: asked.atime,
            mtime: asked.mtime,
            only_if_ctime: None,
        };
        match self.fs.setattr(who.context(), at, &set).await {
            // The kernel writes back the times of a file that somebody has removed. An
            // error would be told to the next `syncfs(2)`, which is none of its business.
            Err(error) if error.kind() == ErrorKind::Stale && asked.is_written_back() => {
                let attr = wire::Attr { ino, mode: libc::S_IFREG, ..wire::Attr::default() };
                Ok(Known { attr, ttl: Duration::ZERO })
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
