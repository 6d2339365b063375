//! The inodes, and what every operation on them has in common.
//!
//! Invariants: an inode is here as long as it has a name or a handle; `nlink` of
//! a directory is 2 plus its subdirectories, and 0 once it is removed; numbers
//! only rise. An operation checks everything before it changes anything.

use super::sparse::Sparse;
use super::{Clock, ModelOptions, Reach};
use crate::rules;
use crate::{
    Access, Attr, Context, Entry, ErrorKind, Ino, Kind, Result, Timestamp, Validity, VolumeStat,
    Wcc, XattrMode,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;

/// What a directory's length is said to be.
const DIRECTORY_SIZE: u64 = 4096;
/// What `statfs` says there is room for.
const VOLUME_BYTES: u64 = 1 << 50;
const VOLUME_INODES: u64 = 1 << 40;

pub(super) struct State {
    pub(super) inodes: BTreeMap<Ino, Inode>,
    /// Inodes that went away and whose locks have to be forgotten.
    pub(super) gone: Vec<Ino>,
    pub(super) options: ModelOptions,
    ino_last: u64,
    clock: Clock,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("inodes", &self.inodes).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct Inode {
    pub(super) attr: Attr,
    pub(super) body: Body,
    pub(super) xattrs: BTreeMap<Bytes, Bytes>,
    pub(super) handles: u64,
}

#[derive(Debug)]
pub(super) enum Body {
    File(Sparse),
    Dir(Dir),
    Symlink(Bytes),
    Node,
}

#[derive(Debug)]
pub(super) struct Dir {
    pub(super) parent: Ino,
    pub(super) names: BTreeMap<Bytes, Dentry>,
    /// Cookies rise and are never used twice, so a listing can go on wherever it
    /// stopped, whatever has come and gone since.
    pub(super) cookies: BTreeMap<u64, Bytes>,
    cookie_next: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Dentry {
    pub(super) ino: Ino,
    pub(super) cookie: u64,
}

impl Dir {
    pub(super) fn new(parent: Ino) -> Self {
        let cookie_next = crate::Cookie::FIRST_ENTRY;
        Self { parent, names: BTreeMap::new(), cookies: BTreeMap::new(), cookie_next }
    }

    /// Points `name` at `ino`; a name that was there keeps its cookie.
    pub(super) fn put(&mut self, name: &[u8], ino: Ino) {
        if let Some(dentry) = self.names.get_mut(name) {
            dentry.ino = ino;
            return;
        }
        let (name, cookie) = (Bytes::copy_from_slice(name), self.cookie_next);
        self.cookie_next += 1;
        self.names.insert(name.clone(), Dentry { ino, cookie });
        self.cookies.insert(cookie, name);
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        if let Some(dentry) = self.names.remove(name) {
            self.cookies.remove(&dentry.cookie);
        }
    }
}

/// What an operation changes about an inode.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Touch {
    /// Its data or entries.
    Data,
    /// Only its attributes.
    Attr,
}

impl State {
    pub(super) fn new(clock: Clock, options: ModelOptions) -> Self {
        let time = clock();
        let mut state =
            Self { inodes: BTreeMap::new(), gone: Vec::new(), options, ino_last: 0, clock };
        let mode = options.root_mode & 0o7777;
        let owner = rules::FirstAttributes { mode, uid: 0, gid: 0 };
        state.insert(Kind::Directory, owner, Body::Dir(Dir::new(Ino::ROOT)), time);
        state
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Adds an inode that has, or is about to get, one name.
    pub(super) fn insert(
        &mut self,
        kind: Kind,
        first: rules::FirstAttributes,
        body: Body,
        time: Timestamp,
    ) -> Ino {
        self.ino_last += 1;
        let ino = Ino::new(self.ino_last).unwrap_or(Ino::ROOT);
        let (nlink, size) = match &body {
            Body::Dir(_) => (2, DIRECTORY_SIZE),
            Body::Symlink(target) => (1, target.len() as u64),
            Body::File(_) | Body::Node => (1, 0),
        };
        let rules::FirstAttributes { mode, uid, gid } = first;
        let attr = Attr {
            ino,
            kind,
            mode,
            nlink,
            uid,
            gid,
            size,
            used: 0,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            change: 1,
        };
        let inode = Inode { attr, body, xattrs: BTreeMap::new(), handles: 0 };
        self.inodes.insert(ino, inode);
        ino
    }

    pub(super) fn inode(&self, ino: Ino) -> Result<&Inode> {
        self.inodes.get(&ino).ok_or_else(|| ErrorKind::Stale.into())
    }

    pub(super) fn inode_mut(&mut self, ino: Ino) -> Result<&mut Inode> {
        self.inodes.get_mut(&ino).ok_or_else(|| ErrorKind::Stale.into())
    }

    pub(super) fn attr(&self, ino: Ino) -> Result<&Attr> {
        Ok(&self.inode(ino)?.attr)
    }

    pub(super) fn entry(&self, ino: Ino) -> Result<Entry> {
        Ok(Entry { attr: self.attr(ino)?.clone(), validity: Validity::UntilChanged })
    }

    pub(super) fn dir(&self, ino: Ino) -> Result<&Dir> {
        match &self.inode(ino)?.body {
            Body::Dir(dir) => Ok(dir),
            _ => Err(ErrorKind::NotDirectory.into()),
        }
    }

    pub(super) fn dir_mut(&mut self, ino: Ino) -> Result<&mut Dir> {
        match &mut self.inode_mut(ino)?.body {
            Body::Dir(dir) => Ok(dir),
            _ => Err(ErrorKind::NotDirectory.into()),
        }
    }

    pub(super) fn file(&self, ino: Ino) -> Result<&Sparse> {
        match &self.inode(ino)?.body {
            Body::File(file) => Ok(file),
            Body::Dir(_) => Err(ErrorKind::IsDirectory.into()),
            _ => Err(ErrorKind::Invalid.into()),
        }
    }

    /// Stamps one operation's time on everything it changes.
    pub(super) fn touch(&mut self, touched: &[(Ino, Touch)]) -> Timestamp {
        let ctimes =
            touched.iter().filter_map(|(ino, _)| self.inodes.get(ino)).map(|i| i.attr.ctime);
        let time = rules::op_time(self.now(), ctimes);
        self.stamp(touched, time);
        time
    }

    fn stamp(&mut self, touched: &[(Ino, Touch)], time: Timestamp) {
        for (index, (ino, touch)) in touched.iter().enumerate() {
            let Some(inode) = self.inodes.get_mut(ino) else { continue };
            inode.attr.ctime = time;
            if *touch == Touch::Data {
                inode.attr.mtime = time;
            }
            // Once per operation, though a rename may name a directory twice.
            if !touched[..index].iter().any(|(earlier, _)| earlier == ino) {
                inode.attr.change += 1;
            }
        }
    }

    /// Notes that `ino` was read.
    pub(super) fn accessed(&mut self, ino: Ino) -> Result<()> {
        let now = self.now();
        let attr = &mut self.inode_mut(ino)?.attr;
        if rules::atime_is_due(attr, now) {
            attr.atime = now;
        }
        Ok(())
    }

    /// Forgets an inode that nothing refers to any more.
    pub(super) fn reap(&mut self, ino: Ino) {
        if self.inodes.get(&ino).is_some_and(|inode| inode.attr.nlink == 0 && inode.handles == 0) {
            self.inodes.remove(&ino);
            self.gone.push(ino);
        }
    }

    pub(super) fn close(&mut self, ino: Ino) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.handles -= 1;
        }
        self.reap(ino);
    }

    /// Checks that the data of a regular file may be read or written.
    pub(super) fn may_use(&self, cx: Context<'_>, at: Reach, want: Access) -> Result<()> {
        let attr = self.attr(at.ino)?;
        let Some(flags) = at.opened else {
            return rules::may_change_data(cx.cred, attr, want, cx.dac);
        };
        let refused = (want.contains(Access::READ) && !flags.read)
            || (want.contains(Access::WRITE) && !flags.write);
        if refused {
            return Err(ErrorKind::BadHandle.into());
        }
        self.file(at.ino).map(drop)
    }

    pub(super) fn wcc(&self, before: &Attr) -> Result<Wcc> {
        Ok(Wcc::new(before, self.attr(before.ino)?.clone()))
    }

    pub(super) fn readlink(&mut self, ino: Ino) -> Result<Bytes> {
        let Body::Symlink(target) = &self.inode(ino)?.body else {
            return Err(ErrorKind::Invalid.into());
        };
        let target = target.clone();
        self.accessed(ino)?;
        Ok(target)
    }

    pub(super) fn xattr(&self, cx: Context<'_>, ino: Ino, name: &[u8]) -> Result<Bytes> {
        let inode = self.inode(ino)?;
        rules::may_read_xattr(cx.cred, &inode.attr, name, cx.dac)?;
        inode.xattrs.get(name).cloned().ok_or_else(|| ErrorKind::NoData.into())
    }

    pub(super) fn set_xattr(
        &mut self,
        cx: Context<'_>,
        ino: Ino,
        name: &[u8],
        value: Option<Bytes>,
        mode: XattrMode,
    ) -> Result<()> {
        let inode = self.inode_mut(ino)?;
        let value_len = value.as_ref().map(Bytes::len);
        rules::may_write_xattr(cx.cred, &inode.attr, name, value_len, cx.dac)?;
        let Some(value) = value else {
            inode.xattrs.remove(name).ok_or(ErrorKind::NoData)?;
            self.touch(&[(ino, Touch::Attr)]);
            return Ok(());
        };
        rules::xattr_mode_allows(mode, inode.xattrs.contains_key(name))?;
        let others = inode.xattrs.iter().filter(|(other, _)| *other != name);
        let others: usize = others.map(|(name, value)| name.len() + value.len()).sum();
        rules::xattr_fits(others + name.len() + value.len())?;
        inode.xattrs.insert(Bytes::copy_from_slice(name), value);
        self.touch(&[(ino, Touch::Attr)]);
        Ok(())
    }

    pub(super) fn xattrs(&self, cx: Context<'_>, ino: Ino) -> Result<Vec<Bytes>> {
        let names = self.inode(ino)?.xattrs.keys();
        Ok(names.filter(|name| rules::xattr_is_listed(cx.cred, name)).cloned().collect())
    }

    pub(super) fn statfs(&self) -> VolumeStat {
        let used: u64 = self.inodes.values().map(|inode| inode.attr.used).sum();
        VolumeStat {
            bytes_total: VOLUME_BYTES,
            bytes_free: VOLUME_BYTES.saturating_sub(used),
            inodes_total: VOLUME_INODES,
            inodes_free: VOLUME_INODES - self.inodes.len() as u64,
        }
    }
}
