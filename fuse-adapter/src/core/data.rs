//! File data.

use super::{Caller, Core, broken_contract};
use crate::convert::{allocation, seek_to};
use crate::wire;
use bytes::Bytes;
use vfs::{At, ErrorKind, Ino, Result, Scope, Segments, Stability, Vfs, WriteAt};

/// Most bytes one `copy_file_range` request answers for: the reply has 32 bits, and the
/// kernel wants whole pages.
const COPY_MAX: u64 = (u32::MAX - 0xf_ffff) as u64;

/// A write request, less its data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteAsk {
    /// The handle's number.
    pub(crate) handle: u64,
    /// Where the kernel thinks the data goes.
    pub(crate) offset: u64,
    /// What the kernel says about the write.
    pub(crate) write: u32,
    /// The file's flags now, `O_APPEND` among them.
    pub(crate) open: i32,
}

/// One end of a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CopyEnd {
    /// The handle's number.
    pub(crate) handle: u64,
    /// Where it starts.
    pub(crate) offset: u64,
}

impl<V: Vfs> Core<V> {
    /// Reads; short only at the end of the file, because the kernel fills what is
    /// missing with zeros.
    pub(crate) async fn read(
        &self,
        who: &Caller,
        handle: u64,
        offset: u64,
        len: u32,
    ) -> Result<Bytes> {
        let file = self.files.get(handle)?;
        let (cx, at) = (who.context(), At::Open(&*file));
        let step_max = self.limits.read_max.max(1);
        let first = self.fs.read(cx, at, offset, len.min(step_max)).await?;
        if len <= step_max || first.eof {
            return Ok(first.data.into_contiguous());
        }
        let mut all = first.data.into_contiguous().to_vec();
        while all.len() < len as usize {
            let step = (len - all.len() as u32).min(step_max);
            let next = self.fs.read(cx, at, offset + all.len() as u64, step).await?;
            let at_end = next.eof || next.data.is_empty();
            all.extend_from_slice(&next.data.into_contiguous());
            if at_end {
                break;
            }
        }
        Ok(all.into())
    }

    pub(crate) async fn write(&self, who: &Caller, ask: WriteAsk, data: Bytes) -> Result<u32> {
        let file = self.files.get(ask.handle)?;
        let from_cache = ask.write & wire::write::FROM_CACHE != 0;
        // A page that the kernel writes back is nobody's request. For every other write
        // the kernel says whether the writer may leave set-id bits behind.
        let kernel = Caller::new(0, 0);
        let kills = ask.write & wire::write::KILL_PRIVILEGES != 0;
        let trusted = from_cache || (self.agreed().kills_privileges && !kills);
        let cx = if trusted { &kernel } else { who }.context();
        let writeback = self.agreed().writeback;
        let appends = ask.open & libc::O_APPEND != 0 && !from_cache && !writeback;

        let len = u32::try_from(data.len()).map_err(|_| ErrorKind::Invalid)?;
        let mut rest = data;
        let mut offset = ask.offset;
        while !rest.is_empty() {
            let step = rest.split_to(rest.len().min(self.limits.write_max.max(1) as usize));
            let step_len = step.len() as u64;
            let place = match () {
                () if appends => WriteAt::End,
                // The kernel has the time of the write that filled its page, and sends it.
                () if from_cache && writeback => WriteAt::Late(offset),
                () => WriteAt::Offset(offset),
            };
            let data = Segments::from(step);
            let done = self.fs.write(cx, At::Open(&*file), place, data, Stability::Buffered);
            if u64::from(done.await?.count) != step_len {
                return Err(broken_contract("a write was short"));
            }
            offset += step_len;
        }
        Ok(len)
    }

    pub(crate) async fn sync(&self, who: &Caller, handle: u64, data_only: bool) -> Result<()> {
        let file = self.files.get(handle)?;
        let scope = Scope::Range { file: At::Open(&*file), offset: 0, len: 0, data_only };
        self.fs.sync(who.context(), scope, self.options.fsync).await?;
        Ok(())
    }

    pub(crate) async fn sync_dir(&self, who: &Caller, ino: u64) -> Result<()> {
        let scope = Scope::Directory(Ino::new(ino)?);
        self.fs.sync(who.context(), scope, self.options.fsync).await?;
        Ok(())
    }

    pub(crate) async fn allocate(
        &self,
        who: &Caller,
        handle: u64,
        offset: u64,
        len: u64,
        mode: i32,
    ) -> Result<()> {
        let what = allocation(mode)?;
        let file = self.files.get(handle)?;
        self.fs.allocate(who.context(), At::Open(&*file), offset, len, what).await?;
        Ok(())
    }

    pub(crate) async fn seek(
        &self,
        who: &Caller,
        handle: u64,
        offset: u64,
        whence: i32,
    ) -> Result<u64> {
        let to = seek_to(whence)?;
        // Linux answers ENXIO, not EINVAL, for a negative place to start from.
        if offset > i64::MAX.cast_unsigned() {
            return Err(ErrorKind::NoSuchOffset.into());
        }
        let file = self.files.get(handle)?;
        self.fs.seek(who.context(), At::Open(&*file), offset, to).await
    }

    pub(crate) async fn copy(
        &self,
        who: &Caller,
        from: CopyEnd,
        to: CopyEnd,
        len: u64,
        flags: u64,
    ) -> Result<u32> {
        if flags != 0 {
            return Err(ErrorKind::Invalid.into());
        }
        let (source, target) = (self.files.get(from.handle)?, self.files.get(to.handle)?);
        let from = (At::Open(&*source), from.offset);
        let to = (At::Open(&*target), to.offset);
        let copied = self.fs.copy(who.context(), from, to, len.min(COPY_MAX)).await?;
        u32::try_from(copied).map_err(|_| broken_contract("a copy was longer than asked"))
    }
}
