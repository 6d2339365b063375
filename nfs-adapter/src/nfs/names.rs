//! Finding, moving, linking and removing names.

use super::Procedure;
use super::wire::{POST_OP_LEN, WCC_LEN};
use crate::core::{Ask, Core, OK, Target};
use crate::dispatch::Answer;
use crate::handle::HANDLE_LEN;
use crate::rpc::accept;
use crate::xdr::padded;
use vfs::{Entry, ErrorKind, Ino, Name, RenameMode, Result, Vfs, Wcc};

/// A name that must not be one of the two that every directory has.
pub(super) fn plain_name(name: &[u8], if_dots: ErrorKind) -> Result<Name<'_>> {
    match name {
        b"." | b".." => Err(if_dots.into()),
        _ => Name::new(name),
    }
}

impl<V: Vfs> Core<V> {
    pub(super) async fn lookup(&self, ask: &Ask, dir: Target, name: &[u8]) -> Answer {
        let found = async { self.find(ask, dir?, name).await }.await;
        let dir_attr = self.attr_of(ask, dir).await;
        let mut out = accept(ask.xid, 8 + padded(HANDLE_LEN) + 2 * POST_OP_LEN);
        match found {
            Ok(entry) => {
                out.u32(OK);
                self.put_handle(&mut out, entry.attr.ino);
                self.put_post_op(&mut out, Some(&entry.attr));
                self.put_post_op(&mut out, dir_attr.as_ref());
            }
            Err(error) => {
                out.u32(self.report(Procedure::Lookup, dir, &error));
                self.put_post_op(&mut out, dir_attr.as_ref());
            }
        }
        out.into()
    }

    /// Finds a name, or what every directory has: itself and its parent.
    pub(crate) async fn find(&self, ask: &Ask, dir: Ino, name: &[u8]) -> Result<Entry> {
        match name {
            b".." => self.fs.parent(ask.context(), dir).await,
            b"." => {
                // Asked for what it checks: that this is a directory and may be searched.
                self.fs.parent(ask.context(), dir).await?;
                self.entry(ask, Ok(dir)).await
            }
            _ => self.fs.lookup(ask.context(), dir, Name::new(name)?).await,
        }
    }

    pub(super) async fn remove(
        &self,
        procedure: Procedure,
        ask: &Ask,
        dir: Target,
        name: &[u8],
    ) -> Answer {
        let removed = async {
            self.may_change()?;
            if procedure == Procedure::RemoveDir {
                let if_dots = if name == b".." { ErrorKind::Exists } else { ErrorKind::Invalid };
                self.fs.rmdir(ask.context(), dir?, plain_name(name, if_dots)?).await
            } else {
                self.fs.unlink(ask.context(), dir?, plain_name(name, ErrorKind::Invalid)?).await
            }
        };
        let removed = self.kept(ask, removed.await).await;
        let mut out = accept(ask.xid, 4 + WCC_LEN);
        match removed {
            Ok(wcc) => {
                out.u32(OK);
                self.put_wcc(&mut out, &wcc);
            }
            Err(error) => {
                out.u32(self.report(procedure, dir, &error));
                self.put_wcc_after(&mut out, self.attr_of(ask, dir).await.as_ref());
            }
        }
        out.into()
    }

    pub(super) async fn rename(
        &self,
        ask: &Ask,
        from: (Target, &[u8]),
        to: (Target, &[u8]),
    ) -> Answer {
        let moved = self.kept(ask, self.move_name(ask, from, to).await).await;
        let mut out = accept(ask.xid, 4 + 2 * WCC_LEN);
        match moved {
            Ok((from, to)) => {
                out.u32(OK);
                self.put_wcc(&mut out, &from);
                self.put_wcc(&mut out, &to);
            }
            Err(error) => {
                out.u32(self.report(Procedure::Rename, from.0, &error));
                for dir in [from.0, to.0] {
                    self.put_wcc_after(&mut out, self.attr_of(ask, dir).await.as_ref());
                }
            }
        }
        out.into()
    }

    async fn move_name(
        &self,
        ask: &Ask,
        from: (Target, &[u8]),
        to: (Target, &[u8]),
    ) -> Result<(Wcc, Wcc)> {
        self.may_change()?;
        let from = (from.0?, plain_name(from.1, ErrorKind::Invalid)?);
        let to = (to.0?, plain_name(to.1, ErrorKind::Invalid)?);
        self.fs.rename(ask.context(), from, to, RenameMode::Replace).await
    }

    pub(super) async fn link(&self, ask: &Ask, file: Target, dir: Target, name: &[u8]) -> Answer {
        let linked = async {
            self.may_change()?;
            let name = plain_name(name, ErrorKind::Exists)?;
            self.fs.link(ask.context(), file?, dir?, name).await
        };
        let linked = self.kept(ask, linked.await).await;
        let mut out = accept(ask.xid, 4 + POST_OP_LEN + WCC_LEN);
        match linked {
            Ok(linked) => {
                out.u32(OK);
                self.put_post_op(&mut out, Some(&linked.entry.attr));
                self.put_wcc(&mut out, &linked.dir);
            }
            Err(error) => {
                out.u32(self.report(Procedure::Link, file, &error));
                self.put_post_op(&mut out, self.attr_of(ask, file).await.as_ref());
                self.put_wcc_after(&mut out, self.attr_of(ask, dir).await.as_ref());
            }
        }
        out.into()
    }
}
