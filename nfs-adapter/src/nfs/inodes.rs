//! Attributes, permissions and links.

use super::Procedure;
use super::wire::{ATTR_LEN, POST_OP_LEN, WCC_LEN};
use crate::core::{Ask, Core, OK, Target};
use crate::dispatch::Answer;
use crate::rpc::accept;
use vfs::{Access, At, Attr, Entry, Kind, Result, SetAttr, Vfs};

const READ: u32 = 1;
const LOOKUP: u32 = 2;
const MODIFY: u32 = 4;
const EXTEND: u32 = 8;
const DELETE: u32 = 0x10;
const EXECUTE: u32 = 0x20;
/// What changes something.
const CHANGES: u32 = MODIFY | EXTEND | DELETE;

/// What the permission bits that are granted allow to be done.
fn allowed(kind: Kind, granted: Access) -> u32 {
    let pairs: &[(Access, u32)] = match kind {
        Kind::Directory => &[
            (Access::READ, READ),
            (Access::EXECUTE, LOOKUP),
            (Access::WRITE.and(Access::EXECUTE), CHANGES),
        ],
        _ => &[(Access::READ, READ), (Access::WRITE, MODIFY | EXTEND), (Access::EXECUTE, EXECUTE)],
    };
    let allowed = pairs.iter().filter(|(needs, _)| granted.contains(*needs));
    allowed.fold(0, |all, (_, allows)| all | allows)
}

impl<V: Vfs> Core<V> {
    pub(super) async fn entry(&self, ask: &Ask, file: Target) -> Result<Entry> {
        self.fs.getattr(ask.context(), At::Ino(file?)).await
    }

    pub(super) async fn get_attr(&self, ask: &Ask, file: Target) -> Answer {
        let found = self.entry(ask, file).await;
        let mut out = accept(ask.xid, 4 + ATTR_LEN);
        match found {
            Ok(entry) => {
                out.u32(OK);
                self.put_attr(&mut out, &entry.attr);
            }
            Err(error) => out.u32(self.report(Procedure::GetAttr, file, &error)),
        }
        out.into()
    }

    pub(super) async fn set_attr(&self, ask: &Ask, file: Target, set: &SetAttr) -> Answer {
        let changed = async {
            self.may_change()?;
            self.fs.setattr(ask.context(), At::Ino(file?), set).await
        };
        let changed = self.kept(ask, changed.await).await;
        let mut out = accept(ask.xid, 4 + WCC_LEN);
        match changed {
            Ok(wcc) => {
                out.u32(OK);
                self.put_wcc(&mut out, &wcc);
            }
            Err(error) => {
                out.u32(self.report(Procedure::SetAttr, file, &error));
                self.put_wcc_after(&mut out, self.attr_of(ask, file).await.as_ref());
            }
        }
        out.into()
    }

    pub(super) async fn access(&self, ask: &Ask, file: Target, want: u32) -> Answer {
        let granted = self.granted(ask, file).await;
        let mut out = accept(ask.xid, 4 + POST_OP_LEN + 4);
        match granted {
            Ok((attr, granted)) => {
                out.u32(OK);
                self.put_post_op(&mut out, Some(&attr));
                let forbidden = if self.export.read_only { CHANGES } else { 0 };
                out.u32(want & allowed(attr.kind, granted) & !forbidden);
            }
            Err(error) => {
                out.u32(self.report(Procedure::Access, file, &error));
                self.put_post_op(&mut out, self.attr_of(ask, file).await.as_ref());
            }
        }
        out.into()
    }

    async fn granted(&self, ask: &Ask, file: Target) -> Result<(Attr, Access)> {
        let all = Access::READ.and(Access::WRITE).and(Access::EXECUTE);
        let granted = self.fs.access(ask.context(), file?, all).await?;
        Ok((self.entry(ask, file).await?.attr, granted))
    }

    pub(super) async fn read_link(&self, ask: &Ask, file: Target) -> Answer {
        let target = async { self.fs.readlink(ask.context(), file?).await }.await;
        let attr = self.attr_of(ask, file).await;
        let mut out = accept(ask.xid, 4 + POST_OP_LEN + 256);
        match target {
            Ok(target) => {
                out.u32(OK);
                self.put_post_op(&mut out, attr.as_ref());
                out.opaque(&target);
            }
            Err(error) => {
                out.u32(self.report(Procedure::ReadLink, file, &error));
                self.put_post_op(&mut out, attr.as_ref());
            }
        }
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::allowed;
    use vfs::{Access, Kind};

    #[test]
    fn permission_bits_allow_what_they_mean_for_the_kind() {
        let file = |bits| allowed(Kind::Regular, Access(bits));
        assert_eq!([file(0), file(1), file(2), file(4), file(7)], [0, 0x20, 0x0c, 0x01, 0x2d]);
        let dir = |bits| allowed(Kind::Directory, Access(bits));
        // Changing a directory needs to search it as well.
        assert_eq!([dir(0), dir(1), dir(2), dir(3), dir(7)], [0, 0x02, 0, 0x1e, 0x1f]);
    }
}
