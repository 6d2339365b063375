//! What each request means in terms of the trait, free of sockets and threads.
//!
//! Permissions are checked by the file system, for whoever attached
//! ([`vfs::Dac::Enforce`]); what is done through an open fid has the authority of its
//! handle.

mod attach;
mod attrs;
mod data;
mod dirs;
mod locks;
mod names;
mod xattrs;

use crate::export::Export;
use crate::fids::{Fid, Fids};
use crate::locks::{Held, everything, next_client};
use crate::places::{Places, Total};
use crate::wire::{
    IO_OVERHEAD, MSIZE_MAX, MSIZE_MIN, Message, Reply, Request, VERSION, VERSION_UNKNOWN, kind,
};
use crate::xattrs::Room;
use listen::{Peer, Probation};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use vfs::{At, ClientId, Context, Cred, Dac, ErrorKind, Ino, Limits, Name, Result, Vfs};

/// The smallest alignment worth it.
const PAGE: u32 = 4096;

/// One connection's view of a file system.
pub(crate) struct Session<V: Vfs> {
    fs: Arc<V>,
    export: Arc<Export>,
    peer: Peer,
    limits: Limits,
    client: ClientId,
    fids: Fids<V::Handle>,
    /// For those of them that are open.
    open_places: Arc<Places>,
    held: Held,
    xattr_room: Room,
    /// Zero until a version was agreed on.
    msize: AtomicU32,
    /// Passed by attaching.
    probation: Probation,
}

fn context(cred: &Cred) -> Context<'_> {
    Context { cred, dac: Dac::Enforce, op: None }
}

/// A reply that breaks the trait's contract.
fn broken_contract(what: &'static str) -> vfs::Error {
    vfs::Error::because(ErrorKind::Io, what)
}

impl<V: Vfs> Session<V> {
    pub(crate) fn new(fs: Arc<V>, export: Arc<Export>, peer: Peer, total: &Total) -> Self {
        Self {
            limits: fs.limits(),
            fs,
            peer,
            client: next_client(),
            fids: Fids::new(total.fids(&export.bounds)),
            open_places: total.open(&export.bounds),
            held: Held::default(),
            xattr_room: Room::new(export.bounds.xattr_bytes_max),
            msize: AtomicU32::new(0),
            probation: Probation::begin(export.strangers_wait_max),
            export,
        }
    }

    /// Whether somebody has attached, and until when they should.
    pub(crate) fn probation(&self) -> &Probation {
        &self.probation
    }

    /// How long it may take until somebody has.
    pub(crate) fn strangers_wait_max(&self) -> Duration {
        self.export.strangers_wait_max
    }

    /// The longest message, once a version was agreed on.
    pub(crate) fn msize(&self) -> Option<u32> {
        Some(self.msize.load(Ordering::Acquire)).filter(|msize| *msize > 0)
    }

    /// Begins the session anew. No other request may be under way.
    pub(crate) async fn negotiate(&self, message: Message) -> Reply {
        self.end().await;
        self.msize.store(0, Ordering::Release);
        let Ok(Request::Version { msize, version }) = Request::of(message) else {
            return Reply::error(ErrorKind::Invalid.linux_errno());
        };
        let msize = msize.min(MSIZE_MAX);
        let is_spoken = version == VERSION && msize >= MSIZE_MIN;
        if is_spoken {
            self.msize.store(msize, Ordering::Release);
        }
        let version = if is_spoken { VERSION } else { VERSION_UNKNOWN };
        Reply::to(kind::VERSION, 32).u32(msize).string(version)
    }

    /// Drops everything a client had: its locks and its fids.
    pub(crate) async fn end(&self) {
        let root = Cred::root();
        for (ino, owner) in self.held.take_all() {
            // What is gone has no locks.
            let at = At::Ino(ino);
            if let Err(error) = self.fs.unlock(context(&root), at, &everything(owner)).await {
                log::debug!("unlocking inode {}: {error}", ino.get());
            }
        }
        self.fids.clear();
    }

    /// Does what a message asks.
    pub(crate) async fn answer(&self, message: Message) -> Reply {
        let asked = message.kind;
        let done = match Request::of(message) {
            Ok(request) => self.perform(request).await,
            Err(error) => Err(error),
        };
        done.unwrap_or_else(|error| {
            if error.is_alarming() {
                log::error!("message {asked} failed: {error}");
            } else {
                log::debug!("message {asked}: {error}");
            }
            Reply::error(error.kind().linux_errno())
        })
    }

