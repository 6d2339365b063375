//! Data, locks, extended attributes and the whole, and the trait itself.

use super::{Handle, Remote, VERIFIER, entry, fail, flags_of, owner_of, range_of};
use crate::p9::client::{
    MSIZE, O_APPEND, O_DIRECTORY, O_RDONLY, O_WRONLY, Put, T_FSYNC, T_GETLOCK, T_READLINK,
    T_STATFS, T_XATTRCREATE, T_XATTRWALK, Take,
};
use bytes::Bytes;
use std::future::{pending, poll_fn};
use std::task::Poll;
use vfs::{
    Access, Allocate, At, Budget, Change, Context, Cookie, Created, DirPage, Entry, ErrorKind,
    IfExists, Ino, Limits, Lock, LockOwner, LockWait, Make, Name, OpenFlags, ReadData, RenameMode,
    Result, Scope, SeekTo, Segments, SetAttr, Stability, Vfs, VolumeStat, Wcc, WriteAt,
    WriteVerifier, Written, XattrMode,
};

/// Most bytes in one message.
const STEP: usize = MSIZE as usize - 24;

/// Nothing is ever announced.
#[derive(Debug)]
pub(crate) struct Silence;

impl vfs::Changes for Silence {
    async fn next(&mut self) -> Option<Change> {
        pending().await
    }
}

impl Remote {
    fn do_read(
        &self,
        cx: Context<'_>,
        at: At<'_, Handle>,
        offset: u64,
        len: u32,
    ) -> Result<ReadData> {
        let mut shared = self.shared();
        let data = shared.with_open(cx, at, O_RDONLY, |client, fid| {
            let mut data = Vec::new();
            loop {
                let step = (len as usize - data.len()).min(STEP) as u32;
                let place = offset.saturating_add(data.len() as u64);
                let part = client.read(fid, place, step).map_err(fail)?;
                data.extend_from_slice(&part);
                if part.len() < step as usize || data.len() == len as usize {
                    return Ok(data);
                }
            }
        })?;
        let end = offset.saturating_add(data.len() as u64);
        let eof = data.len() < len as usize || end >= shared.attr(at)?.size;
        Ok(ReadData { data: Bytes::from(data).into(), eof })
    }

    fn do_write(
        &self,
        cx: Context<'_>,
        at: At<'_, Handle>,
        place: WriteAt,
        data: Segments,
        stability: Stability,
    ) -> Result<Written> {
        let data = data.into_contiguous();
        let mut shared = self.shared();
        let (mut flags, mut offset) = (O_WRONLY, 0);
        match (place, at) {
            (WriteAt::Offset(place) | WriteAt::Late(place), _) => offset = place,
            (WriteAt::End, At::Ino(_)) => flags |= O_APPEND,
            (WriteAt::End, At::Open(_)) => offset = shared.attr(at)?.size,
        }
        if stability > Stability::Buffered {
            flags |= 0o10000;
        }
        let ((), wcc) = shared.around(at, |shared| {
            shared.with_open(cx, at, flags, |client, fid| {
                let mut done = 0;
                loop {
                    let step = &data[done..data.len().min(done + STEP)];
                    let place = offset.wrapping_add(done as u64);
                    let count = client.write(fid, place, step).map_err(fail)?;
                    assert_eq!(count as usize, step.len());
                    done += step.len();
                    if done == data.len() {
                        break;
                    }
                }
                if stability > Stability::Buffered {
                    let put = Put::default().u32(fid).u32(1);
                    client.call(T_FSYNC, &put).map_err(fail)?;
                }
                Ok(())
            })
        })?;
        let stability = stability.min(Stability::Journaled);
        Ok(Written { count: data.len() as u32, wcc, stability, verifier: VERIFIER })
    }

    fn do_sync(&self, cx: Context<'_>, scope: &Scope<'_, Handle>) -> Result<()> {
        let mut shared = self.shared();
        let sync = |fid, data_only| Put::default().u32(fid).u32(u32::from(data_only));
        match *scope {
            Scope::Range { file: At::Open(handle), data_only, .. } => {
                shared.client.call(T_FSYNC, &sync(handle.fid, data_only)).map_err(fail)?;
            }
            Scope::Range { file: At::Ino(ino), data_only, .. } => {
                shared.with(cx, ino, |client, fid| {
                    client.call(T_FSYNC, &sync(fid, data_only)).map_err(fail)
                })?;
            }
            Scope::Directory(ino) => {
                shared.with_open(cx, At::Ino(ino), O_RDONLY | O_DIRECTORY, |client, fid| {
                    client.call(T_FSYNC, &sync(fid, false)).map_err(fail)
                })?;
            }
            // As `sync(2)` of a mount: nothing of it is cached here.
            Scope::Volume => {}
        }
        Ok(())
    }

