//! Requests about open files.

use super::{Asking, Service, send_count, send_data, send_done};
use crate::core::{CopyEnd, WriteAsk};
use crate::session::Request;
use crate::wire::{Arguments, Body, Malformed, Opcode, SYNC_DATA};
use vfs::Vfs;

/// Longest read, bytes: a kernel asks for 256 pages at most, of 64 KiB where they are
/// largest.
const READ_LEN_MAX: u32 = 256 * (64 << 10);

impl<V: Vfs> Service<V> {
    pub(super) fn read(&self, asking: Asking, mut rest: Arguments<'_>) -> Result<(), Malformed> {
        let (handle, offset, len) = (rest.u64()?, rest.u64()?, rest.u32()?);
        if len > READ_LEN_MAX {
            asking.reply.refuse(libc::EINVAL);
            return Ok(());
        }
        self.ask(
            asking,
            move |core, who| async move { core.read(&who, handle, offset, len).await },
            send_data,
        )
    }

    pub(super) fn write(&self, asking: Asking, request: Request<'_>) -> Result<(), Malformed> {
        let mut rest = request.arguments();
        let (handle, offset, len, write) = (rest.u64()?, rest.u64()?, rest.u32()?, rest.u32()?);
        let (_lock_owner, open) = (rest.u64()?, rest.u32()?.cast_signed());
        let ask_for = WriteAsk { handle, offset, write, open };
        let data = request.take_data(len as usize).ok_or(Malformed)?;
        self.ask(
            asking,
            move |core, who| async move { core.write(&who, ask_for, data).await },
            send_count,
        )
    }

    /// Closing a handle, which nothing waits for.
    pub(super) fn close(&self, asking: Asking, mut rest: Arguments<'_>) -> Result<(), Malformed> {
        let handle = rest.u64()?;
        match asking.opcode {
            Opcode::Release => self.core.close(handle),
            _ => self.core.close_dir(handle),
        }
        asking.reply.done();
        Ok(())
    }

    /// What waits for data that was written.
    pub(super) fn sync(&self, asking: Asking, mut rest: Arguments<'_>) -> Result<(), Malformed> {
        let (ino, handle, flags) = (asking.ino, rest.u64()?, rest.u32()?);
        match asking.opcode {
            Opcode::Sync => {
                let data_only = flags & SYNC_DATA != 0;
                self.ask(
                    asking,
                    move |core, who| async move { core.sync(&who, handle, data_only).await },
                    send_done,
                )
            }
            _ => self.ask(
                asking,
                move |core, who| async move { core.sync_dir(&who, ino).await },
                send_done,
            ),
        }
    }

    /// What has a range and a mode.
    pub(super) fn allocate(
        &self,
        asking: Asking,
        mut rest: Arguments<'_>,
    ) -> Result<(), Malformed> {
        let (handle, offset) = (rest.u64()?, rest.u64()?);
        if asking.opcode == Opcode::Allocate {
            let (len, mode) = (rest.u64()?, rest.u32()?.cast_signed());
            return self.ask(
                asking,
                move |core, who| async move { core.allocate(&who, handle, offset, len, mode).await },
                send_done,
            );
        }
        if self.core.hides_dirty_pages() {
            // Never asked again: the kernel then calls the whole file data, which is
            // safe, where our answer would call unwritten pages a hole.
            asking.reply.refuse(libc::ENOSYS);
            return Ok(());
        }
        let whence = rest.u32()?.cast_signed();
        self.ask(
            asking,
            move |core, who| async move { core.seek(&who, handle, offset, whence).await },
            |reply, found| reply.body(&Body::with_capacity(8).u64(found)),
        )
    }

    pub(super) fn copy(&self, asking: Asking, mut rest: Arguments<'_>) -> Result<(), Malformed> {
        let from = CopyEnd { handle: rest.u64()?, offset: rest.u64()? };
        let _to_ino = rest.u64()?;
        let to = CopyEnd { handle: rest.u64()?, offset: rest.u64()? };
        let (len, flags) = (rest.u64()?, rest.u64()?);
        self.ask(
            asking,
            move |core, who| async move { core.copy(&who, from, to, len, flags).await },
            send_count,
        )
    }
}
