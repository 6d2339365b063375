//! A [`Vfs`] by 9P messages, for holding a served file system to what the trait says.
//!
//! It does what Linux's client does: it attaches as whoever asks, walks there by names,
//! and checks what a kernel checks before it asks anybody. What no message says is done
//! with several, or refused here:
//!
//! * owners, sizes and times at creation follow it, and undo it when they fail;
//! * `SetAttr::only_if_ctime` is looked at before the change;
//! * the state before and after an operation is asked for before and after it;
//! * an append through a handle is a write at the end that was just asked for;
//! * there is no message for holes, copies, and renaming without replacing.

#[path = "remote/fs.rs"]
mod fs;
#[path = "remote/names.rs"]
mod names;

use crate::p9::client::{Change, Client, EEXIST, NO_ID, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY, Stat};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use vfs::{
    At, Attr, Context, Entry, ErrorKind, Ino, Kind, Limits, Lock, LockOwner, LockSpace, OpenFlags,
    Result, SetAttr, SetTime, Timestamp, Validity, Wcc,
};

/// The answer where nothing is known of earlier lives.
const VERIFIER: vfs::WriteVerifier = vfs::WriteVerifier(1);

/// A client; clones share everything.
#[derive(Clone)]
pub(crate) struct Remote {
    shared: Arc<Mutex<Shared>>,
    limits: Limits,
}

struct Shared {
    client: Client,
    /// The root directory, for each user.
    roots: HashMap<u32, u32>,
    /// Fids that are not open, root's, by which everything is found again.
    known: HashMap<Ino, u32>,
    /// The directory and the name that something was last found by.
    names: HashMap<Ino, (Ino, Vec<u8>)>,
    /// Open files, one for each owner of locks.
    lockers: HashMap<(Ino, LockOwner, LockSpace), u32>,
}

/// An open file or directory.
pub(crate) struct Handle {
    remote: Remote,
    fid: u32,
    ino: Ino,
    flags: OpenFlags,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.remote.shared().client.clunk(self.fid).unwrap();
    }
}

/// The kind behind an error number.
fn fail(errno: u32) -> vfs::Error {
    let kind = ErrorKind::from_linux_errno(errno.cast_signed());
    vfs::Error::because(kind.unwrap_or(ErrorKind::Io), format!("error {errno}"))
}

fn ino_of(path: u64) -> Ino {
    Ino::new(path).unwrap()
}

fn attr_of(stat: &Stat) -> Attr {
    let (major, minor) = (
        (stat.rdev >> 8) as u32 & 0xfff,
        (stat.rdev as u32 & 0xff) | ((stat.rdev >> 12) as u32 & 0xf_ff00),
    );
    let kind = match stat.mode & 0o170_000 {
        0o010_000 => Kind::Fifo,
        0o020_000 => Kind::CharDevice { major, minor },
        0o040_000 => Kind::Directory,
        0o060_000 => Kind::BlockDevice { major, minor },
        0o100_000 => Kind::Regular,
        0o120_000 => Kind::Symlink,
        0o140_000 => Kind::Socket,
        other => panic!("a mode of {other:o}"),
    };
    let time = |index: usize| {
        let (seconds, nanoseconds) = stat.times[index];
        Timestamp { seconds: seconds.cast_signed(), nanoseconds: nanoseconds as u32 }
    };
    assert_eq!((stat.valid, stat.generation, stat.qid.version), (0x3fff, 0, 0));
    Attr {
        ino: ino_of(stat.qid.path),
        kind,
        mode: (stat.mode & 0o7777) as u16,
        nlink: stat.nlink as u32,
        uid: stat.uid,
        gid: stat.gid,
        size: stat.size,
        used: stat.blocks * 512,
        atime: time(0),
        mtime: time(1),
        ctime: time(2),
        btime: time(3),
        change: stat.data_version,
    }
}