    async fn perform(&self, request: Request) -> Result<Reply> {
        if self.msize().is_none() {
            return Err(vfs::Error::because(ErrorKind::Invalid, "no version was agreed on"));
        }
        match request {
            Request::Auth => Err(ErrorKind::NotSupported.into()),
            Request::Attach { fid, auth_fid, user, tree, uid } => {
                self.attach(fid, auth_fid, (uid, &user), &tree).await
            }
            Request::Walk { fid, new_fid, names } => self.walk(fid, new_fid, &names).await,
            Request::Open { fid, flags } => self.open(fid, flags).await,
            Request::Read { fid, offset, count } => self.read(fid, offset, count).await,
            Request::Write { fid, offset, data } => self.write(fid, offset, data).await,
            Request::Clunk { fid } => self.clunk(fid).await,
            Request::GetAttr { fid } => self.getattr(fid).await,
            Request::ReadDir { fid, offset, count } => self.readdir(fid, offset, count).await,
            Request::XattrWalk { fid, new_fid, name } => self.xattr(fid, new_fid, &name).await,
            Request::ReadLink { fid } => self.readlink(fid).await,
            Request::Sync { fid, data_only } => self.sync(fid, data_only).await,
            Request::StatFs { fid } => self.statfs(fid).await,
            Request::Lock(asked) => self.lock(&asked).await,
            Request::GetLock(asked) => self.conflict(&asked).await,
            // The connection answers these.
            Request::Version { .. } | Request::Flush { .. } => Err(ErrorKind::Invalid.into()),
            changing => self.change(changing).await,
        }
    }

    /// The requests that change names or attributes.
    async fn change(&self, request: Request) -> Result<Reply> {
        // A fid that is removed is gone whatever becomes of the file.
        let removed = match request {
            Request::Remove { fid } => Some(self.fids.remove(fid)?),
            _ => None,
        };
        if self.export.read_only {
            return Err(ErrorKind::ReadOnly.into());
        }
        match request {
            Request::Create { fid, name, flags, mode, gid } => {
                self.create(fid, &name, flags, (mode, gid)).await
            }
            Request::Remove { fid } => match removed {
                Some(removed) => self.remove(fid, removed).await,
                None => Err(ErrorKind::BadHandle.into()),
            },
            Request::SetAttr(set) => self.setattr(&set).await,
            Request::XattrCreate { fid, name, size, flags } => {
                self.set_xattr(fid, &name, size, flags)
            }
            Request::Symlink { dir, name, target, gid } => {
                self.make_symlink(dir, &name, &target, gid).await
            }
            Request::MakeNode { dir, name, mode, major, minor, gid } => {
                self.make_node(dir, &name, (mode, gid), (major, minor)).await
            }
            Request::MakeDir { dir, name, mode, gid } => {
                self.make_dir(dir, &name, (mode, gid)).await
            }
            Request::Link { dir, fid, name } => self.link(dir, fid, &name).await,
            Request::Rename { fid, dir, name } => self.rename_fid(fid, dir, &name).await,
            Request::RenameAt { from, to } => self.rename((from.0, &from.1), (to.0, &to.1)).await,
            Request::UnlinkAt { dir, name, flags } => self.unlink(dir, &name, flags).await,
            _ => Err(ErrorKind::NotSupported.into()),
        }
    }

    fn fid(&self, number: u32) -> Result<Arc<Fid<V::Handle>>> {
        self.fids.get(number)
    }

    /// Most bytes of a reply besides the header of one that carries data.
    fn data_max(&self) -> u32 {
        self.msize().unwrap_or(MSIZE_MIN) - crate::wire::DATA_HEADER_LEN
    }

    /// How much a client should read or write at a time: whole blocks, as many as fit
    /// in a message.
    fn io_unit(&self) -> u32 {
        let room = self.msize().unwrap_or(MSIZE_MIN) - IO_OVERHEAD;
        let unit = [self.limits.preferred, PAGE].into_iter().find(|unit| (1..=room).contains(unit));
        unit.map_or(room, |unit| room - room % unit)
    }
}

/// Where a request through this fid is directed.
fn at<H>(fid: &Fid<H>) -> At<'_, H> {
    match fid.opened() {
        Some(opened) => At::Open(&opened.handle),
        None => At::Ino(fid.ino),
    }
}

/// A directory that is named in, and the name.
fn named<'a, H>(dir: &Fid<H>, name: &'a [u8]) -> Result<(Ino, Name<'a>)> {
    Ok((dir.ino, Name::new(name)?))
}
