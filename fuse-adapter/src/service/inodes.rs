//! Requests about inodes: attributes, plain and extended, links, the whole.

use super::{Asking, Service, owned, send_attr, send_data, send_done};
use crate::core::Asked;
use crate::device::Reply;
use crate::wire::{Arguments, Body, GETATTR_HANDLE, Malformed, Opcode, set};
use bytes::Bytes;
use vfs::{SetTime, Timestamp, Vfs, VolumeStat};

/// `statfs` counts in these.
const STATFS_UNIT: u32 = 4096;

impl<V: Vfs> Service<V> {
    pub(super) fn get_attr(
        &self,
        asking: Asking,
        mut rest: Arguments<'_>,
    ) -> Result<(), Malformed> {
        let (flags, _padding, handle) = (rest.u32()?, rest.u32()?, rest.u64()?);
        let (ino, handle) = (asking.ino, (flags & GETATTR_HANDLE != 0).then_some(handle));
        self.ask(
            asking,
            move |core, who| async move { core.getattr(&who, ino, handle).await },
            send_attr,
        )
    }

    pub(super) fn set_attr(
        &self,
        asking: Asking,
        mut rest: Arguments<'_>,
    ) -> Result<(), Malformed> {
        let (valid, _padding, handle, size) = (rest.u32()?, rest.u32()?, rest.u64()?, rest.u64()?);
        let _lock_owner = rest.u64()?;
        let seconds = [rest.u64()?, rest.u64()?, rest.u64()?].map(u64::cast_signed);
        let nanoseconds = [rest.u32()?, rest.u32()?, rest.u32()?];
        let (mode, _unused, uid, gid) = (rest.u32()?, rest.u32()?, rest.u32()?, rest.u32()?);

        let has = |field| valid & field != 0;
        let time = |which: usize, field, now| match () {
            () if has(now) => Some(SetTime::Now),
            () if has(field) => Some(SetTime::To(Timestamp {
                seconds: seconds[which],
                nanoseconds: nanoseconds[which],
            })),
            () => None,
        };
        let asked = Asked {
            mode: has(set::MODE).then_some(mode),
            uid: has(set::UID).then_some(uid),
            gid: has(set::GID).then_some(gid),
            size: has(set::SIZE).then_some(size),
            atime: time(0, set::ATIME, set::ATIME_NOW),
            mtime: time(1, set::MTIME, set::MTIME_NOW),
            has_ctime: has(set::CTIME),
        };
        let (ino, handle) = (asking.ino, has(set::HANDLE).then_some(handle));
        self.ask(
            asking,
            move |core, who| async move { core.setattr(&who, ino, handle, asked).await },
            send_attr,
        )
    }

    /// What has no arguments.
    pub(super) fn inode(&self, asking: Asking) -> Result<(), Malformed> {
        let ino = asking.ino;
        if asking.opcode == Opcode::ReadLink {
            return self.ask(
                asking,
                move |core, who| async move { core.read_link(&who, ino).await },
                send_data,
            );
        }
        let name_max = self.core.limits().name_max;
        self.ask(
            asking,
            |core, who| async move { core.stat_volume(&who).await },
            move |reply, stat: VolumeStat| {
                let units = |bytes: u64| bytes / u64::from(STATFS_UNIT);
                let free = units(stat.bytes_free);
                let body = Body::with_capacity(80).u64(units(stat.bytes_total)).u64(free).u64(free);
                let body = body.u64(stat.inodes_total).u64(stat.inodes_free);
                reply.body(&body.u32(STATFS_UNIT).u32(name_max).u32(STATFS_UNIT).zeros(28));
            },
        )
    }

    pub(super) fn get_xattr(
        &self,
        asking: Asking,
        mut rest: Arguments<'_>,
    ) -> Result<(), Malformed> {
        let (ino, room, _padding) = (asking.ino, rest.u32()?, rest.u32()?);
        let send = move |reply: Reply, value: Bytes| send_xattr(reply, &value, room);
        if asking.opcode == Opcode::ListXattr {
            let ask = move |core: std::sync::Arc<crate::core::Core<V>>, who| async move {
                core.xattrs(&who, ino).await
            };
            return self.ask(asking, ask, send);
        }
        let name = owned(rest.name()?);
        let ask = move |core: std::sync::Arc<crate::core::Core<V>>, who| async move {
            core.xattr(&who, ino, &name).await
        };
        self.ask(asking, ask, send)
    }

    pub(super) fn set_xattr(
        &self,
        asking: Asking,
        mut rest: Arguments<'_>,
    ) -> Result<(), Malformed> {
        let ino = asking.ino;
        if asking.opcode == Opcode::RemoveXattr {
            let name = owned(rest.name()?);
            return self.ask(
                asking,
                move |core, who| async move { core.remove_xattr(&who, ino, &name).await },
                send_done,
            );
        }
        let (len, flags) = (rest.u32()?, rest.u32()?.cast_signed());
        let name = owned(rest.name()?);
        let value = Bytes::copy_from_slice(rest.bytes(len as usize)?);
        self.ask(
            asking,
            move |core, who| async move { core.set_xattr(&who, ino, &name, value, flags).await },
            send_done,
        )
    }
}

/// Answers with the size when the caller has no room yet, else with the value if it
/// fits.
fn send_xattr(reply: Reply, value: &[u8], room: u32) {
    match u32::try_from(value.len()) {
        Ok(len) if room == 0 => reply.body(&Body::with_capacity(8).u32(len).u32(0)),
        Ok(len) if len <= room => reply.data(value),
        _ => reply.refuse(libc::ERANGE),
    }
}
