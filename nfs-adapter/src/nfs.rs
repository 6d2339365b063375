//! Version 3 of the NFS program (RFC 1813): takes the arguments apart and has the
//! procedure asked.

mod create;
mod data;
mod inodes;
mod list;
mod names;
mod volume;
mod wire;

use crate::core::{Ask, Core, Target};
use crate::dispatch::{Answer, Reply};
use crate::record::Record;
use crate::rpc::accept;
use crate::service::Service;
use crate::xdr::{Decoded, Decoder, Malformed};
use create::{How, Node};
use data::WriteArguments;
use list::Page;
use std::future::Future;
use std::sync::Arc;
use vfs::Vfs;
use wire::{set_attr, time};

/// The number of the program.
pub(crate) const PROGRAM: u32 = 100_003;
/// The one version of it.
pub(crate) const VERSION: u32 = 3;
/// The longest handle of any server.
const HANDLE_LEN_MAX: usize = 64;

/// A procedure of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Procedure {
    Null,
    GetAttr,
    SetAttr,
    Lookup,
    Access,
    ReadLink,
    Read,
    Write,
    Create,
    MakeDir,
    Symlink,
    MakeNode,
    Remove,
    RemoveDir,
    Rename,
    Link,
    ReadDir,
    ReadDirPlus,
    StatVolume,
    VolumeInfo,
    PathConf,
    Commit,
}

impl Procedure {
    const ALL: [Self; 22] = [
        Self::Null,
        Self::GetAttr,
        Self::SetAttr,
        Self::Lookup,
        Self::Access,
        Self::ReadLink,
        Self::Read,
        Self::Write,
        Self::Create,
        Self::MakeDir,
        Self::Symlink,
        Self::MakeNode,
        Self::Remove,
        Self::RemoveDir,
        Self::Rename,
        Self::Link,
        Self::ReadDir,
        Self::ReadDirPlus,
        Self::StatVolume,
        Self::VolumeInfo,
        Self::PathConf,
        Self::Commit,
    ];

    /// The procedure with this number.
    pub(crate) fn new(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Whether a repetition must not be done again.
    pub(crate) fn is_done_once(self) -> bool {
        matches!(
            self,
            Self::SetAttr
                | Self::Write
                | Self::Create
                | Self::MakeDir
                | Self::Symlink
                | Self::MakeNode
                | Self::Remove
                | Self::RemoveDir
                | Self::Rename
                | Self::Link
        )
    }
}

/// The arguments of a call.
struct Arguments<'a, V> {
    rest: Decoder<'a>,
    core: &'a Core<V>,
}

impl<V: Vfs> Arguments<'_, V> {
    fn file(&mut self) -> Decoded<Target> {
        let handle = self.rest.opaque(HANDLE_LEN_MAX)?;
        Ok(self.core.handles.ino(handle).map_err(|error| error.kind()))
    }

    /// A name or link that outlives its call; how long it may be is for the file system
    /// to say.
    fn name(&mut self) -> Decoded<Box<[u8]>> {
        self.rest.opaque(usize::MAX).map(Box::from)
    }
}

impl<V: Vfs> Service<V> {
    /// Has a procedure asked; it fails if the arguments do not parse.
    pub(crate) fn nfs(
        &self,
        procedure: Procedure,
        ask: Ask,
        record: Record<'_>,
        arguments_at: usize,
        mut reply: Reply,
    ) -> Decoded<()> {
        let core = Arc::clone(self.core());
        let rest = Decoder::new(record.bytes().get(arguments_at..).ok_or(Malformed)?);
        let mut args = Arguments { rest, core: &core };
        match procedure {
            Procedure::Null => {
                let xid = ask.xid;
                self.run(ask, reply, move |_, _| async move { Answer::from(accept(xid, 0)) });
            }
            Procedure::Write => {
                let file = args.file()?;
                let asked = WriteArguments::decode(&mut args.rest)?;
                let from = record.bytes().len() - args.rest.rest().len();
                let data = record.into_data(from..from + asked.len());
                self.run(ask, reply, move |core, ask| async move {
                    core.write(&ask, file, asked, data).await
                });
            }
            Procedure::Read => {
                let (file, offset) = (args.file()?, args.rest.u64()?);
                let len = args.rest.u32()?.min(core.read_max());
                reply.permit.reserve(len as usize);
                reply.later = file.ok().map(|ino| core.late.later((ino, offset, len)));
                self.run(ask, reply, move |core, ask| async move {
                    core.read(&ask, file, offset, len).await
                });
            }
            Procedure::ReadDir | Procedure::ReadDirPlus => {
                let (dir, page) = (args.file()?, Page::decode(&mut args.rest, procedure)?);
                reply.permit.reserve(page.len_max());
                self.run(
                    ask,
                    reply,
                    move |core, ask| async move { core.list(&ask, dir, page).await },
                );
            }
            Procedure::Commit => {
                let file = args.file()?;
                let (offset, len) = (args.rest.u64()?, args.rest.u32()?);
                self.run(ask, reply, move |core, ask| async move {
                    core.commit(&ask, file, offset, len).await
                });
            }
            Procedure::Create | Procedure::MakeDir | Procedure::Symlink | Procedure::MakeNode => {
                self.nfs_create(procedure, ask, &mut args, reply)?;
            }
            Procedure::Lookup
            | Procedure::Remove
            | Procedure::RemoveDir
            | Procedure::Rename
            | Procedure::Link => self.nfs_names(procedure, ask, &mut args, reply)?,
            _ => self.nfs_inode(procedure, ask, &mut args, reply)?,
        }
        Ok(())
    }

