//! The kernel's requests to a disk.

use super::image::{Id, Node, Step};
use super::{Inside, Of};
use bytes::Bytes;
use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
    WriteFlags,
};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Nobody else changes anything, so what the kernel knows stays true.
const TTL: Duration = Duration::from_secs(3600);

pub(super) type Listings = HashMap<u64, Vec<(Id, FileType, OsString)>>;

pub(super) struct Server(pub(super) Arc<Mutex<Inside>>);

impl Server {
    fn wait(&self) {
        let opening = self.0.lock().opening;
        std::thread::sleep(opening);
    }
}

fn kind(mode: u32) -> FileType {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFSOCK => FileType::Socket,
        _ => FileType::RegularFile,
    }
}

fn attr(id: Id, node: &Node) -> FileAttr {
    let (time, size) = (SystemTime::UNIX_EPOCH, node.data.len() as u64);
    FileAttr {
        ino: INodeNo(id),
        size,
        blocks: size.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: kind(node.mode),
        perm: (node.mode & 0o7777) as u16,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

type Result<T> = std::result::Result<T, Errno>;

impl Inside {
    fn is_there(&self) -> Result<()> {
        self.away.map_or(Ok(()), Err)
    }

    /// Lets a change through, or has it fail.
    fn admit(&mut self) -> Result<()> {
        match self.counted() {
            Of::Changes => self.count(),
            Of::Syncs | Of::WritesTo(_) => Ok(()),
        }
    }

    fn admit_write(&mut self, id: Id) -> Result<()> {
        let admitted = match self.counted() {
            Of::WritesTo(name) if self.image.is_named(id, name) => self.count(),
            _ => self.admit(),
        };
        admitted.inspect_err(|_| self.failed_writes.push(id))
    }

    fn admit_sync(&mut self) -> Result<()> {
        match self.counted() {
            Of::Changes | Of::Syncs => self.count(),
            Of::WritesTo(_) => Ok(()),
        }
    }

    fn counted(&self) -> Of {
        self.fault.as_ref().map_or(Of::Changes, |fault| fault.of)
    }

    /// Counts a change, which may be the one to fail.
    fn count(&mut self) -> Result<()> {
        self.is_there()?;
        let number = self.tried;
        self.tried += 1;
        match &self.fault {
            Some(fault) if fault.changes.contains(&number) => Err(fault.error),
            _ => Ok(()),
        }
    }

    fn take(&mut self, step: Step) {
        self.image.apply(&step);
        self.steps.push(step);
    }

    fn find(&self, dir: INodeNo, name: &OsStr) -> Result<Id> {
        self.image.nodes[&dir.0].names.get(name).copied().ok_or(Errno::ENOENT)
    }

    fn attr(&self, id: Id) -> FileAttr {
        attr(id, &self.image.nodes[&id])
    }

    fn make(&mut self, dir: INodeNo, name: &OsStr, mode: u32, data: &[u8]) -> Result<FileAttr> {
        if self.find(dir, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        self.admit()?;
        let id = self.next;
        self.next += 1;
        self.take(Step::Make { id, mode, data: Bytes::copy_from_slice(data) });
        self.take(Step::Name { dir: dir.0, name: name.to_owned(), id });
        Ok(self.attr(id))
    }

    fn remove(&mut self, dir: INodeNo, name: &OsStr) -> Result<()> {
        let id = self.find(dir, name)?;
        if !self.image.nodes[&id].names.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.admit()?;
        self.take(Step::Unname { dir: dir.0, name: name.to_owned() });
        Ok(())
    }

    fn sync(&mut self, id: Id) -> Result<()> {
        match self.admit_sync() {
            Ok(()) => self.take(Step::Sync { id }),
            Err(error) => {
                self.take(Step::SyncFailed { id });
                return Err(error);
            }
        }
        Ok(())
    }
}

fn done(reply: ReplyEmpty, result: Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn entry(reply: ReplyEntry, result: Result<FileAttr>) {
    match result {
        Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Server {
    fn lookup(&self, _: &Request, dir: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let inside = self.0.lock();
        let found = inside.is_there().and_then(|()| inside.find(dir, name));
        entry(reply, found.map(|id| inside.attr(id)));
    }

    fn getattr(&self, _: &Request, id: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.0.lock().attr(id.0));
    }

    fn setattr(
        &self,
        _: &Request,
        id: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut inside = self.0.lock();
        if mode.or(size.map(|_| 0)).is_some()
            && let Err(error) = inside.admit()
        {
            return reply.error(error);
        }
        if let Some(mode) = mode {
            let kind = inside.image.nodes[&id.0].mode & libc::S_IFMT;
            inside.take(Step::Mode { id: id.0, mode: kind | mode & 0o7777 });
        }
        if let Some(len) = size {
            inside.take(Step::Cut { id: id.0, len: len as usize });
        }
        reply.attr(&TTL, &inside.attr(id.0));
    }

    fn readlink(&self, _: &Request, id: INodeNo, reply: ReplyData) {
        reply.data(&self.0.lock().image.nodes[&id.0].data);
    }

    fn mknod(
        &self,
        _: &Request,
        dir: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        entry(reply, self.0.lock().make(dir, name, mode, b""));
    }

    fn mkdir(
        &self,
        _: &Request,
        dir: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        entry(reply, self.0.lock().make(dir, name, libc::S_IFDIR | mode, b""));
    }

    fn unlink(&self, _: &Request, dir: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.0.lock().remove(dir, name));
    }

    fn rmdir(&self, _: &Request, dir: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.0.lock().remove(dir, name));
    }

    fn symlink(&self, _: &Request, dir: INodeNo, name: &OsStr, to: &Path, reply: ReplyEntry) {
        let to = to.as_os_str().as_bytes();
        entry(reply, self.0.lock().make(dir, name, libc::S_IFLNK | 0o777, to));
    }

    fn rename(
        &self,
        _: &Request,
        dir: INodeNo,
        name: &OsStr,
        new_dir: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut inside = self.0.lock();
        let is_taken = inside.find(new_dir, new_name);
        let result = match () {
            () if flags.contains(RenameFlags::RENAME_EXCHANGE) => Err(Errno::EINVAL),
            () if flags.contains(RenameFlags::RENAME_NOREPLACE) && is_taken.is_ok() => {
                Err(Errno::EEXIST)
            }
            () => inside.find(dir, name).and_then(|id| inside.admit().map(|()| id)),
        };
        let result = result.map(|id| {
            // Of two names of one file, both stay.
            if is_taken != Ok(id) {
                let (from, to) = ((dir.0, name.to_owned()), (new_dir.0, new_name.to_owned()));
                inside.take(Step::Rename { id, from, to });
            }
        });
        done(reply, result);
    }

    fn link(&self, _: &Request, id: INodeNo, dir: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut inside = self.0.lock();
        let result = match inside.find(dir, name) {
            Ok(_) => Err(Errno::EEXIST),
            Err(_) if inside.refuses_links => Err(Errno::EPERM),
            Err(_) => inside.admit(),
        };
        let result = result.map(|()| {
            inside.take(Step::Name { dir: dir.0, name: name.to_owned(), id: id.0 });
            inside.attr(id.0)
        });
        entry(reply, result);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.wait();
        match self.0.lock().is_there() {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        _: &Request,
        dir: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        self.wait();
        match self.0.lock().make(dir, name, libc::S_IFREG | mode & 0o7777, b"") {
            Ok(attr) => {
                let flags = FopenFlags::FOPEN_KEEP_CACHE;
                reply.created(&TTL, &attr, Generation(0), FileHandle(0), flags);
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        id: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let inside = self.0.lock();
        let data = &inside.image.nodes[&id.0].data;
        let start = data.len().min(offset as usize);
        reply.data(&data[start..data.len().min(start + size as usize)]);
    }

    fn write(
        &self,
        _: &Request,
        id: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        write: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut inside = self.0.lock();
        // What was written through a mapping fails nobody's call.
        let is_mapped = write.contains(WriteFlags::FUSE_WRITE_CACHE);
        if !is_mapped && let Err(error) = inside.admit_write(id.0) {
            return reply.error(error);
        }
        let (offset, bytes) = (offset as usize, Bytes::copy_from_slice(data));
        inside.take(Step::Write { id: id.0, offset, data: bytes });
        reply.written(data.len() as u32);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, id: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(reply, self.0.lock().sync(id.0));
    }

    fn fsyncdir(&self, _: &Request, id: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(reply, self.0.lock().sync(id.0));
    }

    fn opendir(&self, _: &Request, id: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let mut inside = self.0.lock();
        let nodes = &inside.image.nodes;
        let entry = |(name, id): (&OsString, &Id)| (*id, kind(nodes[id].mode), name.clone());
        let listing = nodes[&id.0].names.iter().map(entry).collect();
        let handle = inside.next;
        inside.next += 1;
        inside.listings.insert(handle, listing);
        reply.opened(FileHandle(handle), FopenFlags::empty());
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        after: u64,
        mut reply: ReplyDirectory,
    ) {
        let inside = self.0.lock();
        for (at, (id, kind, name)) in
            inside.listings[&handle.0].iter().enumerate().skip(after as usize)
        {
            if reply.add(INodeNo(*id), at as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.0.lock().listings.remove(&handle.0);
        reply.ok();
    }

    fn listxattr(&self, _: &Request, _: INodeNo, size: u32, reply: ReplyXattr) {
        // There are none.
        if size == 0 { reply.size(0) } else { reply.data(&[]) }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 24, 1 << 23, 1 << 23, 1 << 24, 1 << 23, 4096, 255, 4096);
    }
}
