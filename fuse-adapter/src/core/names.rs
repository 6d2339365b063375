//! Names: finding, making, moving and removing them, and opening what they name.

use super::{Caller, Core, Known, broken_contract, is_absent};
use crate::convert::{node_kind, open_flags, permissions, rename_mode};
use crate::wire::{self, opened};
use vfs::{
    At, ErrorKind, IfExists, Ino, Kind, Make, Name, OpenFlags, Result, SetAttr, Validity, Vfs,
};

/// A handle the kernel now holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    /// The number it was given.
    pub(crate) number: u64,
    /// What the kernel may keep.
    pub(crate) flags: u32,
}

fn with_mode(mode: u32) -> SetAttr {
    SetAttr { mode: Some(permissions(mode)), ..SetAttr::default() }
}

impl<V: Vfs> Core<V> {
    /// Finds a name. `.` and `..` come from NFS exports of the mount, which hand out
    /// inode numbers and have to find their way back.
    pub(crate) async fn lookup(&self, who: &Caller, dir: u64, name: &[u8]) -> Result<Known> {
        let (cx, dir) = (who.context(), Ino::new(dir)?);
        let found = match name {
            b"." => self.fs.getattr(cx, At::Ino(dir)).await,
            b".." => self.fs.parent(cx, dir).await,
            _ => self.fs.lookup(cx, dir, Name::new(name)?).await,
        };
        if is_absent(&found)
            && let Ok(dir) = self.fs.getattr(cx, At::Ino(dir)).await
        {
            // That there is no such name is known for as long as the directory is:
            // its appearance would be announced like any other change of an entry. The
            // kernel takes inode 0 for it.
            return Ok(Known { attr: wire::Attr::default(), ttl: self.ttl(dir.validity) });
        }
        Ok(self.known(&found?))
    }

    pub(crate) async fn create(
        &self,
        who: &Caller,
        dir: u64,
        name: &[u8],
        mode: u32,
        flags: i32,
    ) -> Result<(Known, Opened)> {
        let (cx, dir, name) = (who.context(), Ino::new(dir)?, Name::new(name)?);
        let open = OpenFlags { truncate: false, ..open_flags(flags, self.agreed().writeback) };
        let attr = with_mode(mode);
        let made = self.fs.create(cx, dir, name, &attr, IfExists::Fail, Some(open)).await;
        let made = match made {
            // The kernel saw no such name and checked the directory only. Opening what
            // somebody else made meanwhile would skip the file's own permissions, so
            // the kernel is told to look again.
            Err(error) if error.kind() == ErrorKind::Exists && flags & libc::O_EXCL == 0 => {
                return Err(ErrorKind::Stale.into());
            }
            made => made?,
        };
        let handle = made.handle.ok_or_else(|| broken_contract("create gave no handle"))?;
        let opened =
            Opened { number: self.files.insert(handle), flags: keep_cache(made.entry.validity, 0) };
        Ok((self.known(&made.entry), opened))
    }

    pub(crate) async fn open(&self, who: &Caller, ino: u64, flags: i32) -> Result<Opened> {
        let flags = open_flags(flags, self.agreed().writeback);
        let handle = self.fs.open(who.context(), Ino::new(ino)?, flags).await?;
        let flags = self.cache_flags(who, &handle, 0).await;
        Ok(Opened { number: self.files.insert(handle), flags })
    }

    pub(crate) async fn open_dir(&self, who: &Caller, ino: u64) -> Result<Opened> {
        let handle = self.fs.open(who.context(), Ino::new(ino)?, OpenFlags::READ).await?;
        let flags = self.cache_flags(who, &handle, opened::CACHE_DIR).await;
        Ok(Opened { number: self.dirs.insert(handle), flags })
    }

    /// What the kernel may keep of an opened file or directory. A failure here is no
    /// reason to refuse the open: without flags the kernel asks again.
    async fn cache_flags(&self, who: &Caller, handle: &V::Handle, with: u32) -> u32 {
        match self.fs.getattr(who.context(), At::Open(handle)).await {
            Ok(entry) => keep_cache(entry.validity, with),
            Err(_) => 0,
        }
    }

    /// Closes a file, once the requests that still use it are done.
    pub(crate) fn close(&self, number: u64) {
        drop(self.files.remove(number));
    }

    /// Closes a directory.
    pub(crate) fn close_dir(&self, number: u64) {
        drop(self.dirs.remove(number));
    }

    pub(crate) async fn make_node(
        &self,
        who: &Caller,
        dir: u64,
        name: &[u8],
        mode: u32,
        rdev: u32,
    ) -> Result<Known> {
        let (cx, dir, name) = (who.context(), Ino::new(dir)?, Name::new(name)?);
        let attr = with_mode(mode);
        let made = match node_kind(mode, rdev)? {
            Kind::Regular => self.fs.create(cx, dir, name, &attr, IfExists::Fail, None).await,
            kind => self.fs.make(cx, dir, name, Make::Node(kind), &attr).await,
        };
        Ok(self.known(&made?.entry))
    }

    pub(crate) async fn make_dir(
        &self,
        who: &Caller,
        dir: u64,
        name: &[u8],
        mode: u32,
    ) -> Result<Known> {
        let (cx, dir, name) = (who.context(), Ino::new(dir)?, Name::new(name)?);
        let made = self.fs.make(cx, dir, name, Make::Directory, &with_mode(mode)).await?;
        Ok(self.known(&made.entry))
    }

    pub(crate) async fn make_symlink(
        &self,
        who: &Caller,
        dir: u64,
        name: &[u8],
        target: &[u8],
    ) -> Result<Known> {
        let (cx, dir, name) = (who.context(), Ino::new(dir)?, Name::new(name)?);
        let what = Make::Symlink { target };
        let made = self.fs.make(cx, dir, name, what, &SetAttr::default()).await?;
        Ok(self.known(&made.entry))
    }

    pub(crate) async fn link(
        &self,
        who: &Caller,
        ino: u64,
        dir: u64,
        name: &[u8],
    ) -> Result<Known> {
        let (ino, dir, name) = (Ino::new(ino)?, Ino::new(dir)?, Name::new(name)?);
        let made = self.fs.link(who.context(), ino, dir, name).await?;
        Ok(self.known(&made.entry))
    }

    pub(crate) async fn unlink(&self, who: &Caller, dir: u64, name: &[u8]) -> Result<()> {
        self.fs.unlink(who.context(), Ino::new(dir)?, Name::new(name)?).await?;
        Ok(())
    }

    pub(crate) async fn remove_dir(&self, who: &Caller, dir: u64, name: &[u8]) -> Result<()> {
        self.fs.rmdir(who.context(), Ino::new(dir)?, Name::new(name)?).await?;
        Ok(())
    }

    pub(crate) async fn rename(
        &self,
        who: &Caller,
        from: (u64, &[u8]),
        to: (u64, &[u8]),
        flags: u32,
    ) -> Result<()> {
        let mode = rename_mode(flags)?;
        let from = (Ino::new(from.0)?, Name::new(from.1)?);
        let to = (Ino::new(to.0)?, Name::new(to.1)?);
        self.fs.rename(who.context(), from, to, mode).await?;
        Ok(())
    }
}

/// Pages (and listings) read earlier stay good only if changes made elsewhere are
/// announced; otherwise they are dropped at every open, which is close-to-open
/// consistency.
fn keep_cache(validity: Validity, with: u32) -> u32 {
    match validity {
        Validity::UntilChanged => opened::KEEP_CACHE | with,
        Validity::For(_) => 0,
    }
}
