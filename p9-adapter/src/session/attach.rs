//! Who comes, and where fids lead.

use super::{Session, context};
use crate::export::TreeName;
use crate::fids::{Attach, Fid, Found, Role};
use crate::identity::Identity;
use crate::wire::{NO_FID, Qid, Reply, kind};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use vfs::{At, Cred, Entry, ErrorKind, Ino, Kind, Name, Result, Vfs};

/// A way down, as far as it goes.
struct Way {
    ino: Ino,
    kind: Kind,
    found: Found,
}

/// Whether two names are the same, in time that tells nothing of where they differ.
fn is_same(asked: &[u8], secret: &[u8]) -> bool {
    asked.len() == secret.len()
        && asked.iter().zip(secret).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

impl<V: Vfs> Session<V> {
    pub(super) async fn attach(
        &self,
        fid: u32,
        auth_fid: u32,
        (uid, user): (u32, &[u8]),
        tree: &[u8],
    ) -> Result<Reply> {
        if auth_fid != NO_FID {
            return Err(ErrorKind::BadHandle.into());
        }
        let path = self.path_in_tree(tree)?;
        let identity = Identity::claimed(&self.export, &self.peer, uid, user)?;
        let entry = self.fs.getattr(context(identity.cred()), At::Ino(Ino::ROOT)).await?;
        let mut attr = entry.attr;
        for name in path {
            let found = self.fs.lookup(context(identity.cred()), attr.ino, Name::new(name)?).await;
            attr = found?.attr;
        }
        if attr.kind != Kind::Directory {
            return Err(ErrorKind::NotDirectory.into());
        }
        let attach = Arc::new(Attach { identity, root: attr.ino });
        let found = Mutex::new(None);
        let root = Fid { attach, ino: attr.ino, kind: attr.kind, found, role: Role::Named };
        self.fids.insert(fid, root)?;
        self.probation.pass();
        Ok(Reply::to(kind::ATTACH, Qid::LEN).qid(Qid::of(&attr)))
    }

    /// The names to follow from the root of the file system.
    fn path_in_tree<'a>(
        &self,
        tree: &'a [u8],
    ) -> Result<impl Iterator<Item = &'a [u8]> + use<'a, V>> {
        let mut names = tree.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        if let TreeName::Secret(secret) = &self.export.name
            && !names.next().is_some_and(|name| is_same(name, secret))
        {
            return Err(ErrorKind::NotFound.into());
        }
        Ok(names)
    }

    pub(super) async fn walk(&self, fid: u32, new_fid: u32, names: &[Bytes]) -> Result<Reply> {
        let from = self.fid(fid)?;
        let replaces = fid == new_fid;
        if replaces && !matches!(from.role, Role::Named) {
            return Err(ErrorKind::Busy.into());
        }
        let mut way = Way { ino: from.ino, kind: from.kind, found: None };
        let mut reply = Reply::to(kind::WALK, 2 + names.len() * Qid::LEN).u16(0);
        let count_at = reply.len() - 2;
        let mut count = 0;
        for name in names {
            way = match self.step(&from.attach, from.cred(), &way, name).await {
                Ok(next) => next,
                Err(error) if count == 0 => return Err(error),
                // As far as it went; no fid is made.
                Err(_) => return Ok(reply.patch_u16(count_at, count)),
            };
            reply = reply.qid(Qid::new(way.ino, way.kind));
            count += 1;
        }
        if names.is_empty() {
            if replaces {
                return Ok(reply);
            }
            way.found = from.found.lock().clone();
        }
        let (attach, found) = (Arc::clone(&from.attach), Mutex::new(way.found));
        let to = Fid { attach, ino: way.ino, kind: way.kind, found, role: Role::Named };
        if replaces {
            self.fids.replace(fid, &from, to)?;
        } else {
            self.fids.insert(new_fid, to)?;
        }
        Ok(reply.patch_u16(count_at, count))
    }

    async fn step(&self, attach: &Attach, cred: &Cred, way: &Way, name: &[u8]) -> Result<Way> {
        let cx = context(cred);
        if name != b".." {
            let Entry { attr, .. } = self.fs.lookup(cx, way.ino, Name::new(name)?).await?;
            let found = Some((way.ino, name.into()));
            return Ok(Way { ino: attr.ino, kind: attr.kind, found });
        }
        if way.kind != Kind::Directory {
            return Err(ErrorKind::NotDirectory.into());
        }
        let above = if way.ino == attach.root {
            way.ino
        } else {
            self.fs.parent(cx, way.ino).await?.attr.ino
        };
        Ok(Way { ino: above, kind: Kind::Directory, found: None })
    }

    /// The name of what a fid stands for, wherever it is now.
    pub(super) async fn name_of(&self, fid: &Fid<V::Handle>) -> Result<(Ino, Box<[u8]>)> {
        let cx = context(fid.cred());
        let found = fid.found.lock().clone();
        if let Some((dir, name)) = &found {
            let now = self.fs.lookup(cx, *dir, Name::new(name)?).await;
            if now.is_ok_and(|entry| entry.attr.ino == fid.ino) {
                return Ok((*dir, name.clone()));
            }
        }
        // Somebody else has moved it. A directory knows where it is; anything else may
        // at least have kept its directory.
        let dir = match fid.kind {
            Kind::Directory => self.fs.parent(cx, fid.ino).await?.attr.ino,
            _ => found.map(|(dir, _)| dir).ok_or(ErrorKind::Stale)?,
        };
        let name = self.find_in(fid.cred(), dir, fid.ino).await?;
        Ok((dir, name))
    }
}
