//! The file system behind the crate `nfs3_server`.

use super::Ended;
use crate::memory::{COOKIE_FIRST, Memory, ROOT};
use nfs3_server::nfs3_types::nfs3::{
    Nfs3Option, createverf3, fattr3, filename3, ftype3, nfspath3, nfsstat3, nfstime3, sattr3,
    set_atime, set_mtime, specdata3, stable_how,
};
use nfs3_server::nfs3_types::xdr_codec::{Opaque, Pack, Unpack};
use nfs3_server::tcp::{NFSTcp, NFSTcpListener};
use nfs3_server::vfs::{
    DirEntryPlus, FileHandleU64, NextResult, NfsFileSystem, NfsReadFileSystem, ReadDirPlusIterator,
};
use std::collections::VecDeque;
use std::sync::Arc;
use vfs::{Attr, Error, ErrorKind, Kind, SetAttr, SetTime, Timestamp};

/// Entries looked at together.
const TOGETHER: usize = 512;

/// Serves until something breaks.
pub(super) async fn serve(address: &str, fs: Arc<Memory>) -> Ended {
    let listener = NFSTcpListener::bind(address, Served(fs)).await?;
    Ok(listener.handle_forever().await?)
}

struct Served(Arc<Memory>);

type Answer<T> = Result<T, nfsstat3>;
type Handle = FileHandleU64;

#[expect(clippy::needless_pass_by_value, reason = "it is for map_err")]
fn status(error: Error) -> nfsstat3 {
    match error.kind() {
        ErrorKind::Exists => nfsstat3::NFS3ERR_EXIST,
        ErrorKind::IsDirectory => nfsstat3::NFS3ERR_ISDIR,
        ErrorKind::NotDirectory => nfsstat3::NFS3ERR_NOTDIR,
        ErrorKind::NotFound => nfsstat3::NFS3ERR_NOENT,
        ErrorKind::NotSupported => nfsstat3::NFS3ERR_NOTSUPP,
        ErrorKind::Stale => nfsstat3::NFS3ERR_STALE,
        _ => nfsstat3::NFS3ERR_IO,
    }
}

fn time(time: Timestamp) -> nfstime3 {
    nfstime3 { seconds: time.seconds as u32, nseconds: time.nanoseconds }
}

fn fattr(attr: &Attr) -> fattr3 {
    fattr3 {
        type_: if attr.kind == Kind::Directory { ftype3::NF3DIR } else { ftype3::NF3REG },
        mode: attr.mode.into(),
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        size: attr.size,
        used: attr.used,
        rdev: specdata3::default(),
        fsid: 1,
        fileid: attr.ino.get(),
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
    }
}

fn given<T: Copy + Pack + Unpack>(value: &Nfs3Option<T>) -> Option<T> {
    if let Nfs3Option::Some(value) = value { Some(*value) } else { None }
}

fn set(set: &sattr3) -> SetAttr {
    let to = |time: &nfstime3| {
        SetTime::To(Timestamp { seconds: time.seconds.into(), nanoseconds: time.nseconds })
    };
    SetAttr {
        mode: given(&set.mode).map(|mode| mode as u16),
        uid: given(&set.uid),
        gid: given(&set.gid),
        size: given(&set.size),
        atime: match &set.atime {
            set_atime::SET_TO_SERVER_TIME => Some(SetTime::Now),
            set_atime::SET_TO_CLIENT_TIME(time) => Some(to(time)),
            set_atime::DONT_CHANGE => None,
        },
        mtime: match &set.mtime {
            set_mtime::SET_TO_SERVER_TIME => Some(SetTime::Now),
            set_mtime::SET_TO_CLIENT_TIME(time) => Some(to(time)),
            set_mtime::DONT_CHANGE => None,
        },
        only_if_ctime: None,
    }
}

impl Served {
    fn add(
        &self,
        dir: &Handle,
        name: &[u8],
        kind: Kind,
        set: &SetAttr,
    ) -> Answer<(Handle, fattr3)> {
        let added = self.0.node(dir.as_u64()).and_then(|dir| self.0.add(&dir, name, kind, set));
        let attr = added.map_err(status)?.0.attr();
        Ok((Handle::new(attr.ino.get()), fattr(&attr)))
    }
}

/// A listing under way.
struct Listing {
    fs: Arc<Memory>,
    dir: u64,
    after: u64,
    ahead: VecDeque<DirEntryPlus<Handle>>,
    is_over: bool,
}