fn change_of(set: &SetAttr) -> Change {
    let time = |time: Option<SetTime>, bit: u32, bit_set: u32| match time {
        None => (0, (0, 0)),
        Some(SetTime::Now) => (bit, (0, 0)),
        Some(SetTime::To(time)) => {
            (bit | bit_set, (time.seconds.cast_unsigned(), time.nanoseconds.into()))
        }
    };
    let (atime_valid, atime) = time(set.atime, 0x10, 0x80);
    let (mtime_valid, mtime) = time(set.mtime, 0x20, 0x100);
    let bit = |is_set, bit| if is_set { bit } else { 0 };
    Change {
        valid: bit(set.mode.is_some(), 1)
            | bit(set.uid.is_some(), 2)
            | bit(set.gid.is_some(), 4)
            | bit(set.size.is_some(), 8)
            | atime_valid
            | mtime_valid,
        mode: set.mode.unwrap_or(0).into(),
        uid: set.uid.unwrap_or(0),
        gid: set.gid.unwrap_or(0),
        size: set.size.unwrap_or(0),
        atime,
        mtime,
    }
}

fn flags_of(flags: OpenFlags) -> u32 {
    let access = match (flags.read, flags.write) {
        (_, false) => O_RDONLY,
        (false, true) => O_WRONLY,
        (true, true) => O_RDWR,
    };
    if flags.truncate { access | O_TRUNC } else { access }
}

impl Shared {
    fn root(&mut self, uid: u32) -> u32 {
        if let Some(fid) = self.roots.get(&uid) {
            return *fid;
        }
        let fid = self.client.fid();
        self.client.attach(fid, uid).unwrap();
        self.roots.insert(uid, fid);
        fid
    }

    /// A fid, the caller's own, for what was found before; for root also if it has no
    /// name any more.
    fn fid(&mut self, uid: u32, ino: Ino) -> Result<u32> {
        let known = self.known.get(&ino).copied();
        if uid == 0 && ino != Ino::ROOT {
            let known = known.ok_or(ErrorKind::Stale)?;
            return self.client.walked(known, &[]).map_err(fail);
        }
        let (mut names, mut at) = (Vec::new(), ino);
        while at != Ino::ROOT {
            let (dir, name) = self.names.get(&at).ok_or(ErrorKind::Stale)?.clone();
            names.push(name);
            at = dir;
        }
        names.reverse();
        let (root, new) = (self.root(uid), self.client.fid());
        let qids = self.client.walk(root, new, &names).map_err(fail)?;
        // Where a walk ends early, the next step fails with the reason.
        if qids.len() < names.len() {
            self.client.walk(root, new, &names[..qids.len()]).map_err(fail)?;
            let reason = self.client.walk(new, new, &names[qids.len()..]);
            self.client.clunk(new).map_err(fail)?;
            return Err(fail(reason.unwrap_err()));
        }
        Ok(new)
    }

    /// Does `work` with a fid of the caller's, which is let go of afterwards.
    fn with<T>(
        &mut self,
        cx: Context<'_>,
        ino: Ino,
        work: impl FnOnce(&mut Client, u32) -> Result<T>,
    ) -> Result<T> {
        let fid = self.fid(cx.cred.uid, ino)?;
        let done = work(&mut self.client, fid);
        self.client.clunk(fid).map_err(fail)?;
        done
    }

    /// The same with a fid that is open, unless a handle is given.
    fn with_open<T>(
        &mut self,
        cx: Context<'_>,
        at: At<'_, Handle>,
        flags: u32,
        work: impl FnOnce(&mut Client, u32) -> Result<T>,
    ) -> Result<T> {
        match at {
            At::Open(handle) => work(&mut self.client, handle.fid),
            At::Ino(ino) => self.with(cx, ino, |client, fid| {
                client.open(fid, flags).map_err(fail)?;
                work(client, fid)
            }),
        }
    }

    fn attr(&mut self, at: At<'_, Handle>) -> Result<Attr> {
        let fid = match at {
            At::Open(handle) => handle.fid,
            At::Ino(Ino::ROOT) => self.root(0),
            At::Ino(ino) => *self.known.get(&ino).ok_or(ErrorKind::Stale)?,
        };
        Ok(attr_of(&self.client.stat(fid).map_err(fail)?))
    }

