//! Making, moving and removing names.

use super::{Session, broken_contract, context, named};
use crate::fids::{Fid, Opened, Role};
use crate::places::Place;
use crate::wire::{Qid, REMOVE_DIR, Reply, kind, node_kind, open, permissions};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use vfs::{
    Created, ErrorKind, IfExists, Kind, Make, OpenFlags, RenameMode, Result, SetAttr, Stability,
    Vfs,
};

/// What a handle opened with `flags` may do.
fn open_flags(flags: u32) -> Result<OpenFlags> {
    let (read, write) = match flags & open::ACCESS {
        open::WRITE_ONLY => (false, true),
        open::READ_WRITE => (true, true),
        0 => (true, false),
        _ => return Err(ErrorKind::Invalid.into()),
    };
    Ok(OpenFlags { read, write, truncate: flags & open::TRUNCATE != 0 })
}

/// An open file as its fid keeps it.
fn opened<H>(
    (handle, place): (H, Place),
    flags: u32,
    granted: OpenFlags,
    fsync: Stability,
) -> Opened<H> {
    let is_sync = flags & (open::SYNC | open::DATA_SYNC) != 0;
    Opened {
        handle,
        writes: granted.write,
        appends: flags & open::APPEND != 0,
        stability: if is_sync { fsync.max(Stability::Journaled) } else { Stability::Buffered },
        has_locked: AtomicBool::new(false),
        _place: place,
    }
}

fn with_mode(mode: u32) -> SetAttr {
    SetAttr { mode: Some(permissions(mode)), ..SetAttr::default() }
}

impl<V: Vfs> Session<V> {
    pub(super) async fn open(&self, number: u32, flags: u32) -> Result<Reply> {
        let fid = self.fid(number)?;
        if !matches!(fid.role, Role::Named) {
            return Err(ErrorKind::BadHandle.into());
        }
        let granted = open_flags(flags)?;
        if self.export.read_only && (granted.write || granted.truncate) {
            return Err(ErrorKind::ReadOnly.into());
        }
        if flags & open::DIRECTORY != 0 && fid.kind != Kind::Directory {
            return Err(ErrorKind::NotDirectory.into());
        }
        let place = self.open_places.take()?;
        let handle = self.fs.open(context(fid.cred()), fid.ino, granted).await?;
        let qid = Qid::new(fid.ino, fid.kind);
        let role = Role::Open(opened((handle, place), flags, granted, self.export.fsync));
        self.fids.replace(number, &fid, fid.with_role(role))?;
        Ok(Reply::to(kind::LOPEN, Qid::LEN + 4).qid(qid).u32(self.io_unit()))
    }

    /// Creates a file and opens it; its fid was the directory's.
    pub(super) async fn create(
        &self,
        number: u32,
        name: &[u8],
        flags: u32,
        (mode, gid): (u32, u32),
    ) -> Result<Reply> {
        let fid = self.fid(number)?;
        if !matches!(fid.role, Role::Named) {
            return Err(ErrorKind::BadHandle.into());
        }
        let (dir, name) = named(&fid, name)?;
        let granted = open_flags(flags)?;
        let exclusive = flags & open::EXCLUSIVE != 0;
        let if_exists = if exclusive { IfExists::Fail } else { IfExists::Reuse };
        let cred = fid.attach.identity.cred_in(gid);
        let (cx, attr) = (context(&cred), with_mode(mode));
        // Before there is a file.
        let place = self.open_places.take()?;
        let Created { entry, handle, .. } =
            self.fs.create(cx, dir, name, &attr, if_exists, Some(granted)).await?;
        let handle = handle.ok_or_else(|| broken_contract("create gave no handle"))?;
        let file = Fid {
            attach: Arc::clone(&fid.attach),
            ino: entry.attr.ino,
            kind: entry.attr.kind,
            found: Mutex::new(Some((dir, name.as_bytes().into()))),
            role: Role::Open(opened((handle, place), flags, granted, self.export.fsync)),
        };
        self.fids.replace(number, &fid, file)?;
        let reply = Reply::to(kind::LCREATE, Qid::LEN + 4);
        Ok(reply.qid(Qid::of(&entry.attr)).u32(self.io_unit()))
    }

