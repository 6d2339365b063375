//! Data and attributes of one inode.

use super::Reach;
use super::sparse::Sparse;
use super::state::{Body, State, Touch};
use crate::rules;
use crate::{
    Access, Allocate, Context, ErrorKind, Ino, ReadData, Result, SeekTo, Segments, SetAttr, Wcc,
    WriteAt,
};
use bytes::Bytes;

impl State {
    pub(super) fn setattr(&mut self, cx: Context<'_>, at: Reach, set: &SetAttr) -> Result<Wcc> {
        let before = self.attr(at.ino)?.clone();
        let may_write = at.opened.is_some_and(|flags| flags.write);
        if set.size.is_some() && at.opened.is_some() && !may_write {
            // What ftruncate(2) answers.
            return Err(ErrorKind::Invalid.into());
        }
        let size_max = self.options.limits.file_size_max;
        let changed = rules::setattr(cx.cred, &before, set, may_write, size_max, cx.dac)?;
        let is_nothing = set.mode.is_none()
            && set.uid.is_none()
            && set.gid.is_none()
            && set.size.is_none()
            && set.atime.is_none()
            && set.mtime.is_none();
        if is_nothing {
            return self.wcc(&before);
        }
        let touch = if let Some(size) = set.size {
            self.resize(at.ino, size)?;
            Touch::Data
        } else {
            Touch::Attr
        };
        let time = self.touch(&[(at.ino, touch)]);
        let inode = self.inode_mut(at.ino)?;
        if rules::setattr_drops_capability(&inode.attr, set) {
            inode.xattrs.remove(rules::CAPABILITY);
        }
        let attr = &mut inode.attr;
        (attr.mode, attr.uid, attr.gid) = (changed.mode, changed.uid, changed.gid);
        if let Some(atime) = set.atime {
            attr.atime = rules::time_of(atime, time);
        }
        if let Some(mtime) = set.mtime {
            attr.mtime = rules::time_of(mtime, time);
        }
        self.wcc(&before)
    }

    /// Sets the length: what is cut off is gone, what is added is a hole.
    pub(super) fn resize(&mut self, ino: Ino, size: u64) -> Result<()> {
        self.change_data(ino, |data, length| {
            data.clear(size, u64::MAX);
            *length = size;
        })
    }

    /// Changes the bytes and the length of a file together.
    fn change_data(&mut self, ino: Ino, change: impl FnOnce(&mut Sparse, &mut u64)) -> Result<()> {
        let inode = self.inode_mut(ino)?;
        let Body::File(data) = &mut inode.body else { return Err(ErrorKind::Invalid.into()) };
        change(data, &mut inode.attr.size);
        inode.attr.used = data.used();
        Ok(())
    }

    /// Everything a change of data changes besides.
    pub(super) fn written(&mut self, cx: Context<'_>, ino: Ino) -> Result<()> {
        let mode = rules::mode_after_write(cx.cred, self.attr(ino)?, cx.dac);
        let inode = self.inode_mut(ino)?;
        inode.attr.mode = mode;
        inode.xattrs.remove(rules::CAPABILITY);
        self.touch(&[(ino, Touch::Data)]);
        Ok(())
    }

    pub(super) fn read(
        &mut self,
        cx: Context<'_>,
        at: Reach,
        offset: u64,
        len: u32,
    ) -> Result<ReadData> {
        self.may_use(cx, at, Access::READ)?;
        let size = self.attr(at.ino)?.size;
        let len = u64::from(len).min(size.saturating_sub(offset));
        let data = self.file(at.ino)?.read(offset, len as usize);
        self.accessed(at.ino)?;
        let eof = offset.saturating_add(len) >= size;
        Ok(ReadData { data: Bytes::from(data).into(), eof })
    }

    pub(super) fn write(
        &mut self,
        cx: Context<'_>,
        at: Reach,
        place: WriteAt,
        segments: &Segments,
    ) -> Result<Wcc> {
        self.may_use(cx, at, Access::WRITE)?;
        let before = self.attr(at.ino)?.clone();
        let mut offset = match place {
            WriteAt::Offset(offset) | WriteAt::Late(offset) => offset,
            WriteAt::End => before.size,
        };
        if segments.is_empty() {
            return self.wcc(&before);
        }
        let end =
            rules::range_end(offset, segments.len() as u64, self.options.limits.file_size_max)?;
        self.change_data(at.ino, |data, size| {
            for slice in segments.as_slices() {
                data.write(offset, slice);
                offset += slice.len() as u64;
            }
            *size = end.max(*size);
        })?;
        self.written(cx, at.ino)?;
        if let WriteAt::Late(_) = place {
            self.inode_mut(at.ino)?.attr.mtime = before.mtime;
        }
        self.wcc(&before)
    }

    pub(super) fn allocate(
        &mut self,
        cx: Context<'_>,
        at: Reach,
        (offset, len): (u64, u64),
        what: Allocate,
    ) -> Result<Wcc> {
        // As Linux does: a range of nothing is refused whatever it is a range of.
        if len == 0 {
            return Err(ErrorKind::Invalid.into());
        }
        self.may_use(cx, at, Access::WRITE)?;
        let before = self.attr(at.ino)?.clone();
        let end = rules::range_end(offset, len, self.options.limits.file_size_max)?;
        self.change_data(at.ino, |data, size| {
            if !matches!(what, Allocate::Reserve { .. }) {
                data.clear(offset, end);
            }
            let extends = matches!(
                what,
                Allocate::Reserve { keep_size: false } | Allocate::Zero { keep_size: false }
            );
            if extends {
                *size = end.max(*size);
            }
        })?;
        self.written(cx, at.ino)?;
        self.wcc(&before)
    }

    pub(super) fn seek(&self, cx: Context<'_>, at: Reach, offset: u64, to: SeekTo) -> Result<u64> {
        match at.opened {
            // Any handle may move about in its file.
            Some(_) => drop(self.file(at.ino)?),
            None => self.may_use(cx, at, Access::READ)?,
        }
        let size = self.attr(at.ino)?.size;
        let data = self.file(at.ino)?;
        if offset >= size {
            return Err(ErrorKind::NoSuchOffset.into());
        }
        match to {
            SeekTo::Data => {
                let found = data.next_data(offset).filter(|&found| found < size);
                found.ok_or_else(|| ErrorKind::NoSuchOffset.into())
            }
            SeekTo::Hole => Ok(data.next_hole(offset).min(size)),
        }
    }

    pub(super) fn copy(
        &mut self,
        cx: Context<'_>,
        (from, source): (Reach, u64),
        (to, target): (Reach, u64),
        len: u64,
    ) -> Result<u64> {
        self.may_use(cx, from, Access::READ)?;
        self.may_use(cx, to, Access::WRITE)?;
        let len = len.min(self.attr(from.ino)?.size.saturating_sub(source));
        if len == 0 {
            return Ok(0);
        }
        let end = rules::range_end(target, len, self.options.limits.file_size_max)?;
        if from.ino == to.ino && source < end && target < source + len {
            return Err(ErrorKind::Invalid.into());
        }
        let stored = self.file(from.ino)?.pieces(source, source + len);
        let pieces: Vec<_> = stored.map(|(at, bytes)| (at - source, bytes.to_vec())).collect();
        self.accessed(from.ino)?;
        self.change_data(to.ino, |data, size| {
            data.clear(target, end);
            for (at, bytes) in &pieces {
                data.write(target + at, bytes);
            }
            *size = end.max(*size);
        })?;
        self.written(cx, to.ino)?;
        Ok(len)
    }
}