impl Listing {
    fn look_ahead(&mut self) -> Answer<()> {
        let dir = self.fs.node(self.dir).map_err(status)?;
        let ahead = &mut self.ahead;
        let listed = dir.list(self.after, |cookie, name, attr| {
            if ahead.len() == TOGETHER {
                return false;
            }
            ahead.push_back(DirEntryPlus {
                fileid: attr.ino.get(),
                name: filename3(Opaque::owned(name.to_vec())),
                cookie,
                name_attributes: Some(fattr(&attr)),
                name_handle: Some(Handle::new(attr.ino.get())),
            });
            true
        });
        self.is_over = listed.map_err(status)?;
        Ok(())
    }
}

impl ReadDirPlusIterator<Handle> for Listing {
    async fn next(&mut self) -> NextResult<DirEntryPlus<Handle>> {
        if self.ahead.is_empty()
            && !self.is_over
            && let Err(error) = self.look_ahead()
        {
            return NextResult::Err(error);
        }
        match self.ahead.pop_front() {
            Some(entry) => {
                self.after = entry.cookie;
                NextResult::Ok(entry)
            }
            None => NextResult::Eof,
        }
    }
}

impl NfsReadFileSystem for Served {
    type Handle = Handle;

    fn root_dir(&self) -> Handle {
        Handle::new(ROOT)
    }

    async fn lookup(&self, dir: &Handle, name: &filename3<'_>) -> Answer<Handle> {
        let found = self.0.node(dir.as_u64()).and_then(|dir| dir.find(&name.0));
        found.map(|node| Handle::new(node.attr().ino.get())).map_err(status)
    }

    async fn getattr(&self, file: &Handle) -> Answer<fattr3> {
        self.0.node(file.as_u64()).map(|node| fattr(&node.attr())).map_err(status)
    }

    async fn read(&self, file: &Handle, offset: u64, count: u32) -> Answer<(Vec<u8>, bool)> {
        let read = self.0.node(file.as_u64()).and_then(|node| node.read_copied(offset, count));
        read.map_err(status)
    }

    async fn readdirplus(
        &self,
        dir: &Handle,
        cookie: u64,
    ) -> Answer<impl ReadDirPlusIterator<Handle>> {
        let (fs, dir) = (Arc::clone(&self.0), dir.as_u64());
        let after = cookie.max(COOKIE_FIRST);
        Ok(Listing { fs, dir, after, ahead: VecDeque::new(), is_over: false })
    }

    async fn readlink(&self, _: &Handle) -> Answer<nfspath3<'_>> {
        Err(nfsstat3::NFS3ERR_NOTSUPP)
    }
}

impl NfsFileSystem for Served {
    async fn setattr(&self, file: &Handle, asked: sattr3) -> Answer<fattr3> {
        let wcc = self.0.node(file.as_u64()).and_then(|node| node.set(&set(&asked)));
        wcc.map(|wcc| fattr(&wcc.after)).map_err(status)
    }

    async fn write(
        &self,
        file: &Handle,
        offset: u64,
        data: &[u8],
        stable: stable_how,
    ) -> Answer<(fattr3, stable_how)> {
        let wcc = self.0.node(file.as_u64()).and_then(|node| node.write(offset, [data]));
        wcc.map(|wcc| (fattr(&wcc.after), stable)).map_err(status)
    }

    async fn create(
        &self,
        dir: &Handle,
        name: &filename3<'_>,
        asked: sattr3,
    ) -> Answer<(Handle, fattr3)> {
        self.add(dir, &name.0, Kind::Regular, &set(&asked))
    }

    async fn create_exclusive(
        &self,
        dir: &Handle,
        name: &filename3<'_>,
        _: createverf3,
    ) -> Answer<Handle> {
        self.add(dir, &name.0, Kind::Regular, &SetAttr::default()).map(|(file, _)| file)
    }

    async fn mkdir(&self, dir: &Handle, name: &filename3<'_>) -> Answer<(Handle, fattr3)> {
        self.add(dir, &name.0, Kind::Directory, &SetAttr::default())
    }

    async fn remove(&self, dir: &Handle, name: &filename3<'_>) -> Answer<()> {
        let removed = self.0.node(dir.as_u64()).and_then(|dir| self.0.remove(&dir, &name.0));
        removed.map(drop).map_err(status)
    }

    async fn rename<'a>(
        &self,
        _: &Handle,
        _: &filename3<'a>,
        _: &Handle,
        _: &filename3<'a>,
    ) -> Answer<()> {
        Err(nfsstat3::NFS3ERR_NOTSUPP)
    }

    async fn symlink<'a>(
        &self,
        _: &Handle,
        _: &filename3<'a>,
        _: &nfspath3<'a>,
        _: &sattr3,
    ) -> Answer<(Handle, fattr3)> {
        Err(nfsstat3::NFS3ERR_NOTSUPP)
    }

    async fn commit(&self, _: &Handle, _: u64, _: u32) -> Answer<()> {
        Ok(())
    }
}