    fn try_lock(&self, at: At<'_, Handle>, lock: &Lock, kind: u8) -> Result<()> {
        let (range, (process, machine)) = (range_of(lock)?, owner_of(lock));
        let mut shared = self.shared();
        let fid = shared.locker(at, lock)?;
        match shared.client.lock(fid, kind, range, (process, &machine)).map_err(fail)? {
            0 => Ok(()),
            1 => Err(ErrorKind::WouldBlock.into()),
            other => panic!("a lock's status is {other}"),
        }
    }

    fn find_conflict(&self, at: At<'_, Handle>, probe: &Lock) -> Result<Option<Lock>> {
        let ((start, len), (process, machine)) = (range_of(probe)?, owner_of(probe));
        let mut shared = self.shared();
        let fid = shared.locker(at, probe)?;
        let put = Put::default().u32(fid).u8(u8::from(probe.exclusive)).u64(start).u64(len);
        let answer = shared.client.call(T_GETLOCK, &put.u32(process).s(machine)).map_err(fail)?;
        let mut take = Take(&answer);
        let (kind, start, len) = (take.u8(), take.u64(), take.u64());
        // A process is all that is told of the owner.
        let owner = LockOwner { owner: take.u32().into(), ..probe.owner };
        let end = if len == 0 { u64::MAX } else { start + len };
        let found = Lock { owner, start, end, exclusive: kind == 1, ..*probe };
        Ok((kind != 2).then_some(found))
    }

    fn xattr_value(&self, cx: Context<'_>, ino: Ino, name: &[u8]) -> Result<Bytes> {
        // An empty name would be the list.
        self.shared().with(cx, ino, |client, fid| {
            let new = client.fid();
            let put = Put::default().u32(fid).u32(new).s(name);
            let len = Take(&client.call(T_XATTRWALK, &put).map_err(fail)?).u64();
            let value = client.read(new, 0, STEP as u32).map_err(fail)?;
            assert_eq!(value.len() as u64, len);
            client.clunk(new).map_err(fail)?;
            Ok(value.into())
        })
    }
}

impl Vfs for Remote {
    type Handle = Handle;
    type Changes = Silence;

    fn limits(&self) -> Limits {
        self.limits
    }

    fn changes(&self) -> Silence {
        Silence
    }

