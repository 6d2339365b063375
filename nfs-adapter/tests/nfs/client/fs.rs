//! The trait, one call after the other.

use super::{
    Client, Handle, created, entry, file, ino_of, named, nfs_time, option, page, page_plus,
    post_op, to_set, wcc,
};
use bytes::Bytes;
use nfs3_client::nfs3_types::nfs3::{
    COMMIT3args, CREATE3args, FSSTAT3args, LINK3args, MKDIR3args, MKNOD3args, Nfs3Option,
    READ3args, READDIR3args, READDIRPLUS3args, READLINK3args, REMOVE3args, RENAME3args, RMDIR3args,
    SETATTR3args, SYMLINK3args, WRITE3args, cookieverf3, createhow3, createverf3, devicedata3,
    mknoddata3, specdata3, stable_how, symlinkdata3,
};
use nfs3_client::nfs3_types::xdr_codec::Opaque;
use std::future::pending;
use vfs::{
    Access, Allocate, At, Budget, Change, Context, Cookie, Created, DirEntry, DirPage, Entry,
    ErrorKind, IfExists, Ino, Kind, Limits, Lock, LockWait, Make, Name, OpenFlags, ReadData,
    RenameMode, Result, Scope, SeekTo, Segments, SetAttr, Stability, Vfs, VolumeStat, Wcc, WriteAt,
    WriteVerifier, Written, XattrMode,
};

/// Bytes of a listing asked for at once: so few that most listings take several.
const LISTING: u32 = 8192;

/// Nothing is ever announced.
#[derive(Debug)]
pub(crate) struct Silence;

impl vfs::Changes for Silence {
    async fn next(&mut self) -> Option<Change> {
        pending().await
    }
}

fn unsupported<T>() -> Result<T> {
    Err(ErrorKind::NotSupported.into())
}

impl Client {
    fn list(&self, cx: Context<'_>, dir: Ino, after: Cookie) -> Result<DirPage> {
        let (cookie, cookieverf) = (after.0, cookieverf3::default());
        let args = READDIR3args { dir: file(dir), cookie, cookieverf, count: LISTING };
        let plain = page(self.ask(cx, async |nfs| nfs.readdir(&args).await)?);
        let (dircount, maxcount) = (LISTING, LISTING);
        let args = READDIRPLUS3args { dir: file(dir), cookie, cookieverf, dircount, maxcount };
        let plus = page_plus(self.ask(cx, async |nfs| nfs.readdirplus(&args).await)?);
        // Both procedures must say the same.
        let names = |page: &DirPage| {
            page.entries.iter().map(|e| (e.ino, e.cookie, e.name.clone())).collect::<Vec<_>>()
        };
        assert!(names(&plain).starts_with(&names(&plus)), "READDIR and READDIRPLUS");
        Ok(plus)
    }

