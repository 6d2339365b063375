//! The kernel's requests, one method each: take the arguments over, ask [`Core`],
//! answer.
//!
//! What a method borrows from the reading thread's buffer is copied once, because the
//! answer may come from another thread. Requests that are not here keep fuser's
//! default, `ENOSYS`: either the kernel never sends them (`access`, locks, `bmap`, see
//! the crate's documentation) or it should not send them again.

use crate::core::{Asked, Caller, CopyEnd, Core, Known, Listing, Opened, Sink, WriteAsk};
use crate::dispatch::{Op, Refuse, run};
use bytes::Bytes;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, Generation, INodeNo,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::runtime::Handle;
use vfs::{Vfs, VolumeStat};

/// Inode numbers are never reused, so there is only ever one generation.
const GENERATION: Generation = Generation(0);
/// `statfs` counts in these.
const STATFS_UNIT: u32 = 4096;

/// A [`Core`] as fuser wants it.
pub(crate) struct Service<V: Vfs> {
    core: Arc<Core<V>>,
    runtime: Handle,
}

impl<V: Vfs> Service<V> {
    pub(crate) fn new(core: Core<V>, runtime: Handle) -> Self {
        Self { core: Arc::new(core), runtime }
    }

    /// Asks the core and answers: `accept` sends what it gave, an error is logged and
    /// refused.
    fn ask<R, T, F>(
        &self,
        (name, ino): (&'static str, INodeNo),
        reply: R,
        ask: impl FnOnce(Arc<Core<V>>) -> F,
        accept: impl FnOnce(R, T) + Send + 'static,
    ) where
        R: Refuse,
        T: Send,
        F: Future<Output = vfs::Result<T>> + Send + 'static,
    {
        let op = Op { name, ino: ino.0 };
        let work = ask(Arc::clone(&self.core));
        run(&self.runtime, async move {
            match work.await {
                Ok(answer) => accept(reply, answer),
                Err(error) => reply.refuse(op.report(&error)),
            }
        });
    }

    fn list<S>(&self, request: &Request, ino: INodeNo, handle: FileHandle, after: u64, reply: S)
    where
        S: Refuse + Fill,
    {
        let (core, who) = (Arc::clone(&self.core), Caller::of(request));
        let mut filling = Filling { reply, count: 0 };
        run(&self.runtime, async move {
            let listed = core.list(&who, ino.0, handle.0, after, &mut filling).await;
            match listed {
                // The next request meets the error again; what was listed is good.
                Err(error) if filling.count == 0 => {
                    filling.reply.refuse(Op { name: "readdir", ino: ino.0 }.report(&error));
                }
                _ => filling.reply.finish(),
            }
        });
    }
}

/// A directory reply that counts.
struct Filling<R> {
    reply: R,
    count: usize,
}

trait Fill: Send + 'static {
    const WITH_ATTR: bool;

    fn add_entry(&mut self, entry: &Listing<'_>) -> bool;

    fn finish(self);
}

impl Fill for ReplyDirectory {
    const WITH_ATTR: bool = false;

    fn add_entry(&mut self, entry: &Listing<'_>) -> bool {
        self.add(entry.ino, entry.cookie, entry.kind, OsStr::from_bytes(entry.name))
    }

    fn finish(self) {
        self.ok();
    }
}

impl Fill for ReplyDirectoryPlus {
    const WITH_ATTR: bool = true;

    fn add_entry(&mut self, entry: &Listing<'_>) -> bool {
        // The core gives attributes to a sink that asks for them.
        let Some(Known { attr, ttl }) = &entry.known else { return false };
        let name = OsStr::from_bytes(entry.name);
        self.add(entry.ino, entry.cookie, name, ttl, attr, GENERATION)
    }

    fn finish(self) {
        self.ok();
    }
}

impl<R: Fill> Sink for Filling<R> {
    const WITH_ATTR: bool = R::WITH_ATTR;

    fn is_full(&mut self, entry: &Listing<'_>) -> bool {
        let full = self.reply.add_entry(entry);
        self.count += usize::from(!full);
        full
    }
}

fn owned(name: &OsStr) -> Box<[u8]> {
    name.as_bytes().into()
}

fn send_entry(reply: ReplyEntry, known: Known) {
    reply.entry(&known.ttl, &known.attr, GENERATION);
}

fn send_attr(reply: ReplyAttr, known: Known) {
    reply.attr(&known.ttl, &known.attr);
}

fn send_opened(reply: ReplyOpen, opened: Opened) {
    reply.opened(FileHandle(opened.number), opened.flags);
}

fn send_done(reply: ReplyEmpty, (): ()) {
    reply.ok();
}

/// Answers with the size when the caller has no room yet (`size` 0), else with the
/// value if it fits.
fn send_xattr(size: u32) -> impl FnOnce(ReplyXattr, Bytes) + Send + 'static {
    move |reply, value| match u32::try_from(value.len()) {
        Ok(len) if size == 0 => reply.size(len),
        Ok(len) if len <= size => reply.data(&value),
        _ => reply.error(crate::convert::errno(vfs::ErrorKind::Range)),
    }
}

