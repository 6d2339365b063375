//! Data, locks, extended attributes and the whole, and the trait itself.

use super::{Client, Handle, Silence, VERIFIER, as_caller, fail};
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, FallocateFlags, OFlags, SeekFrom, XattrFlags};
use std::future::poll_fn;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::Poll;
use vfs::{
    Access, Allocate, At, Budget, Context, Cookie, Created, DirPage, Entry, ErrorKind, IfExists,
    Ino, Limits, Lock, LockWait, Make, Name, OpenFlags, ReadData, RenameMode, Result, Scope,
    SeekTo, Segments, SetAttr, Stability, Vfs, VolumeStat, Wcc, WriteAt, WriteVerifier, Written,
    XattrMode,
};

/// The longest list or value of extended attributes.
const XATTR_MAX: usize = 64 << 10;

/// Reads until `len` or the end of the file.
fn read_all(file: BorrowedFd<'_>, offset: u64, len: u32) -> Result<Vec<u8>> {
    let mut data = Vec::with_capacity(len as usize);
    while data.len() < len as usize {
        let mut part = vec![0; len as usize - data.len()];
        let at = offset + data.len() as u64;
        let count = rustix::io::pread(file, &mut part, at).map_err(fail)?;
        if count == 0 {
            break;
        }
        data.extend_from_slice(&part[..count]);
    }
    // What is no file says so even to who wants nothing.
    if len == 0 {
        rustix::io::pread(file, &mut [0; 0], offset).map_err(fail)?;
    }
    Ok(data)
}

fn write_all(file: BorrowedFd<'_>, mut offset: u64, data: &Segments) -> Result<u32> {
    let mut slices: Vec<_> = data.as_slices().iter().map(|slice| IoSlice::new(slice)).collect();
    let (mut rest, mut written) = (&mut slices[..], 0);
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let count = rustix::io::pwritev(file, rest, offset).map_err(fail)?;
        IoSlice::advance_slices(&mut rest, count);
        offset += count as u64;
        written += count as u32;
    }
    Ok(written)
}

fn too_big(number: u64) -> Result<u64> {
    if i64::try_from(number).is_ok() { Ok(number) } else { Err(ErrorKind::FileTooBig.into()) }
}

impl Client {
    fn do_read(
        &self,
        cx: Context<'_>,
        at: At<'_, Handle>,
        offset: u64,
        len: u32,
    ) -> Result<ReadData> {
        let data = self.with_file(cx, at, OFlags::RDONLY, |file| read_all(file, offset, len))?;
        let end = offset + data.len() as u64;
        let eof = data.len() < len as usize || end >= self.attr_at(at)?.size;
        Ok(ReadData { data: Bytes::from(data).into(), eof })
    }

