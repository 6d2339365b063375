//! Requests about names.

use super::{Asking, Service, owned, send_done, send_entry, send_opened};
use crate::core::{Known, Opened};
use crate::wire::{Arguments, Body, Malformed, Opcode};
use vfs::Vfs;

impl<V: Vfs> Service<V> {
    /// What has a name for its only argument.
    pub(super) fn named(&self, asking: Asking, mut rest: Arguments<'_>) -> Result<(), Malformed> {
        let (dir, name) = (asking.ino, owned(rest.name()?));
        match asking.opcode {
            Opcode::Lookup => self.ask(
                asking,
                move |core, who| async move { core.lookup(&who, dir, &name).await },
                send_entry,
            ),
            Opcode::Unlink => self.ask(
                asking,
                move |core, who| async move { core.unlink(&who, dir, &name).await },
                send_done,
            ),
            _ => self.ask(
                asking,
                move |core, who| async move { core.remove_dir(&who, dir, &name).await },
                send_done,
            ),
        }
    }

    /// What makes something that is not opened.
    pub(super) fn make(&self, asking: Asking, mut rest: Arguments<'_>) -> Result<(), Malformed> {
        let dir = asking.ino;
        match asking.opcode {
            Opcode::MakeDir => {
                let (mode, _umask, name) = (rest.u32()?, rest.u32()?, owned(rest.name()?));
                self.ask(
                    asking,
                    move |core, who| async move { core.make_dir(&who, dir, &name, mode).await },
                    send_entry,
                )
            }
            Opcode::MakeNode => {
                let (mode, rdev) = (rest.u32()?, rest.u32()?);
                let (_umask, _padding, name) = (rest.u32()?, rest.u32()?, owned(rest.name()?));
                self.ask(
                    asking,
                    move |core, who| async move {
                        core.make_node(&who, dir, &name, mode, rdev).await
                    },
                    send_entry,
                )
            }
            _ => {
                let (name, target) = (owned(rest.name()?), owned(rest.name()?));
                self.ask(
                    asking,
                    move |core, who| async move {
                        core.make_symlink(&who, dir, &name, &target).await
                    },
                    send_entry,
                )
            }
        }
    }

    /// What gives something a further or another name.
    pub(super) fn rename(&self, asking: Asking, mut rest: Arguments<'_>) -> Result<(), Malformed> {
        let (dir, other) = (asking.ino, rest.u64()?);
        if asking.opcode == Opcode::Link {
            let name = owned(rest.name()?);
            return self.ask(
                asking,
                move |core, who| async move { core.link(&who, other, dir, &name).await },
                send_entry,
            );
        }
        let mut flags = 0;
        if asking.opcode == Opcode::RenameWithFlags {
            flags = rest.u32()?;
            rest.skip(4)?;
        }
        let (name, new_name) = (owned(rest.name()?), owned(rest.name()?));
        self.ask(
            asking,
            move |core, who| async move {
                core.rename(&who, (dir, &name), (other, &new_name), flags).await
            },
            send_done,
        )
    }

    /// What gives a handle.
    pub(super) fn open(&self, asking: Asking, mut rest: Arguments<'_>) -> Result<(), Malformed> {
        let (ino, flags) = (asking.ino, rest.u32()?.cast_signed());
        match asking.opcode {
            Opcode::Create => {
                let (mode, _umask, _flags) = (rest.u32()?, rest.u32()?, rest.u32()?);
                let name = owned(rest.name()?);
                self.ask(
                    asking,
                    move |core, who| async move {
                        core.create(&who, ino, &name, mode, flags).await
                    },
                    |reply, (known, opened): (Known, Opened)| {
                        let body = Body::with_capacity(144).entry(&known.attr, known.ttl);
                        reply.body(&body.opened(opened.number, opened.flags));
                    },
                )
            }
            Opcode::Open => self.ask(
                asking,
                move |core, who| async move { core.open(&who, ino, flags).await },
                send_opened,
            ),
            _ => self.ask(
                asking,
                move |core, who| async move { core.open_dir(&who, ino).await },
                send_opened,
            ),
        }
    }
}