    async fn make(
        &self,
        message: u8,
        (dir, name): (u32, &[u8]),
        what: Make<'_>,
        (mode, gid): (u32, u32),
    ) -> Result<Reply> {
        let fid = self.fid(dir)?;
        let (dir, name) = named(&fid, name)?;
        let cred = fid.attach.identity.cred_in(gid);
        let (cx, attr) = (context(&cred), with_mode(mode));
        let made = match what {
            Make::Node(Kind::Regular) => {
                self.fs.create(cx, dir, name, &attr, IfExists::Fail, None).await?
            }
            what => self.fs.make(cx, dir, name, what, &attr).await?,
        };
        Ok(Reply::to(message, Qid::LEN).qid(Qid::of(&made.entry.attr)))
    }

    pub(super) async fn make_symlink(
        &self,
        dir: u32,
        name: &[u8],
        target: &[u8],
        gid: u32,
    ) -> Result<Reply> {
        self.make(kind::SYMLINK, (dir, name), Make::Symlink { target }, (0o777, gid)).await
    }

    pub(super) async fn make_node(
        &self,
        dir: u32,
        name: &[u8],
        (mode, gid): (u32, u32),
        (major, minor): (u32, u32),
    ) -> Result<Reply> {
        let what = Make::Node(node_kind(mode, major, minor)?);
        self.make(kind::MKNOD, (dir, name), what, (mode, gid)).await
    }

    pub(super) async fn make_dir(
        &self,
        dir: u32,
        name: &[u8],
        (mode, gid): (u32, u32),
    ) -> Result<Reply> {
        self.make(kind::MKDIR, (dir, name), Make::Directory, (mode, gid)).await
    }

    pub(super) async fn link(&self, dir: u32, fid: u32, name: &[u8]) -> Result<Reply> {
        let (dir, fid) = (self.fid(dir)?, self.fid(fid)?);
        let (in_dir, name) = named(&dir, name)?;
        self.fs.link(context(dir.cred()), fid.ino, in_dir, name).await?;
        Ok(Reply::to(kind::LINK, 0))
    }

    pub(super) async fn unlink(&self, dir: u32, name: &[u8], flags: u32) -> Result<Reply> {
        let fid = self.fid(dir)?;
        let (dir, name) = named(&fid, name)?;
        let cx = context(fid.cred());
        match flags {
            0 => self.fs.unlink(cx, dir, name).await?,
            REMOVE_DIR => self.fs.rmdir(cx, dir, name).await?,
            _ => return Err(ErrorKind::Invalid.into()),
        };
        Ok(Reply::to(kind::UNLINKAT, 0))
    }

    /// Removes what a fid stands for; the fid is gone already.
    pub(super) async fn remove(&self, number: u32, fid: Arc<Fid<V::Handle>>) -> Result<Reply> {
        let removed = async {
            let (dir, name) = self.name_of(&fid).await?;
            let name = vfs::Name::new(&name)?;
            let cx = context(fid.cred());
            match fid.kind {
                Kind::Directory => self.fs.rmdir(cx, dir, name).await,
                _ => self.fs.unlink(cx, dir, name).await,
            }
        };
        let removed = removed.await;
        self.release_locks(number, &fid).await;
        removed?;
        Ok(Reply::to(kind::REMOVE, 0))
    }

    pub(super) async fn rename(
        &self,
        (from_dir, from): (u32, &[u8]),
        (to_dir, to): (u32, &[u8]),
    ) -> Result<Reply> {
        let (from_fid, to_fid) = (self.fid(from_dir)?, self.fid(to_dir)?);
        let (from, to) = (named(&from_fid, from)?, named(&to_fid, to)?);
        self.fs.rename(context(from_fid.cred()), from, to, RenameMode::Replace).await?;
        self.fids.renamed((from.0, from.1.as_bytes()), (to.0, to.1.as_bytes()));
        Ok(Reply::to(kind::RENAMEAT, 0))
    }

    /// Moves what a fid stands for.
    pub(super) async fn rename_fid(&self, fid: u32, dir: u32, name: &[u8]) -> Result<Reply> {
        let (fid, dir) = (self.fid(fid)?, self.fid(dir)?);
        let to = named(&dir, name)?;
        let (from_dir, from) = self.name_of(&fid).await?;
        let from = (from_dir, vfs::Name::new(&from)?);
        self.fs.rename(context(fid.cred()), from, to, RenameMode::Replace).await?;
        self.fids.renamed((from.0, from.1.as_bytes()), (to.0, to.1.as_bytes()));
        *fid.found.lock() = Some((to.0, to.1.as_bytes().into()));
        Ok(Reply::to(kind::RENAME, 0))
    }
}
