//! A [`Vfs`] by NFS calls, for holding a server to what the trait says.
//!
//! It asks as a kernel does: opening asks for `ACCESS`, data reached by number is opened
//! first, appending goes to where the end was. Handles are computed from numbers with the
//! server's key, which checks every handle that the server gives, and lets what has no
//! name be asked for.
//!
//! What the protocol has no words for is refused ([`ErrorKind::NotSupported`]).

use crate::support;
use crate::wire::{Auth, In, Out, Wire};
use bytes::Bytes;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vfs::{
    Access, Allocate, At, Attr, Budget, Change, Context, Cookie, Created, DirEntry, DirPage, Entry,
    ErrorKind, IfExists, Ino, Kind, Limits, Lock, LockWait, Make, Name, OpenFlags, ReadData,
    RenameMode, Result, Scope, SeekTo, Segments, SetAttr, SetTime, Stability, Timestamp, Validity,
    Vfs, VolumeStat, Wcc, WriteAt, WriteVerifier, Written, XattrMode,
};

/// Bytes of a listing asked for at once: so few that most listings take several.
const LISTING: u32 = 8192;

/// A client; clones share its connection.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    wire: Arc<Mutex<Wire>>,
    limits: Limits,
}

/// An inode, and what it was opened for.
#[derive(Debug)]
pub(crate) struct Handle {
    ino: Ino,
    flags: OpenFlags,
}

/// Nothing is ever announced.
#[derive(Debug)]
pub(crate) struct Silence;

impl vfs::Changes for Silence {
    async fn next(&mut self) -> Option<Change> {
        pending().await
    }
}

fn kind_of(status: u32) -> ErrorKind {
    match status {
        5 => ErrorKind::Io,
        10_004 => ErrorKind::NotSupported,
        10_007 => ErrorKind::Invalid,
        10_008 => ErrorKind::Unavailable,
        _ => ErrorKind::ALL.into_iter().find(|kind| kind.nfs_status() == status).unwrap(),
    }
}

fn time(body: &mut In<'_>) -> Timestamp {
    Timestamp { seconds: body.u32().into(), nanoseconds: body.u32() }
}

fn attr(body: &mut In<'_>) -> Attr {
    let number = body.u32();
    let [mode, nlink, uid, gid] = [(); 4].map(|()| body.u32());
    let (size, used) = (body.u64(), body.u64());
    let (major, minor) = (body.u32(), body.u32());
    let _fsid = body.u64();
    let ino = Ino::new(body.u64()).unwrap();
    let kind = match number {
        1 => Kind::Regular,
        2 => Kind::Directory,
        3 => Kind::BlockDevice { major, minor },
        4 => Kind::CharDevice { major, minor },
        5 => Kind::Symlink,
        6 => Kind::Socket,
        7 => Kind::Fifo,
        other => panic!("{other} is no kind"),
    };
    let [atime, mtime, ctime] = [(); 3].map(|()| time(body));
    let mode = mode as u16;
    let btime = Timestamp::default();
    Attr { ino, kind, mode, nlink, uid, gid, size, used, atime, mtime, ctime, btime, change: 0 }
}

fn post_op(body: &mut In<'_>) -> Option<Attr> {
    body.bool().then(|| attr(body))
}

/// Both halves are there when something worked.
fn wcc(body: &mut In<'_>) -> Wcc {
    assert!(body.bool(), "attributes before");
    let (before_size, before_mtime, before_ctime) = (body.u64(), time(body), time(body));
    Wcc { before_size, before_mtime, before_ctime, after: post_op(body).unwrap() }
}

fn entry(attr: Attr) -> Entry {
    Entry { attr, validity: Validity::For(Duration::ZERO) }
}

fn handle(ino: Ino) -> Vec<u8> {
    support::handle(ino.get())
}

fn file(ino: Ino) -> Out {
    Out::default().opaque(&handle(ino))
}

fn put_set(out: Out, set: &SetAttr) -> Out {
    let word = |out: Out, value: Option<u32>| match value {
        Some(value) => out.words(&[1, value]),
        None => out.u32(0),
    };
    let out = word(word(word(out, set.mode.map(u32::from)), set.uid), set.gid);
    let out = match set.size {
        Some(size) => out.u32(1).u64(size),
        None => out.u32(0),
    };
    [set.atime, set.mtime].into_iter().fold(out, |out, time| match time {
        None => out.u32(0),
        Some(SetTime::Now) => out.u32(1),
        Some(SetTime::To(time)) => out.words(&[2, time.seconds as u32, time.nanoseconds]),
    })
}