    fn nfs_create(
        &self,
        procedure: Procedure,
        ask: Ask,
        args: &mut Arguments<'_, V>,
        reply: Reply,
    ) -> Decoded<()> {
        let (dir, name) = (args.file()?, args.name()?);
        match procedure {
            Procedure::Create => {
                let how = How::decode(&mut args.rest)?;
                self.run(ask, reply, move |core, ask| async move {
                    core.create(&ask, dir, &name, how).await
                });
            }
            Procedure::MakeDir => {
                let set = set_attr(&mut args.rest)?;
                self.run(ask, reply, move |core, ask| async move {
                    core.make_dir(&ask, dir, &name, &set).await
                });
            }
            Procedure::Symlink => {
                let (set, target) = (set_attr(&mut args.rest)?, args.name()?);
                self.run(ask, reply, move |core, ask| async move {
                    core.symlink(&ask, dir, &name, &set, &target).await
                });
            }
            _ => {
                let node = Node::decode(&mut args.rest)?;
                self.run(ask, reply, move |core, ask| async move {
                    core.make_node(&ask, dir, &name, node).await
                });
            }
        }
        Ok(())
    }

    fn nfs_names(
        &self,
        procedure: Procedure,
        ask: Ask,
        args: &mut Arguments<'_, V>,
        reply: Reply,
    ) -> Decoded<()> {
        let first = args.file()?;
        if procedure == Procedure::Link {
            let (dir, name) = (args.file()?, args.name()?);
            self.run(ask, reply, move |core, ask| async move {
                core.link(&ask, first, dir, &name).await
            });
            return Ok(());
        }
        let name = args.name()?;
        match procedure {
            Procedure::Lookup => self.run(ask, reply, move |core, ask| async move {
                core.lookup(&ask, first, &name).await
            }),
            Procedure::Rename => {
                let (to_dir, to_name) = (args.file()?, args.name()?);
                self.run(ask, reply, move |core, ask| async move {
                    core.rename(&ask, (first, &name), (to_dir, &to_name)).await
                });
            }
            _ => self.run(ask, reply, move |core, ask| async move {
                core.remove(procedure, &ask, first, &name).await
            }),
        }
        Ok(())
    }

    fn nfs_inode(
        &self,
        procedure: Procedure,
        ask: Ask,
        args: &mut Arguments<'_, V>,
        reply: Reply,
    ) -> Decoded<()> {
        let file = args.file()?;
        match procedure {
            Procedure::SetAttr => {
                let mut set = set_attr(&mut args.rest)?;
                if args.rest.bool()? {
                    set.only_if_ctime = Some(time(&mut args.rest)?);
                }
                self.run(ask, reply, move |core, ask| async move {
                    core.set_attr(&ask, file, &set).await
                });
            }
            Procedure::Access => {
                let want = args.rest.u32()?;
                self.run(ask, reply, move |core, ask| async move {
                    core.access(&ask, file, want).await
                });
            }
            Procedure::ReadLink => self
                .run(ask, reply, move |core, ask| async move { core.read_link(&ask, file).await }),
            Procedure::StatVolume => {
                self.run(
                    ask,
                    reply,
                    move |core, ask| async move { core.stat_volume(&ask, file).await },
                );
            }
            Procedure::VolumeInfo => {
                self.run(
                    ask,
                    reply,
                    move |core, ask| async move { core.volume_info(&ask, file).await },
                );
            }
            Procedure::PathConf => self
                .run(ask, reply, move |core, ask| async move { core.path_conf(&ask, file).await }),
            _ => self.run(
                ask,
                reply,
                move |core, ask| async move { core.get_attr(&ask, file).await },
            ),
        }
        Ok(())
    }

    fn run<F>(&self, ask: Ask, reply: Reply, work: impl FnOnce(Arc<Core<V>>, Ask) -> F)
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        self.spawn(reply, work(Arc::clone(self.core()), ask));
    }
}