    fn make_node(
        &self,
        cx: Context<'_>,
        (dir, name): (Ino, &[u8]),
        kind: Kind,
        attr: &SetAttr,
    ) -> Result<Created<Handle>> {
        let device = |specdata1, specdata2| devicedata3 {
            dev_attributes: to_set(attr),
            spec: specdata3 { specdata1, specdata2 },
        };
        let what = match kind {
            Kind::BlockDevice { major, minor } => mknoddata3::NF3BLK(device(major, minor)),
            Kind::CharDevice { major, minor } => mknoddata3::NF3CHR(device(major, minor)),
            Kind::Socket => mknoddata3::NF3SOCK(to_set(attr)),
            Kind::Fifo => mknoddata3::NF3FIFO(to_set(attr)),
            // Such a call is not encoded; answers.rs makes one.
            Kind::Regular | Kind::Directory | Kind::Symlink => {
                return Err(ErrorKind::Invalid.into());
            }
        };
        let args = MKNOD3args { where_: named(dir, name), what };
        let made = self.ask(cx, async |nfs| nfs.mknod(&args).await)?;
        Ok(created(&made.obj, &made.obj_attributes, &made.dir_wcc))
    }
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
        let args = SETATTR3args {
            object: file(ino_of(at)),
            new_attributes: to_set(set),
            guard: option(set.only_if_ctime, nfs_time),
        };
        Ok(wcc(&self.ask(cx, async |nfs| nfs.setattr(&args).await)?.obj_wcc))
    }

    async fn access(&self, cx: Context<'_>, ino: Ino, want: Access) -> Result<Access> {
        Ok(Access(self.granted(cx, ino)?.0 & want.0))
    }

    async fn readlink(&self, cx: Context<'_>, ino: Ino) -> Result<Bytes> {
        let args = READLINK3args { symlink: file(ino) };
        let answer = self.ask(cx, async |nfs| nfs.readlink(&args).await)?;
        assert_eq!(post_op(&answer.symlink_attributes).ino, ino);
        Ok(Bytes::copy_from_slice(answer.data.as_ref()))
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
        let mut set = to_set(attr);
        if open.is_some_and(|flags| flags.truncate) {
            set.size = Nfs3Option::Some(0);
        }
        let how = match if_exists {
            IfExists::Reuse => createhow3::UNCHECKED(set),
            IfExists::Fail => createhow3::GUARDED(set),
            IfExists::SameVerifier(verifier) => createhow3::EXCLUSIVE(createverf3(verifier)),
        };
        let args = CREATE3args { where_: named(dir, name.as_bytes()), how };
        let made = self.ask(cx, async |nfs| nfs.create(&args).await)?;
        let mut made = created(&made.obj, &made.obj_attributes, &made.dir_wcc);
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
        let where_ = named(dir, name.as_bytes());
        match what {
            Make::Directory => {
                let args = MKDIR3args { where_, attributes: to_set(attr) };
                let made = self.ask(cx, async |nfs| nfs.mkdir(&args).await)?;
                Ok(created(&made.obj, &made.obj_attributes, &made.dir_wcc))
            }
            Make::Symlink { target } => {
                let symlink =
                    symlinkdata3 { symlink_attributes: to_set(attr), symlink_data: target.into() };
                let args = SYMLINK3args { where_, symlink };
                let made = self.ask(cx, async |nfs| nfs.symlink(&args).await)?;
                Ok(created(&made.obj, &made.obj_attributes, &made.dir_wcc))
            }
            Make::Node(kind) => self.make_node(cx, (dir, name.as_bytes()), kind, attr),
        }
    }

    async fn link(
        &self,
        cx: Context<'_>,
        ino: Ino,
        dir: Ino,
        name: Name<'_>,
    ) -> Result<Created<Handle>> {
        let args = LINK3args { file: file(ino), link: named(dir, name.as_bytes()) };
        let made = self.ask(cx, async |nfs| nfs.link(&args).await)?;
        let (attr, dir) = (post_op(&made.file_attributes), wcc(&made.linkdir_wcc));
        Ok(Created { entry: entry(attr), dir, handle: None })
    }

    async fn unlink(&self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Wcc> {
        let args = REMOVE3args { object: named(dir, name.as_bytes()) };
        Ok(wcc(&self.ask(cx, async |nfs| nfs.remove(&args).await)?.dir_wcc))
    }

    async fn rmdir(&self, cx: Context<'_>, dir: Ino, name: Name<'_>) -> Result<Wcc> {
        let args = RMDIR3args { object: named(dir, name.as_bytes()) };
        Ok(wcc(&self.ask(cx, async |nfs| nfs.rmdir(&args).await)?.dir_wcc))
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
        let (from, to) = (named(from.0, from.1.as_bytes()), named(to.0, to.1.as_bytes()));
        let args = RENAME3args { from, to };
        let done = self.ask(cx, async |nfs| nfs.rename(&args).await)?;
        Ok((wcc(&done.fromdir_wcc), wcc(&done.todir_wcc)))
    }

    async fn readdir(
        &self,
        cx: Context<'_>,
        dir: At<'_, Handle>,
        after: Cookie,
        budget: Budget,
    ) -> Result<DirPage> {
        let mut page = self.list(cx, ino_of(dir), after)?;
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
        let args = READ3args { file: file(ino), offset, count: len };
        let read = self.ask(cx, async |nfs| nfs.read(&args).await)?;
        assert_eq!(post_op(&read.file_attributes).ino, ino);
        assert_eq!(read.count as usize, read.data.len());
        Ok(ReadData { data: Bytes::from(read.data.into_owned()).into(), eof: read.eof })
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
        let stable = match stability {
            Stability::Buffered => stable_how::UNSTABLE,
            Stability::Journaled | Stability::Uploaded => stable_how::FILE_SYNC,
        };
        let args = WRITE3args {
            file: file(ino),
            offset,
            count: data.len() as u32,
            stable,
            data: Opaque::borrowed(&data),
        };
        let done = self.ask(cx, async |nfs| nfs.write(&args).await)?;
        let stability = match done.committed {
            stable_how::UNSTABLE => Stability::Buffered,
            stable_how::FILE_SYNC => Stability::Journaled,
            stable_how::DATA_SYNC => panic!("nobody asked for that"),
        };
        let verifier = WriteVerifier(u64::from_be_bytes(done.verf.0));
        Ok(Written { count: done.count, wcc: wcc(&done.file_wcc), stability, verifier })
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
        let args = COMMIT3args { file: file(ino), offset, count: len as u32 };
        let done = self.ask(cx, async |nfs| nfs.commit(&args).await)?;
        assert!(done.file_wcc.before.is_none(), "nothing is known of before");
        assert_eq!(post_op(&done.file_wcc.after).ino, ino);
        Ok(WriteVerifier(u64::from_be_bytes(done.verf.0)))
    }

    async fn statfs(&self, cx: Context<'_>) -> Result<VolumeStat> {
        let args = FSSTAT3args { fsroot: file(Ino::ROOT) };
        let stat = self.ask(cx, async |nfs| nfs.fsstat(&args).await)?;
        assert_eq!(post_op(&stat.obj_attributes).ino, Ino::ROOT);
        assert_eq!((stat.fbytes, stat.ffiles), (stat.abytes, stat.afiles));
        assert_eq!(stat.invarsec, 0, "how long it holds");
        Ok(VolumeStat {
            bytes_total: stat.tbytes,
            bytes_free: stat.fbytes,
            inodes_total: stat.tfiles,
            inodes_free: stat.ffiles,
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
