//! The file system behind the crate `nfsserve`.

use super::Ended;
use crate::memory::{COOKIE_FIRST, Memory, ROOT};
use async_trait::async_trait;
use nfsserve::nfs::{
    fattr3, fileid3, filename3, ftype3, nfspath3, nfsstat3, nfstime3, sattr3, set_atime, set_gid3,
    set_mode3, set_mtime, set_size3, set_uid3, specdata3,
};
use nfsserve::tcp::{NFSTcp, NFSTcpListener};
use nfsserve::vfs::{DirEntry, NFSFileSystem, ReadDirResult, VFSCapabilities};
use std::sync::Arc;
use vfs::{Attr, Error, ErrorKind, Kind, SetAttr, SetTime, Timestamp};

/// Serves until something breaks.
pub(super) async fn serve(address: &str, fs: Arc<Memory>) -> Ended {
    let listener = NFSTcpListener::bind(address, Served(fs)).await?;
    Ok(listener.handle_forever().await?)
}

struct Served(Arc<Memory>);

type Answer<T> = Result<T, nfsstat3>;

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
        ftype: if attr.kind == Kind::Directory { ftype3::NF3DIR } else { ftype3::NF3REG },
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

fn set(set: &sattr3) -> SetAttr {
    let to = |time: &nfstime3| {
        SetTime::To(Timestamp { seconds: time.seconds.into(), nanoseconds: time.nseconds })
    };
    SetAttr {
        mode: if let set_mode3::mode(mode) = set.mode { Some(mode as u16) } else { None },
        uid: if let set_uid3::uid(uid) = set.uid { Some(uid) } else { None },
        gid: if let set_gid3::gid(gid) = set.gid { Some(gid) } else { None },
        size: if let set_size3::size(size) = set.size { Some(size) } else { None },
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
    fn add(&self, dir: u64, name: &[u8], kind: Kind, set: &SetAttr) -> Answer<(u64, fattr3)> {
        let added = self.0.node(dir).and_then(|dir| self.0.add(&dir, name, kind, set));
        let attr = added.map_err(status)?.0.attr();
        Ok((attr.ino.get(), fattr(&attr)))
    }
}

#[async_trait]
impl NFSFileSystem for Served {
    fn capabilities(&self) -> VFSCapabilities {
        VFSCapabilities::ReadWrite
    }

    fn root_dir(&self) -> fileid3 {
        ROOT
    }

    async fn lookup(&self, dir: fileid3, name: &filename3) -> Answer<fileid3> {
        let found = self.0.node(dir).and_then(|dir| dir.find(name));
        found.map(|node| node.attr().ino.get()).map_err(status)
    }

    async fn getattr(&self, ino: fileid3) -> Answer<fattr3> {
        self.0.node(ino).map(|node| fattr(&node.attr())).map_err(status)
    }

    async fn setattr(&self, ino: fileid3, asked: sattr3) -> Answer<fattr3> {
        let wcc = self.0.node(ino).and_then(|node| node.set(&set(&asked)));
        wcc.map(|wcc| fattr(&wcc.after)).map_err(status)
    }

    async fn read(&self, ino: fileid3, offset: u64, count: u32) -> Answer<(Vec<u8>, bool)> {
        self.0.node(ino).and_then(|node| node.read_copied(offset, count)).map_err(status)
    }

    async fn write(&self, ino: fileid3, offset: u64, data: &[u8]) -> Answer<fattr3> {
        let wcc = self.0.node(ino).and_then(|node| node.write(offset, [data]));
        wcc.map(|wcc| fattr(&wcc.after)).map_err(status)
    }

    async fn create(
        &self,
        dir: fileid3,
        name: &filename3,
        asked: sattr3,
    ) -> Answer<(fileid3, fattr3)> {
        self.add(dir, name, Kind::Regular, &set(&asked))
    }

    async fn create_exclusive(&self, dir: fileid3, name: &filename3) -> Answer<fileid3> {
        self.add(dir, name, Kind::Regular, &SetAttr::default()).map(|(ino, _)| ino)
    }

    async fn mkdir(&self, dir: fileid3, name: &filename3) -> Answer<(fileid3, fattr3)> {
        self.add(dir, name, Kind::Directory, &SetAttr::default())
    }

    async fn remove(&self, dir: fileid3, name: &filename3) -> Answer<()> {
        let removed = self.0.node(dir).and_then(|dir| self.0.remove(&dir, name));
        removed.map(drop).map_err(status)
    }

    async fn rename(&self, _: fileid3, _: &filename3, _: fileid3, _: &filename3) -> Answer<()> {
        Err(nfsstat3::NFS3ERR_NOTSUPP)
    }

    async fn readdir(&self, dir: fileid3, after: fileid3, max: usize) -> Answer<ReadDirResult> {
        let mut entries = Vec::new();
        let dir = self.0.node(dir).map_err(status)?;
        let listed = dir.list(after + COOKIE_FIRST, |_, name, attr| {
            if entries.len() == max {
                return false;
            }
            let (fileid, name) = (attr.ino.get(), name[..].into());
            entries.push(DirEntry { fileid, name, attr: fattr(&attr) });
            true
        });
        let end = listed.map_err(status)?;
        Ok(ReadDirResult { entries, end })
    }

    async fn symlink(
        &self,
        _: fileid3,
        _: &filename3,
        _: &nfspath3,
        _: &sattr3,
    ) -> Answer<(fileid3, fattr3)> {
        Err(nfsstat3::NFS3ERR_NOTSUPP)
    }

    async fn readlink(&self, _: fileid3) -> Answer<nfspath3> {
        Err(nfsstat3::NFS3ERR_NOTSUPP)
    }
}