impl Client {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        let mut wire = Wire::new(addr);
        let root = wire.mount(&Auth::root(), "/").unwrap();
        assert_eq!(root, handle(Ino::ROOT));
        let limits = limits(&mut wire, &root);
        Self { wire: Arc::new(Mutex::new(wire)), limits }
    }

    /// The body of what worked, or why it did not, with no bytes too many.
    fn ask<T>(
        &self,
        cx: Context<'_>,
        procedure: u32,
        arguments: &Out,
        parse: impl FnOnce(&mut In<'_>) -> T,
    ) -> Result<T> {
        let gid = cx.cred.gid.unwrap_or(cx.cred.uid);
        let auth = Auth::Sys(cx.cred.uid, gid, cx.cred.groups.as_slice().to_vec());
        let body = self.wire.lock().unwrap().nfs(&auth, procedure, arguments);
        let mut body = In(&body);
        match body.u32() {
            0 => {
                let parsed = parse(&mut body);
                body.end();
                Ok(parsed)
            }
            status => {
                // What follows is known by length; answers.rs looks at it.
                Err(kind_of(status).into())
            }
        }
    }

    fn attr(&self, cx: Context<'_>, ino: Ino) -> Result<Attr> {
        self.ask(cx, 1, &file(ino), attr)
    }

    fn granted(&self, cx: Context<'_>, ino: Ino) -> Result<Access> {
        let bits = self.ask(cx, 4, &file(ino).u32(0x3f), |body| {
            post_op(body).unwrap();
            body.u32()
        })?;
        let pairs = [(1, Access::READ), (4, Access::WRITE), (2 | 0x20, Access::EXECUTE)];
        let granted = pairs.iter().filter(|(bit, _)| bits & bit != 0);
        Ok(granted.fold(Access::default(), |all, (_, one)| all.and(*one)))
    }

    /// The inode, if it may be used for this; a regular file by number is opened for it.
    fn usable(&self, cx: Context<'_>, at: At<'_, Handle>, want: Access) -> Result<Ino> {
        match at {
            At::Open(handle) => {
                let has = match want {
                    Access::READ => handle.flags.read,
                    _ => handle.flags.write,
                };
                if has { Ok(handle.ino) } else { Err(ErrorKind::BadHandle.into()) }
            }
            At::Ino(ino) => {
                let is_file = self.attr(cx, ino)?.kind == Kind::Regular;
                if is_file && !self.granted(cx, ino)?.contains(want) {
                    return Err(ErrorKind::Access.into());
                }
                Ok(ino)
            }
        }
    }

    fn created(&self, cx: Context<'_>, procedure: u32, arguments: &Out) -> Result<Created<Handle>> {
        self.ask(cx, procedure, arguments, |body| {
            assert!(body.bool(), "a handle");
            let given = body.opaque().to_vec();
            let attr = post_op(body).unwrap();
            assert_eq!(given, handle(attr.ino));
            Created { entry: entry(attr), dir: wcc(body), handle: None }
        })
    }
}

fn limits(wire: &mut Wire, root: &[u8]) -> Limits {
    let root = Out::default().opaque(root);
    let info = wire.nfs(&Auth::root(), 19, &root);
    let mut info = In(&info);
    assert_eq!(info.u32(), 0);
    post_op(&mut info).unwrap();
    let [read_max, _, _, write_max, _, multiple, _] = [(); 7].map(|()| info.u32());
    let file_size_max = info.u64();
    assert_eq!((info.u32(), info.u32()), (0, 1), "the resolution of times");
    assert_eq!(info.u32(), 0x1b, "properties");
    info.end();
    let conf = wire.nfs(&Auth::root(), 20, &root);
    let mut conf = In(&conf);
    assert_eq!(conf.u32(), 0);
    post_op(&mut conf).unwrap();
    let [link_max, name_max] = [(); 2].map(|()| conf.u32());
    assert_eq!([(); 4].map(|()| conf.bool()), [true, true, false, true]);
    conf.end();
    Limits { read_max, write_max, preferred: multiple, name_max, link_max, file_size_max }
}

fn unsupported<T>() -> Result<T> {
    Err(ErrorKind::NotSupported.into())
}

impl Vfs for Client {
    type Handle = Handle;
    type Changes = Silence;

    fn limits(&self) -> Limits {
        self.limits
    }

    fn changes(&self) -> Silence {
        Silence
    }