    fn do_write(
        &self,
        cx: Context<'_>,
        at: At<'_, Handle>,
        place: WriteAt,
        data: &Segments,
        stability: Stability,
    ) -> Result<Written> {
        let (offset, append) = match place {
            WriteAt::Offset(offset) | WriteAt::Late(offset) => (too_big(offset)?, OFlags::empty()),
            WriteAt::End => (0, OFlags::APPEND),
        };
        let write = |file: BorrowedFd<'_>| {
            let count = write_all(file, offset, data)?;
            if stability > Stability::Buffered {
                rustix::fs::fdatasync(file).map_err(fail)?;
            }
            Ok(count)
        };
        let write = || match at {
            At::Open(handle) if place == WriteAt::End => {
                let _alone = handle.appending.lock();
                rustix::fs::fcntl_setfl(&handle.file, OFlags::APPEND).map_err(fail)?;
                let written = as_caller(cx.cred, || write(handle.file.as_fd()));
                rustix::fs::fcntl_setfl(&handle.file, OFlags::empty()).map_err(fail)?;
                written
            }
            _ => self.with_file(cx, at, OFlags::WRONLY | append, write),
        };
        let (count, wcc) = self.around(at, write)?;
        let stability = stability.min(Stability::Journaled);
        Ok(Written { count, wcc, stability, verifier: VERIFIER })
    }

    fn do_sync(&self, cx: Context<'_>, scope: &Scope<'_, Handle>) -> Result<()> {
        let (at, flags, data_only) = match *scope {
            Scope::Volume => return rustix::fs::syncfs(self.nodes().root()).map_err(fail),
            Scope::Range { file, data_only, .. } => (file, OFlags::RDONLY, data_only),
            Scope::Directory(ino) => (At::Ino(ino), OFlags::RDONLY | OFlags::DIRECTORY, false),
        };
        self.with_file(cx, at, flags, |file| {
            if data_only { rustix::fs::fdatasync(file) } else { rustix::fs::fsync(file) }
                .map_err(fail)
        })
    }

    fn do_allocate(
        &self,
        cx: Context<'_>,
        at: At<'_, Handle>,
        (offset, len): (u64, u64),
        what: Allocate,
    ) -> Result<Wcc> {
        let keep = |flags, keep_size| {
            if keep_size { flags | FallocateFlags::KEEP_SIZE } else { flags }
        };
        let flags = match what {
            Allocate::Reserve { keep_size } => keep(FallocateFlags::empty(), keep_size),
            Allocate::PunchHole => keep(FallocateFlags::PUNCH_HOLE, true),
            Allocate::Zero { keep_size } => keep(FallocateFlags::ZERO_RANGE, keep_size),
        };
        let (offset, len) = (too_big(offset)?, too_big(len)?);
        let allocate =
            |file: BorrowedFd<'_>| rustix::fs::fallocate(file, flags, offset, len).map_err(fail);
        Ok(self.around(at, || self.with_file(cx, at, OFlags::WRONLY, allocate))?.1)
    }

    fn do_copy(
        &self,
        cx: Context<'_>,
        from: (At<'_, Handle>, u64),
        to: (At<'_, Handle>, u64),
        len: u64,
    ) -> Result<u64> {
        let source = self.usable(from.0)?;
        let target = self.usable(to.0)?;
        as_caller(cx.cred, || {
            let source = source.open(OFlags::RDONLY)?;
            let target = target.open(OFlags::WRONLY)?;
            let (mut source_at, mut target_at, mut copied) = (from.1, to.1, 0);
            loop {
                let step = usize::try_from(len - copied).unwrap_or(usize::MAX);
                let (source_at, target_at) = (Some(&mut source_at), Some(&mut target_at));
                let count =
                    rustix::fs::copy_file_range(&source, source_at, &target, target_at, step)
                        .map_err(fail)?;
                copied += count as u64;
                if count == 0 || copied == len {
                    return Ok(copied);
                }
            }
        })
    }

    fn try_lock(&self, at: At<'_, Handle>, lock: &Lock) -> Result<()> {
        self.shared.locks.take(self.nodes(), Self::ino_of(at), lock)
    }

    fn set_attribute(
        &self,
        cx: Context<'_>,
        ino: Ino,
        name: &[u8],
        value: Option<&[u8]>,
        mode: XattrMode,
    ) -> Result<()> {
        let flags = match mode {
            XattrMode::Either => XattrFlags::empty(),
            XattrMode::Create => XattrFlags::CREATE,
            XattrMode::Replace => XattrFlags::REPLACE,
        };
        let node = self.nodes().find(ino)?;
        as_caller(cx.cred, || {
            match value {
                Some(value) => rustix::fs::setxattr(node.path(), name, value, flags),
                None => rustix::fs::removexattr(node.path(), name),
            }
            .map_err(fail)
        })
    }
}

impl Vfs for Client {
    type Handle = Handle;
    type Changes = Silence;

    fn limits(&self) -> Limits {
        self.shared.limits
    }

    fn changes(&self) -> Silence {
        Silence
    }

    async fn lookup(&self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Entry> {
        self.look_up(cx, dir, name.as_bytes())
    }

    async fn parent(&self, cx: Context<'_>, dir: Ino) -> Result<Entry> {
        self.find_parent(cx, dir)
    }

    async fn getattr(&self, _: Context<'_>, at: At<'_, Handle>) -> Result<Entry> {
        match at {
            At::Ino(ino) => self.entry(self.nodes().find(ino)?.as_fd()),
            At::Open(handle) => self.entry(handle.file.as_fd()),
        }
    }

    async fn setattr(&self, cx: Context<'_>, at: At<'_, Handle>, set: &SetAttr) -> Result<Wcc> {
        self.set(cx, at, set)
    }

    async fn access(&self, cx: Context<'_>, ino: Ino, want: Access) -> Result<Access> {
        self.check_access(cx, ino, want)
    }

    async fn readlink(&self, _: Context<'_>, ino: Ino) -> Result<Bytes> {
        self.read_link(ino)
    }

    async fn open(&self, cx: Context<'_>, ino: Ino, flags: OpenFlags) -> Result<Handle> {
        self.open_ino(cx, ino, flags)
    }

    async fn create(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: Name<'_>,
        attr: &SetAttr,
        if_exists: IfExists,
        open: Option<OpenFlags>,
    ) -> Result<Created<Handle>> {
        self.create_file(cx, dir, name.as_bytes(), attr, if_exists, open)
    }

    async fn make(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: Name<'_>,
        what: Make<'_>,
        attr: &SetAttr,
    ) -> Result<Created<Handle>> {
        self.make_other(cx, dir, name.as_bytes(), what, attr)
    }

    async fn link(
        &self,
        cx: Context<'_>,
        ino: Ino,
        dir: Ino,
        name: Name<'_>,
    ) -> Result<Created<Handle>> {
        self.add_link(cx, ino, dir, name.as_bytes())
    }

    async fn unlink(&self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Wcc> {
        self.remove(cx, dir, name.as_bytes(), AtFlags::empty())
    }

    async fn rmdir(&self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Wcc> {
        self.remove(cx, dir, name.as_bytes(), AtFlags::REMOVEDIR)
    }

    async fn rename(
        &self,
        cx: Context<'_>,
        from: (Ino, Name<'_>),
        to: (Ino, Name<'_>),
        mode: RenameMode,
    ) -> Result<(Wcc, Wcc)> {
        self.move_name(cx, from, to, mode)
    }

    async fn readdir(
        &self,
        cx: Context<'_>,
        dir: At<'_, Handle>,
        after: Cookie,
        budget: Budget,
    ) -> Result<DirPage> {
        self.list(cx, dir, after, budget)
    }

    async fn read(
        &self,
        cx: Context<'_>,
        file: At<'_, Handle>,
        offset: u64,
        len: u32,
    ) -> Result<ReadData> {
        self.do_read(cx, file, offset, len)
    }

    async fn write(
        &self,
        cx: Context<'_>,
        file: At<'_, Handle>,
        at: WriteAt,
        data: Segments,
        stability: Stability,
    ) -> Result<Written> {
        self.do_write(cx, file, at, &data, stability)
    }

    async fn flush(&self, _: Context<'_>, file: &Handle) -> Result<()> {
        // What close(2) does, for a descriptor that shares the file.
        let same = rustix::io::dup(&file.file).map_err(fail)?;
        drop(same);
        Ok(())
    }

    async fn sync(
        &self,
        cx: Context<'_>,
        scope: Scope<'_, Handle>,
        _: Stability,
    ) -> Result<WriteVerifier> {
        self.do_sync(cx, &scope)?;
        Ok(VERIFIER)
    }

    async fn allocate(
        &self,
        cx: Context<'_>,
        file: At<'_, Handle>,
        offset: u64,
        len: u64,
        what: Allocate,
    ) -> Result<Wcc> {
        self.do_allocate(cx, file, (offset, len), what)
    }

    async fn seek(
        &self,
        cx: Context<'_>,
        file: At<'_, Handle>,
        offset: u64,
        to: SeekTo,
    ) -> Result<u64> {
        let from = match to {
            SeekTo::Data => SeekFrom::Data(offset),
            SeekTo::Hole => SeekFrom::Hole(offset),
        };
        let seek = |file: BorrowedFd<'_>| rustix::fs::seek(file, from).map_err(fail);
        self.with_file(cx, file, OFlags::RDONLY, seek)
    }

    async fn copy(
        &self,
        cx: Context<'_>,
        from: (At<'_, Handle>, u64),
        to: (At<'_, Handle>, u64),
        len: u64,
    ) -> Result<u64> {
        self.do_copy(cx, from, to, len)
    }

    async fn lock_conflict(
        &self,
        _: Context<'_>,
        file: At<'_, Handle>,
        probe: &Lock,
    ) -> Result<Option<Lock>> {
        self.shared.locks.conflict(self.nodes(), Self::ino_of(file), probe)
    }

    async fn lock(
        &self,
        _: Context<'_>,
        file: At<'_, Handle>,
        lock: &Lock,
        wait: LockWait,
    ) -> Result<()> {
        // To wait is to ask again whenever polled: unlike a thread that waits in the
        // kernel, that can be given up.
        poll_fn(|cx| match self.try_lock(file, lock) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && wait == LockWait::Block => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            done => Poll::Ready(done),
        })
        .await
    }

    async fn unlock(&self, _: Context<'_>, file: At<'_, Handle>, lock: &Lock) -> Result<()> {
        self.shared.locks.drop(self.nodes(), Self::ino_of(file), lock)
    }

    async fn xattr(&self, cx: Context<'_>, ino: Ino, name: &[u8]) -> Result<Bytes> {
        let node = self.nodes().find(ino)?;
        as_caller(cx.cred, || {
            let mut value = Vec::with_capacity(XATTR_MAX);
            rustix::fs::getxattr(node.path(), name, spare_capacity(&mut value)).map_err(fail)?;
            Ok(value.into())
        })
    }

    async fn set_xattr(
        &self,
        cx: Context<'_>,
        ino: Ino,
        name: &[u8],
        value: Option<Bytes>,
        mode: XattrMode,
    ) -> Result<()> {
        self.set_attribute(cx, ino, name, value.as_deref(), mode)
    }

    async fn xattrs(&self, cx: Context<'_>, ino: Ino) -> Result<Vec<Bytes>> {
        let node = self.nodes().find(ino)?;
        let list = as_caller(cx.cred, || {
            let mut list: Vec<u8> = Vec::with_capacity(XATTR_MAX);
            rustix::fs::listxattr(node.path(), spare_capacity(&mut list)).map_err(fail)?;
            Ok(list)
        })?;
        let names = list.split_inclusive(|byte| *byte == 0);
        Ok(names.map(|name| Bytes::copy_from_slice(&name[..name.len() - 1])).collect())
    }

    async fn statfs(&self, _: Context<'_>) -> Result<VolumeStat> {
        let stat = rustix::fs::fstatvfs(self.nodes().root()).map_err(fail)?;
        Ok(VolumeStat {
            bytes_total: stat.f_blocks * stat.f_frsize,
            bytes_free: stat.f_bavail * stat.f_frsize,
            inodes_total: stat.f_files,
            inodes_free: stat.f_ffree,
        })
    }
}