    async fn lookup(&self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Entry> {
        let mut shared = self.shared();
        shared.with(cx, dir, |client, fid| {
            client.walk(fid, fid, &[name.as_bytes()]).map(drop).map_err(fail)
        })?;
        Ok(entry(shared.remember(dir, name.as_bytes())?))
    }

    async fn parent(&self, cx: Context<'_>, dir: Ino) -> Result<Entry> {
        self.shared().with(cx, dir, |client, fid| {
            client.walk(fid, fid, &[".."]).map_err(fail)?;
            Ok(entry(super::attr_of(&client.stat(fid).map_err(fail)?)))
        })
    }

    async fn getattr(&self, _: Context<'_>, at: At<'_, Handle>) -> Result<Entry> {
        self.shared().attr(at).map(entry)
    }

    async fn setattr(&self, cx: Context<'_>, at: At<'_, Handle>, set: &SetAttr) -> Result<Wcc> {
        self.set(cx, at, set)
    }

    async fn access(&self, _: Context<'_>, _: Ino, _: Access) -> Result<Access> {
        Err(ErrorKind::NotSupported.into())
    }

    async fn readlink(&self, cx: Context<'_>, ino: Ino) -> Result<Bytes> {
        let target = self.shared().with(cx, ino, |client, fid| {
            client.call(T_READLINK, &Put::default().u32(fid)).map_err(fail)
        })?;
        Ok(Take(&target).s().into())
    }

    async fn open(&self, cx: Context<'_>, ino: Ino, flags: OpenFlags) -> Result<Handle> {
        let mut shared = self.shared();
        let fid = shared.fid(cx.cred.uid, ino)?;
        if let Err(errno) = shared.client.open(fid, flags_of(flags)) {
            shared.client.clunk(fid).map_err(fail)?;
            return Err(fail(errno));
        }
        drop(shared);
        Ok(self.handle(fid, ino, flags))
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
        self.remove(cx, dir, name.as_bytes(), 0)
    }

    async fn rmdir(&self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Wcc> {
        self.remove(cx, dir, name.as_bytes(), 0x200)
    }

    async fn rename(
        &self,
        cx: Context<'_>,
        from: (Ino, Name<'_>),
        to: (Ino, Name<'_>),
        mode: RenameMode,
    ) -> Result<(Wcc, Wcc)> {
        self.move_name(cx, (from.0, from.1.as_bytes()), (to.0, to.1.as_bytes()), mode)
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
        self.do_write(cx, file, at, data, stability)
    }

    async fn flush(&self, _: Context<'_>, _: &Handle) -> Result<()> {
        // Nothing is cached here, and what close(2) tells is asked for by letting go.
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
        _: Context<'_>,
        _: At<'_, Handle>,
        _: u64,
        _: u64,
        _: Allocate,
    ) -> Result<Wcc> {
        Err(ErrorKind::NotSupported.into())
    }

    async fn seek(&self, _: Context<'_>, _: At<'_, Handle>, _: u64, _: SeekTo) -> Result<u64> {
        Err(ErrorKind::NotSupported.into())
    }

    async fn copy(
        &self,
        _: Context<'_>,
        _: (At<'_, Handle>, u64),
        _: (At<'_, Handle>, u64),
        _: u64,
    ) -> Result<u64> {
        Err(ErrorKind::NotSupported.into())
    }

    async fn lock_conflict(
        &self,
        _: Context<'_>,
        file: At<'_, Handle>,
        probe: &Lock,
    ) -> Result<Option<Lock>> {
        self.find_conflict(file, probe)
    }

    async fn lock(
        &self,
        _: Context<'_>,
        file: At<'_, Handle>,
        lock: &Lock,
        wait: LockWait,
    ) -> Result<()> {
        // To wait is to ask again, as Linux does.
        poll_fn(|cx| match self.try_lock(file, lock, u8::from(lock.exclusive)) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && wait == LockWait::Block => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            done => Poll::Ready(done),
        })
        .await
    }

    async fn unlock(&self, _: Context<'_>, file: At<'_, Handle>, lock: &Lock) -> Result<()> {
        self.try_lock(file, lock, 2)
    }

    async fn xattr(&self, cx: Context<'_>, ino: Ino, name: &[u8]) -> Result<Bytes> {
        self.xattr_value(cx, ino, name)
    }

    async fn set_xattr(
        &self,
        cx: Context<'_>,
        ino: Ino,
        name: &[u8],
        value: Option<Bytes>,
        mode: XattrMode,
    ) -> Result<()> {
        let flags = match (&value, mode) {
            (None, _) | (_, XattrMode::Replace) => 2,
            (_, XattrMode::Create) => 1,
            (_, XattrMode::Either) => 0,
        };
        let value = value.unwrap_or_default();
        let mut shared = self.shared();
        let fid = shared.fid(cx.cred.uid, ino)?;
        let put = Put::default().u32(fid).s(name).u64(value.len() as u64).u32(flags);
        let begun = shared.client.call(T_XATTRCREATE, &put);
        let written = begun.and_then(|_| shared.client.write(fid, 0, &value));
        // It is set when the fid is let go of.
        let set = shared.client.clunk(fid);
        written.and(set).map_err(fail)
    }

    async fn xattrs(&self, cx: Context<'_>, ino: Ino) -> Result<Vec<Bytes>> {
        let list = self.xattr_value(cx, ino, b"")?;
        let names = list.split_inclusive(|byte| *byte == 0);
        Ok(names.map(|name| Bytes::copy_from_slice(&name[..name.len() - 1])).collect())
    }

    async fn statfs(&self, _: Context<'_>) -> Result<VolumeStat> {
        let mut shared = self.shared();
        let root = shared.root(0);
        let answer = shared.client.call(T_STATFS, &Put::default().u32(root)).map_err(fail)?;
        let mut take = Take(&answer);
        let (_, block) = (take.u32(), u64::from(take.u32()));
        let (total, free, _) = (take.u64(), take.u64(), take.u64());
        Ok(VolumeStat {
            bytes_total: total * block,
            bytes_free: free * block,
            inodes_total: take.u64(),
            inodes_free: take.u64(),
        })
    }
}