    async fn lookup(&self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Entry> {
        self.find(cx, dir, name.as_bytes())
    }

    async fn parent(&self, cx: Context<'_>, dir: Ino) -> Result<Entry> {
        let itself = self.find(cx, dir, b".")?;
        assert_eq!(itself.attr.ino, dir);
        self.find(cx, dir, b"..")
    }

    async fn getattr(&self, cx: Context<'_>, at: At<'_, Handle>) -> Result<Entry> {
        self.attr(cx, ino_of(at)).map(entry)
    }

    async fn setattr(&self, cx: Context<'_>, at: At<'_, Handle>, set: &SetAttr) -> Result<Wcc> {
        if let At::Open(handle) = at
            && set.size.is_some()
            && !handle.flags.write
        {
            return Err(ErrorKind::Invalid.into());
        }
        let arguments = put_set(file(ino_of(at)), set);
        let arguments = match set.only_if_ctime {
            Some(guard) => arguments.words(&[1, guard.seconds as u32, guard.nanoseconds]),
            None => arguments.u32(0),
        };
        self.ask(cx, 2, &arguments, wcc)
    }

    async fn access(&self, cx: Context<'_>, ino: Ino, want: Access) -> Result<Access> {
        Ok(Access(self.granted(cx, ino)?.0 & want.0))
    }

    async fn readlink(&self, cx: Context<'_>, ino: Ino) -> Result<Bytes> {
        self.ask(cx, 5, &file(ino), |body| {
            post_op(body).unwrap();
            Bytes::copy_from_slice(body.opaque())
        })
    }

    async fn open(&self, cx: Context<'_>, ino: Ino, flags: OpenFlags) -> Result<Handle> {
        let changes = flags.write || flags.truncate;
        match self.attr(cx, ino)?.kind {
            Kind::Regular => {}
            Kind::Directory if changes => return Err(ErrorKind::IsDirectory.into()),
            Kind::Directory => {}
            _ => return Err(ErrorKind::Invalid.into()),
        }
        let read = if flags.read { Access::READ } else { Access::default() };
        let write = if changes { Access::WRITE } else { Access::default() };
        if !self.granted(cx, ino)?.contains(read.and(write)) {
            return Err(ErrorKind::Access.into());
        }
        if flags.truncate {
            let cut = SetAttr { size: Some(0), ..SetAttr::default() };
            self.setattr(cx, At::Ino(ino), &cut).await?;
        }
        Ok(Handle { ino, flags })
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
        let out = file(dir).opaque(name.as_bytes());
        let mut set = attr.clone();
        if open.is_some_and(|flags| flags.truncate) {
            set.size = Some(0);
        }
        let out = match if_exists {
            IfExists::Reuse => put_set(out.u32(0), &set),
            IfExists::Fail => put_set(out.u32(1), &set),
            IfExists::SameVerifier(verifier) => out.u32(2).bytes(&verifier),
        };
        let mut made = self.created(cx, 8, &out)?;
        let ino = made.entry.attr.ino;
        made.handle = open.map(|flags| Handle { ino, flags });
        Ok(made)
    }

    async fn make(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: Name<'_>,
        what: Make<'_>,
        attr: &SetAttr,
    ) -> Result<Created<Handle>> {
        let out = file(dir).opaque(name.as_bytes());
        let node = |number: u32| put_set(out.clone().u32(number), attr);
        match what {
            Make::Directory => self.created(cx, 9, &put_set(out, attr)),
            Make::Symlink { target } => self.created(cx, 10, &put_set(out, attr).opaque(target)),
            Make::Node(Kind::BlockDevice { major, minor }) => {
                self.created(cx, 11, &node(3).words(&[major, minor]))
            }
            Make::Node(Kind::CharDevice { major, minor }) => {
                self.created(cx, 11, &node(4).words(&[major, minor]))
            }
            Make::Node(Kind::Socket) => self.created(cx, 11, &node(6)),
            Make::Node(Kind::Fifo) => self.created(cx, 11, &node(7)),
            Make::Node(Kind::Regular) => self.created(cx, 11, &out.u32(1)),
            Make::Node(Kind::Directory) => self.created(cx, 11, &out.u32(2)),
            Make::Node(Kind::Symlink) => self.created(cx, 11, &out.u32(5)),
        }
    }

    async fn link(
        &self,
        cx: Context<'_>,
        ino: Ino,
        dir: Ino,
        name: Name<'_>,
    ) -> Result<Created<Handle>> {
        let out = file(ino).opaque(&handle(dir)).opaque(name.as_bytes());
        self.ask(cx, 15, &out, |body| {
            let attr = post_op(body).unwrap();
            Created { entry: entry(attr), dir: wcc(body), handle: None }
        })
    }

    async fn unlink(&self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Wcc> {
        self.ask(cx, 12, &file(dir).opaque(name.as_bytes()), wcc)
    }

    async fn rmdir(&self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Wcc> {
        self.ask(cx, 13, &file(dir).opaque(name.as_bytes()), wcc)
    }

    async fn rename(
        &self,
        cx: Context<'_>,
        from: (Ino, Name<'_>),
        to: (Ino, Name<'_>),
        mode: RenameMode,
    ) -> Result<(Wcc, Wcc)> {
        if mode != RenameMode::Replace {
            return unsupported();
        }
        let out = file(from.0).opaque(from.1.as_bytes());
        let out = out.opaque(&handle(to.0)).opaque(to.1.as_bytes());
        self.ask(cx, 14, &out, |body| (wcc(body), wcc(body)))
    }

    async fn readdir(
        &self,
        cx: Context<'_>,
        dir: At<'_, Handle>,
        after: Cookie,
        budget: Budget,
    ) -> Result<DirPage> {
        // Both procedures must say the same.
        let plain = file(ino_of(dir)).u64(after.0).u64(0).u32(LISTING);
        let plain = self.ask(cx, 16, &plain, |body| listing(body, false))?;
        let plus = file(ino_of(dir)).u64(after.0).u64(0).words(&[LISTING, LISTING]);
        let mut page = self.ask(cx, 17, &plus, |body| listing(body, true))?;
        let names = |page: &DirPage| {
            page.entries.iter().map(|e| (e.ino, e.cookie, e.name.clone())).collect::<Vec<_>>()
        };
        assert!(names(&plain).starts_with(&names(&page)), "READDIR and READDIRPLUS");
        page.entries.retain(|entry| entry.cookie.0 >= Cookie::FIRST_ENTRY);
        let mut name_bytes = 0;
        let fits = |entry: &&DirEntry| {
            name_bytes += entry.name.len();
            name_bytes <= budget.name_bytes as usize
        };
        let count = page.entries.iter().take(budget.entries as usize).take_while(fits).count();
        if count.max(1) < page.entries.len() {
            page.entries.truncate(count.max(1));
            page.end = false;
        }
        for entry in &mut page.entries {
            entry.entry = entry.entry.take().filter(|_| budget.with_attr);
        }
        Ok(page)
    }

    async fn read(
        &self,
        cx: Context<'_>,
        at: At<'_, Handle>,
        offset: u64,
        len: u32,
    ) -> Result<ReadData> {
        let ino = self.usable(cx, at, Access::READ)?;
        let out = file(ino).u64(offset).u32(len);
        self.ask(cx, 6, &out, |body| {
            post_op(body).unwrap();
            let (count, eof) = (body.u32(), body.bool());
            let data = Bytes::copy_from_slice(body.opaque());
            assert_eq!(count as usize, data.len());
            ReadData { data: data.into(), eof }
        })
    }

    async fn write(
        &self,
        cx: Context<'_>,
        at: At<'_, Handle>,
        place: WriteAt,
        data: Segments,
        stability: Stability,
    ) -> Result<Written> {
        let ino = self.usable(cx, at, Access::WRITE)?;
        let offset = match place {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => self.attr(cx, ino)?.size,
            WriteAt::Late(_) => return unsupported(),
        };
        let data = data.into_contiguous();
        let stable = if stability == Stability::Buffered { 0 } else { 2 };
        let out = file(ino).u64(offset).words(&[data.len() as u32, stable]).opaque(&data);
        self.ask(cx, 7, &out, |body| {
            let (wcc, count) = (wcc(body), body.u32());
            let stability = match body.u32() {
                0 => Stability::Buffered,
                committed => {
                    assert_eq!(committed, 2);
                    Stability::Journaled
                }
            };
            Written { count, wcc, stability, verifier: WriteVerifier(body.u64()) }
        })
    }

    async fn flush(&self, _cx: Context<'_>, _file: &Handle) -> Result<()> {
        Ok(())
    }

    async fn sync(
        &self,
        cx: Context<'_>,
        scope: Scope<'_, Handle>,
        _stability: Stability,
    ) -> Result<WriteVerifier> {
        let (ino, offset, len) = match scope {
            Scope::Range { file, offset, len, .. } => (ino_of(file), offset, len),
            Scope::Directory(ino) if self.attr(cx, ino)?.kind != Kind::Directory => {
                return Err(ErrorKind::NotDirectory.into());
            }
            Scope::Directory(ino) => (ino, 0, 0),
            Scope::Volume => (Ino::ROOT, 0, 0),
        };
        self.ask(cx, 21, &file(ino).u64(offset).u32(len as u32), |body| {
            assert!(!body.bool(), "nothing is known of before");
            post_op(body).unwrap();
            WriteVerifier(body.u64())
        })
    }

    async fn statfs(&self, cx: Context<'_>) -> Result<VolumeStat> {
        self.ask(cx, 18, &file(Ino::ROOT), |body| {
            post_op(body).unwrap();
            let [bytes_total, bytes_free, bytes_available] = [(); 3].map(|()| body.u64());
            let [inodes_total, inodes_free, inodes_available] = [(); 3].map(|()| body.u64());
            assert_eq!((bytes_free, inodes_free), (bytes_available, inodes_available));
            assert_eq!(body.u32(), 0, "how long it holds");
            VolumeStat { bytes_total, bytes_free, inodes_total, inodes_free }
        })
    }

    async fn allocate(
        &self,
        _: Context<'_>,
        _: At<'_, Handle>,
        _: u64,
        _: u64,
        _: Allocate,
    ) -> Result<Wcc> {
        unsupported()
    }

    async fn seek(&self, _: Context<'_>, _: At<'_, Handle>, _: u64, _: SeekTo) -> Result<u64> {
        unsupported()
    }

    async fn copy(
        &self,
        _: Context<'_>,
        _: (At<'_, Handle>, u64),
        _: (At<'_, Handle>, u64),
        _: u64,
    ) -> Result<u64> {
        unsupported()
    }

    async fn lock_conflict(
        &self,
        _: Context<'_>,
        _: At<'_, Handle>,
        _: &Lock,
    ) -> Result<Option<Lock>> {
        unsupported()
    }

    async fn lock(&self, _: Context<'_>, _: At<'_, Handle>, _: &Lock, _: LockWait) -> Result<()> {
        unsupported()
    }

    async fn unlock(&self, _: Context<'_>, _: At<'_, Handle>, _: &Lock) -> Result<()> {
        unsupported()
    }

    async fn xattr(&self, _: Context<'_>, _: Ino, _: &[u8]) -> Result<Bytes> {
        unsupported()
    }

    async fn set_xattr(
        &self,
        _: Context<'_>,
        _: Ino,
        _: &[u8],
        _: Option<Bytes>,
        _: XattrMode,
    ) -> Result<()> {
        unsupported()
    }

    async fn xattrs(&self, cx: Context<'_>, ino: Ino) -> Result<Vec<Bytes>> {
        // What is gone comes first.
        self.attr(cx, ino)?;
        unsupported()
    }
}

impl Client {
    fn find(&self, cx: Context<'_>, dir: Ino, name: &[u8]) -> Result<Entry> {
        self.ask(cx, 3, &file(dir).opaque(name), |body| {
            let given = body.opaque().to_vec();
            let found = post_op(body).unwrap();
            assert_eq!(given, handle(found.ino));
            assert_eq!(post_op(body).map(|dir| dir.ino), Some(dir));
            entry(found)
        })
    }
}

fn ino_of(at: At<'_, Handle>) -> Ino {
    match at {
        At::Ino(ino) => ino,
        At::Open(handle) => handle.ino,
    }
}

/// A page as the server gives it, dots and all.
pub(crate) fn listing(body: &mut In<'_>, with_attr: bool) -> DirPage {
    let dir = post_op(body).unwrap();
    assert_eq!(body.u64(), 0, "the cookie verifier");
    let mut entries = Vec::new();
    while body.bool() {
        let ino = Ino::new(body.u64()).unwrap();
        let name = Bytes::copy_from_slice(body.opaque());
        let cookie = Cookie(body.u64());
        let mut known = None;
        if with_attr {
            let attr = post_op(body).unwrap();
            assert!(body.bool());
            assert_eq!(body.opaque(), handle(ino));
            assert_eq!(attr.ino, ino);
            known = Some(entry(attr));
        }
        let kind = known.as_ref().map_or(Kind::Regular, |known| known.attr.kind);
        entries.push(DirEntry { ino, kind, name, cookie, entry: known });
    }
    DirPage { entries, end: body.bool(), dir }
}
