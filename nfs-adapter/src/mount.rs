//! Version 3 of the MOUNT program (RFC 1813, appendix I): from a path to the handle of
//! its directory.
//!
//! Nobody is told what may be mounted, nor who has mounted it: a path may be a secret.
//! Nothing is remembered of mounts, so there is nothing to be done about unmounting.

use crate::core::{Ask, Core, OK};
use crate::dispatch::{Answer, Reply};
use crate::rpc::{AUTH_SYS, accept};
use crate::service::Service;
use crate::xdr::{Decoded, Decoder};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vfs::{At, ErrorKind, Ino, Kind, Result, Vfs};

/// The number of the program.
pub(crate) const PROGRAM: u32 = 100_005;
/// The one version of it.
pub(crate) const VERSION: u32 = 3;
/// The longest path.
const PATH_LEN_MAX: usize = 1024;
/// The status for what this program has no number for.
const SERVER_FAULT: u32 = 10_006;

/// A procedure of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Procedure {
    Null,
    Mount,
    Dump,
    Unmount,
    UnmountAll,
    Export,
}

impl Procedure {
    /// The procedure with this number.
    pub(crate) fn new(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Null,
            1 => Self::Mount,
            2 => Self::Dump,
            3 => Self::Unmount,
            4 => Self::UnmountAll,
            5 => Self::Export,
            _ => return None,
        })
    }
}

/// The status for a failure (`mountstat3`).
fn status(kind: ErrorKind) -> u32 {
    match kind {
        ErrorKind::Permission
        | ErrorKind::NotFound
        | ErrorKind::Io
        | ErrorKind::Access
        | ErrorKind::NotDirectory
        | ErrorKind::Invalid
        | ErrorKind::NameTooLong
        | ErrorKind::NotSupported => kind.nfs_status(),
        _ => SERVER_FAULT,
    }
}

impl<V: Vfs> Service<V> {
    /// Has a procedure asked; it fails if the arguments do not parse.
    pub(crate) fn mount(
        &self,
        procedure: Procedure,
        ask: Ask,
        args: &mut Decoder<'_>,
        reply: Reply,
    ) -> Decoded<()> {
        let core = Arc::clone(self.core());
        match procedure {
            Procedure::Mount => {
                let path: Box<[u8]> = args.opaque(PATH_LEN_MAX)?.into();
                self.spawn(reply, async move { core.mount(&ask, &path).await });
            }
            Procedure::Unmount => {
                args.opaque(PATH_LEN_MAX)?;
                self.spawn(reply, async move { accept(ask.xid, 0).into() });
            }
            Procedure::Dump | Procedure::Export => {
                self.spawn(reply, async move {
                    let mut out = accept(ask.xid, 4);
                    // An empty list.
                    out.bool(false);
                    out.into()
                });
            }
            Procedure::Null | Procedure::UnmountAll => {
                self.spawn(reply, async move { accept(ask.xid, 0).into() });
            }
        }
        Ok(())
    }
}

impl<V: Vfs> Core<V> {
    async fn mount(&self, ask: &Ask, path: &[u8]) -> Answer {
        let found = self.find_mounted(ask, path).await;
        let mut out = accept(ask.xid, 96);
        match found {
            Ok(ino) => {
                log::info!("user {} mounted inode {}", ask.cred.uid, ino.get());
                out.u32(OK);
                out.opaque(&self.handles.handle(ino));
                // The kinds of credentials that are understood: `AUTH_SYS` and `AUTH_NONE`.
                for word in [2, AUTH_SYS, 0] {
                    out.u32(word);
                }
            }
            Err(error) => {
                log::debug!("user {} was refused a mount: {error}", ask.cred.uid);
                out.u32(status(error.kind()));
            }
        }
        out.into()
    }

    async fn find_mounted(&self, ask: &Ask, path: &[u8]) -> Result<Ino> {
        let below = self.export.path.below(path).ok_or(ErrorKind::NotFound)?;
        if self.export.path.is_once() && self.is_spent.load(Ordering::Relaxed) {
            return Err(ErrorKind::NotFound.into());
        }
        let mut found = self.fs.getattr(ask.context(), At::Ino(Ino::ROOT)).await?;
        for name in below {
            if name == b".." {
                return Err(ErrorKind::NotFound.into());
            }
            found = self.find(ask, found.attr.ino, name).await?;
        }
        if found.attr.kind != Kind::Directory {
            return Err(ErrorKind::NotDirectory.into());
        }
        // Of two at the same moment, one gets it.
        if self.export.path.is_once() && self.is_spent.swap(true, Ordering::Relaxed) {
            return Err(ErrorKind::NotFound.into());
        }
        Ok(found.attr.ino)
    }
}

#[cfg(test)]
mod tests {
    use super::{SERVER_FAULT, status};
    use vfs::ErrorKind;

    #[test]
    fn only_numbers_that_the_program_knows_are_told() {
        let known = [1, 2, 5, 13, 20, 22, 63, 10_004, SERVER_FAULT];
        for kind in ErrorKind::ALL {
            assert!(known.contains(&status(kind)), "{kind:?}");
        }
        assert_eq!(status(ErrorKind::NotFound), 2);
        assert_eq!(status(ErrorKind::Unavailable), SERVER_FAULT);
    }
}