    /// Remembers something that was found, by a fid of root's.
    fn remember(&mut self, dir: Ino, name: &[u8]) -> Result<Attr> {
        let fid = self.fid(0, dir)?;
        self.client.walk(fid, fid, &[name]).map_err(fail)?;
        let attr = attr_of(&self.client.stat(fid).map_err(fail)?);
        if let Some(old) = self.known.insert(attr.ino, fid) {
            self.client.clunk(old).map_err(fail)?;
        }
        self.names.insert(attr.ino, (dir, name.to_vec()));
        Ok(attr)
    }

    /// Surrounds `work` with the state of the inode before and after it.
    fn around<T>(
        &mut self,
        at: At<'_, Handle>,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<(T, Wcc)> {
        let before = self.attr(at)?;
        let done = work(self)?;
        Ok((done, Wcc::new(&before, self.attr(at)?)))
    }

    /// An open file by which this owner locks.
    fn locker(&mut self, at: At<'_, Handle>, lock: &Lock) -> Result<u32> {
        let ino = match at {
            At::Open(handle) => return Ok(handle.fid),
            At::Ino(ino) => ino,
        };
        if let Some(fid) = self.lockers.get(&(ino, lock.owner, lock.space)) {
            return Ok(*fid);
        }
        let fid = self.fid(0, ino)?;
        self.client.open(fid, O_RDWR).map_err(fail)?;
        self.lockers.insert((ino, lock.owner, lock.space), fid);
        Ok(fid)
    }
}

/// The range as a kernel says it; nothing would mean "to the end".
fn range_of(lock: &Lock) -> Result<(u64, u64)> {
    match lock.space {
        LockSpace::Flock => Ok((0, 0)),
        LockSpace::Posix if lock.start >= lock.end => Err(ErrorKind::Invalid.into()),
        LockSpace::Posix if lock.end == u64::MAX => Ok((lock.start, 0)),
        LockSpace::Posix => Ok((lock.start, lock.end - lock.start)),
    }
}

/// The owner as a kernel says it: a process of a machine.
fn owner_of(lock: &Lock) -> (u32, String) {
    (lock.owner.owner as u32, format!("client {}", lock.owner.client.0))
}

impl Remote {
    /// A client on a connection that has agreed on a version; what cannot be asked for
    /// about the limits is told here.
    pub(crate) fn new(client: Client, limits: Limits) -> Self {
        let shared = Shared {
            client,
            roots: HashMap::new(),
            known: HashMap::new(),
            names: HashMap::new(),
            lockers: HashMap::new(),
        };
        Self { shared: Arc::new(Mutex::new(shared)), limits }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // A case that failed must not fail the others.
        self.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn handle(&self, fid: u32, ino: Ino, flags: OpenFlags) -> Handle {
        Handle { remote: self.clone(), fid, ino, flags }
    }

    fn set(&self, cx: Context<'_>, at: At<'_, Handle>, set: &SetAttr) -> Result<Wcc> {
        // What a kernel answers itself.
        if let At::Open(handle) = at
            && set.size.is_some()
            && !handle.flags.write
        {
            return Err(ErrorKind::Invalid.into());
        }
        let mut shared = self.shared();
        if let Some(expected) = set.only_if_ctime
            && shared.attr(at)?.ctime != expected
        {
            return Err(ErrorKind::NotSync.into());
        }
        let change = change_of(set);
        let wcc = shared.around(at, |shared| match at {
            At::Open(handle) => shared.client.change(handle.fid, &change).map_err(fail),
            At::Ino(ino) => {
                shared.with(cx, ino, |client, fid| client.change(fid, &change).map_err(fail))
            }
        });
        Ok(wcc?.1)
    }
}

fn entry(attr: Attr) -> Entry {
    Entry { attr, validity: Validity::For(Duration::ZERO) }
}
