//! Attributes of inodes and of the whole.

use super::{Session, at, context};
use crate::wire::{FS_MAGIC, NO_ID, Reply, SetAttrRequest, kind, permissions, set};
use vfs::{At, ErrorKind, Result, SetAttr, SetTime, Timestamp, Vfs};

/// What sizes of the whole are counted in, bytes.
const BLOCK: u64 = 4096;
/// Bounds of the block size that programs are told to buffer by.
const BLOCK_SIZE_MIN: u32 = 4096;
const BLOCK_SIZE_MAX: u32 = 1 << 20;

fn time_of((seconds, nanoseconds): (u64, u64)) -> Result<Timestamp> {
    let nanoseconds = u32::try_from(nanoseconds).ok().filter(|it| *it < 1_000_000_000);
    let nanoseconds = nanoseconds.ok_or(ErrorKind::Invalid)?;
    Ok(Timestamp { seconds: seconds.cast_signed(), nanoseconds })
}

fn change_of(asked: &SetAttrRequest) -> Result<SetAttr> {
    let has = |bit| asked.valid & bit != 0;
    let time = |bit, bit_set, time| match (has(bit), has(bit_set)) {
        (false, _) => Ok(None),
        (true, false) => Ok(Some(SetTime::Now)),
        (true, true) => time_of(time).map(|time| Some(SetTime::To(time))),
    };
    let id = |bit, id| match has(bit) {
        true if id == NO_ID => Err(ErrorKind::Invalid),
        is_meant => Ok(is_meant.then_some(id)),
    };
    Ok(SetAttr {
        mode: has(set::MODE).then(|| permissions(asked.mode)),
        uid: id(set::UID, asked.uid)?,
        gid: id(set::GID, asked.gid)?,
        size: has(set::SIZE).then_some(asked.size),
        atime: time(set::ATIME, set::ATIME_SET, asked.atime)?,
        mtime: time(set::MTIME, set::MTIME_SET, asked.mtime)?,
        only_if_ctime: None,
    })
}

impl<V: Vfs> Session<V> {
    pub(super) async fn getattr(&self, number: u32) -> Result<Reply> {
        let fid = self.fid(number)?;
        let entry = self.fs.getattr(context(fid.cred()), at(&fid)).await?;
        let preferred = self.limits.preferred.clamp(BLOCK_SIZE_MIN, BLOCK_SIZE_MAX);
        Ok(Reply::to(kind::GETATTR, 153).attr(&entry.attr, 1 << preferred.ilog2()))
    }

    pub(super) async fn setattr(&self, asked: &SetAttrRequest) -> Result<Reply> {
        let fid = self.fid(asked.fid)?;
        let set = change_of(asked)?;
        // Linux may send a truncation by name through any fid of the file that is open.
        let cannot_cut = fid.opened().is_some_and(|opened| !opened.writes);
        let at = if set.size.is_some() && cannot_cut { At::Ino(fid.ino) } else { at(&fid) };
        self.fs.setattr(context(fid.cred()), at, &set).await?;
        Ok(Reply::to(kind::SETATTR, 0))
    }

    pub(super) async fn readlink(&self, number: u32) -> Result<Reply> {
        let fid = self.fid(number)?;
        let target = self.fs.readlink(context(fid.cred()), fid.ino).await?;
        if target.len() > self.data_max() as usize {
            return Err(ErrorKind::Range.into());
        }
        Ok(Reply::to(kind::READLINK, 2 + target.len()).string(&target))
    }

    pub(super) async fn statfs(&self, number: u32) -> Result<Reply> {
        let fid = self.fid(number)?;
        let stat = self.fs.statfs(context(fid.cred())).await?;
        let [a, b, c, d, e, f, g, h, ..] = self.export.fs_id;
        let free = stat.bytes_free / BLOCK;
        Ok(Reply::to(kind::STATFS, 60)
            .u32(FS_MAGIC)
            .u32(BLOCK as u32)
            .u64(stat.bytes_total / BLOCK)
            .u64(free)
            .u64(free)
            .u64(stat.inodes_total)
            .u64(stat.inodes_free)
            .u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
            .u32(self.limits.name_max))
    }
}