fn send_stat(name_max: u32) -> impl FnOnce(ReplyStatfs, VolumeStat) + Send + 'static {
    move |reply, stat| {
        let units = |bytes: u64| bytes / u64::from(STATFS_UNIT);
        let free = units(stat.bytes_free);
        reply.statfs(
            units(stat.bytes_total),
            free,
            free,
            stat.inodes_total,
            stat.inodes_free,
            STATFS_UNIT,
            name_max,
            STATFS_UNIT,
        );
    }
}

impl<V: Vfs> Filesystem for Service<V> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.core.agree(crate::agree::negotiate(config, self.core.options(), self.core.limits()));
        Ok(())
    }

    fn lookup(&self, request: &Request, dir: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (who, name) = (Caller::of(request), owned(name));
        let ask = |core: Arc<Core<V>>| async move { core.lookup(&who, dir.0, &name).await };
        self.ask(("lookup", dir), reply, ask, send_entry);
    }

    fn getattr(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let (who, handle) = (Caller::of(request), handle.map(u64::from));
        let ask = |core: Arc<Core<V>>| async move { core.getattr(&who, ino.0, handle).await };
        self.ask(("getattr", ino), reply, ask, send_attr);
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (who, handle) = (Caller::of(request), handle.map(u64::from));
        let asked = Asked { mode, uid, gid, size, atime, mtime, ctime: ctime.is_some() };
        let ask =
            move |core: Arc<Core<V>>| async move { core.setattr(&who, ino.0, handle, asked).await };
        self.ask(("setattr", ino), reply, ask, send_attr);
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        let who = Caller::of(request);
        let ask = |core: Arc<Core<V>>| async move { core.read_link(&who, ino.0).await };
        self.ask(("readlink", ino), reply, ask, |reply, link: Bytes| reply.data(&link));
    }

    fn mknod(
        &self,
        request: &Request,
        dir: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let (who, name) = (Caller::of(request), owned(name));
        let ask = move |core: Arc<Core<V>>| async move {
            core.make_node(&who, dir.0, &name, mode, rdev).await
        };
        self.ask(("mknod", dir), reply, ask, send_entry);
    }

    fn mkdir(
        &self,
        request: &Request,
        dir: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (who, name) = (Caller::of(request), owned(name));
        let ask =
            move |core: Arc<Core<V>>| async move { core.make_dir(&who, dir.0, &name, mode).await };
        self.ask(("mkdir", dir), reply, ask, send_entry);
    }

    fn unlink(&self, request: &Request, dir: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (who, name) = (Caller::of(request), owned(name));
        let ask = |core: Arc<Core<V>>| async move { core.unlink(&who, dir.0, &name).await };
        self.ask(("unlink", dir), reply, ask, send_done);
    }

    fn rmdir(&self, request: &Request, dir: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (who, name) = (Caller::of(request), owned(name));
        let ask = |core: Arc<Core<V>>| async move { core.remove_dir(&who, dir.0, &name).await };
        self.ask(("rmdir", dir), reply, ask, send_done);
    }

    fn symlink(
        &self,
        request: &Request,
        dir: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (who, name, target) = (Caller::of(request), owned(name), owned(target.as_os_str()));
        let ask = |core: Arc<Core<V>>| async move {
            core.make_symlink(&who, dir.0, &name, &target).await
        };
        self.ask(("symlink", dir), reply, ask, send_entry);
    }

    fn rename(
        &self,
        request: &Request,
        dir: INodeNo,
        name: &OsStr,
        new_dir: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (who, name, new_name) = (Caller::of(request), owned(name), owned(new_name));
        let ask = move |core: Arc<Core<V>>| async move {
            core.rename(&who, (dir.0, &name), (new_dir.0, &new_name), flags.bits()).await
        };
        self.ask(("rename", dir), reply, ask, send_done);
    }

    fn link(&self, request: &Request, ino: INodeNo, dir: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (who, name) = (Caller::of(request), owned(name));
        let ask = |core: Arc<Core<V>>| async move { core.link(&who, ino.0, dir.0, &name).await };
        self.ask(("link", ino), reply, ask, send_entry);
    }

    fn create(
        &self,
        request: &Request,
        dir: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (who, name) = (Caller::of(request), owned(name));
        let ask = move |core: Arc<Core<V>>| async move {
            core.create(&who, dir.0, &name, mode, flags).await
        };
        let send = |reply: ReplyCreate, (known, opened): (Known, Opened)| {
            let handle = FileHandle(opened.number);
            reply.created(&known.ttl, &known.attr, GENERATION, handle, opened.flags);
        };
        self.ask(("create", dir), reply, ask, send);
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let who = Caller::of(request);
        let ask = move |core: Arc<Core<V>>| async move { core.open(&who, ino.0, flags.0).await };
        self.ask(("open", ino), reply, ask, send_opened);
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let who = Caller::of(request);
        let ask =
            move |core: Arc<Core<V>>| async move { core.read(&who, handle.0, offset, size).await };
        self.ask(("read", ino), reply, ask, |reply, data: Bytes| reply.data(&data));
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (who, data) = (Caller::of(request), Bytes::copy_from_slice(data));
        let ask_for = WriteAsk { handle: handle.0, offset, write, open: flags.0 };
        let ask = move |core: Arc<Core<V>>| async move { core.write(&who, ask_for, data).await };
        self.ask(("write", ino), reply, ask, ReplyWrite::written);
    }

    fn flush(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let who = Caller::of(request);
        let ask = move |core: Arc<Core<V>>| async move { core.flush(&who, handle.0).await };
        self.ask(("flush", ino), reply, ask, send_done);
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let ask = move |core: Arc<Core<V>>| async move {
            core.close(handle.0);
            Ok(())
        };
        self.ask(("release", ino), reply, ask, send_done);
    }

    fn fsync(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        let who = Caller::of(request);
        let ask =
            move |core: Arc<Core<V>>| async move { core.sync(&who, handle.0, data_only).await };
        self.ask(("fsync", ino), reply, ask, send_done);
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let who = Caller::of(request);
        let ask = |core: Arc<Core<V>>| async move { core.open_dir(&who, ino.0).await };
        self.ask(("opendir", ino), reply, ask, send_opened);
    }

    fn readdir(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        after: u64,
        reply: ReplyDirectory,
    ) {
        self.list(request, ino, handle, after, reply);
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        after: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.list(request, ino, handle, after, reply);
    }

    fn releasedir(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let ask = move |core: Arc<Core<V>>| async move {
            core.close_dir(handle.0);
            Ok(())
        };
        self.ask(("releasedir", ino), reply, ask, send_done);
    }

    fn fsyncdir(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        let who = Caller::of(request);
        let ask = |core: Arc<Core<V>>| async move { core.sync_dir(&who, ino.0).await };
        self.ask(("fsyncdir", ino), reply, ask, send_done);
    }

    fn statfs(&self, request: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let who = Caller::of(request);
        let ask = |core: Arc<Core<V>>| async move { core.stat_volume(&who).await };
        self.ask(("statfs", ino), reply, ask, send_stat(self.core.limits().name_max));
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (who, name) = (Caller::of(request), owned(name));
        let value = Bytes::copy_from_slice(value);
        let ask = move |core: Arc<Core<V>>| async move {
            core.set_xattr(&who, ino.0, &name, value, flags).await
        };
        self.ask(("setxattr", ino), reply, ask, send_done);
    }

    fn getxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let (who, name) = (Caller::of(request), owned(name));
        let ask = |core: Arc<Core<V>>| async move { core.xattr(&who, ino.0, &name).await };
        self.ask(("getxattr", ino), reply, ask, send_xattr(size));
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let who = Caller::of(request);
        let ask = |core: Arc<Core<V>>| async move { core.xattrs(&who, ino.0).await };
        self.ask(("listxattr", ino), reply, ask, send_xattr(size));
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (who, name) = (Caller::of(request), owned(name));
        let ask = |core: Arc<Core<V>>| async move { core.remove_xattr(&who, ino.0, &name).await };
        self.ask(("removexattr", ino), reply, ask, send_done);
    }

    fn fallocate(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let who = Caller::of(request);
        let ask = move |core: Arc<Core<V>>| async move {
            core.allocate(&who, handle.0, offset, len, mode).await
        };
        self.ask(("fallocate", ino), reply, ask, send_done);
    }

    fn lseek(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        if self.core.hides_dirty_pages() {
            // Never asked again: the kernel then calls the whole file data, which is
            // safe, where our answer would call unwritten pages a hole.
            return reply.error(Errno::ENOSYS);
        }
        let who = Caller::of(request);
        let ask = move |core: Arc<Core<V>>| async move {
            core.seek(&who, handle.0, offset, whence).await
        };
        self.ask(("lseek", ino), reply, ask, ReplyLseek::offset);
    }

    fn copy_file_range(
        &self,
        request: &Request,
        from_ino: INodeNo,
        from: FileHandle,
        from_offset: u64,
        _to_ino: INodeNo,
        to: FileHandle,
        to_offset: u64,
        len: u64,
        flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let who = Caller::of(request);
        let from = CopyEnd { handle: from.0, offset: from_offset };
        let to = CopyEnd { handle: to.0, offset: to_offset };
        let ask = move |core: Arc<Core<V>>| async move {
            core.copy(&who, from, to, len, flags.bits()).await
        };
        self.ask(("copy_file_range", from_ino), reply, ask, ReplyWrite::written);
    }

    // The two below only keep fuser from warning at each of these harmless probes.

    fn ioctl(
        &self,
        _: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _input: &[u8],
        _output_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn poll(
        &self,
        _: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _waiter: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        // Files are always ready, which is what the kernel makes of this from now on.
        reply.error(Errno::ENOSYS);
    }
}
