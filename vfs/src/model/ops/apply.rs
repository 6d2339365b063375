//! Runs an [`Op`] and reports what came of it.

use super::dump::next_cookie;
use super::{CALLERS, NAMES, Op, Path, SLOTS, Taken, Target, What, XATTR_NAMES};
use crate::{
    Access, At, Attr, Budget, Context, Cookie, Cred, Dac, ErrorKind, Groups, IfExists, Ino, Kind,
    Make, Name, Result, Scope, Segments, Stability, Timestamp, Vfs, Wcc, WriteAt,
};
use bytes::Bytes;

/// What stays between operations: who is asking, and the open handles.
#[derive(Debug)]
pub struct Session<V: Vfs> {
    slots: [Option<V::Handle>; SLOTS],
    cred: Cred,
    dac: Dac,
    with_times: bool,
}

impl<V: Vfs> Session<V> {
    /// A session that begins as root. With times, outcomes hold access,
    /// modification and change times, which only two implementations with the same
    /// clock agree about.
    #[must_use]
    pub fn new(dac: Dac, with_times: bool) -> Self {
        Self { slots: [const { None }; SLOTS], cred: Cred::root(), dac, with_times }
    }

    /// Closes all handles, as the end of a process does.
    pub fn close_all(&mut self) {
        self.slots = [const { None }; SLOTS];
    }

    fn slot(&self, slot: u8) -> Result<&V::Handle> {
        let handle = self.slots.get(usize::from(slot)).and_then(Option::as_ref);
        handle.ok_or_else(|| ErrorKind::BadHandle.into())
    }

    fn seen(&self, attr: &Attr) -> Seen {
        Seen {
            kind: attr.kind,
            mode: attr.mode,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            size: attr.size,
            times: self.with_times.then_some([attr.atime, attr.mtime, attr.ctime]),
        }
    }

    fn changed(&self, wcc: &Wcc) -> Outcome {
        Outcome::Changed { size_before: wcc.before_size, after: self.seen(&wcc.after) }
    }
}

/// What of an [`Attr`] two implementations agree about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its kind.
    pub kind: Kind,
    /// Permission, set-id and sticky bits.
    pub mode: u16,
    /// Number of names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length.
    pub size: u64,
    /// Access, modification and change time, when the session compares times.
    pub times: Option<[Timestamp; 3]>,
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It worked, and there is no more to say.
    Done,
    /// It failed.
    Failed(ErrorKind),
    /// Attributes.
    Found(Seen),
    /// What a change left behind.
    Changed {
        /// The length before.
        size_before: u64,
        /// The attributes after.
        after: Seen,
    },
    /// What a rename left behind: the old and the new directory.
    Renamed(Seen, Seen),
    /// What was created, and the directory it is in.
    Made(Seen, Seen),
    /// Data, and whether it reached the end of the file.
    Data(Vec<u8>, bool),
    /// How many bytes.
    Count(u64),
    /// Which permissions.
    Granted(Access),
    /// A target or value.
    Bytes(Bytes),
    /// Names, sorted.
    Names(Vec<(Bytes, Option<Kind>)>),
}

/// Runs `op`.
pub async fn apply<V: Vfs>(fs: &V, session: &mut Session<V>, op: &Op) -> Outcome {
    let cred = session.cred.clone();
    let cx = Context { cred: &cred, dac: session.dac, op: None };
    let result = match op {
        Op::Become(caller) => {
            session.cred = caller_cred(*caller);
            Ok(Outcome::Done)
        }
        Op::Close(slot) => {
            if let Some(slot) = session.slots.get_mut(usize::from(*slot)) {
                *slot = None;
            }
            Ok(Outcome::Done)
        }
        Op::Create { .. } | Op::Open { .. } => open(fs, cx, session, op).await,
        Op::Lookup(_)
        | Op::Parent(_)
        | Op::Make { .. }
        | Op::Link { .. }
        | Op::Unlink(_)
        | Op::Rmdir(_)
        | Op::Rename { .. } => name(fs, cx, session, op).await,
        Op::Readdir { dirs, entries } => list(fs, cx, dirs, *entries).await,
        _ => inode(fs, cx, session, op).await,
    };
    result.unwrap_or_else(|error| Outcome::Failed(error.kind()))
}

/// Root, and two users who share group 2000 but not their own groups.
fn caller_cred(caller: u8) -> Cred {
    match u32::from(caller % CALLERS) {
        0 => Cred::root(),
        number => {
            let id = 999 + number;
            Cred { uid: id, gid: Some(id), groups: Groups::Known(Box::new([2000])) }
        }
    }
}

fn name_of(index: u8) -> Result<Name<'static>> {
    Name::new(NAMES[usize::from(index) % NAMES.len()])
}

async fn directory<V: Vfs>(fs: &V, cx: Context<'_>, dirs: &[u8]) -> Result<Ino> {
    let mut dir = Ino::ROOT;
    for name in dirs {
        dir = fs.lookup(cx, dir, name_of(*name)?).await?.attr.ino;
    }
    Ok(dir)
}

async fn place<V: Vfs>(fs: &V, cx: Context<'_>, path: &Path) -> Result<(Ino, Name<'static>)> {
    Ok((directory(fs, cx, &path.dirs).await?, name_of(path.name)?))
}

async fn resolve<V: Vfs>(fs: &V, cx: Context<'_>, path: &Path) -> Result<Ino> {
    let (dir, name) = place(fs, cx, path).await?;
    Ok(fs.lookup(cx, dir, name).await?.attr.ino)
}

async fn reach<'a, V: Vfs>(
    fs: &V,
    cx: Context<'_>,
    session: &'a Session<V>,
    target: &Target,
) -> Result<At<'a, V::Handle>> {
    Ok(match target {
        Target::Path(path) => At::Ino(resolve(fs, cx, path).await?),
        Target::Slot(slot) => At::Open(session.slot(*slot)?),
    })
}

/// Operations that fill a slot. What the slot held is closed first, whether or
/// not the new handle comes to be.
async fn open<V: Vfs>(
    fs: &V,
    cx: Context<'_>,
    session: &mut Session<V>,
    op: &Op,
) -> Result<Outcome> {
    match op {
        Op::Create { path, mode, size, taken, slot } => {
            if let Some((slot, _)) = slot {
                session.slots[usize::from(*slot) % SLOTS] = None;
            }
            let (dir, name) = place(fs, cx, path).await?;
            let attr = crate::SetAttr { mode: Some(*mode), size: *size, ..Default::default() };
            let if_exists = match taken {
                Taken::Reuse => IfExists::Reuse,
                Taken::Fail => IfExists::Fail,
                Taken::SameVerifier(verifier) => IfExists::SameVerifier([*verifier; 8]),
            };
            let flags = slot.map(|(_, flags)| flags);
            let made = fs.create(cx, dir, name, &attr, if_exists, flags).await?;
            let outcome =
                Outcome::Made(session.seen(&made.entry.attr), session.seen(&made.dir.after));
            if let Some((slot, _)) = slot {
                session.slots[usize::from(*slot) % SLOTS] = made.handle;
            }
            Ok(outcome)
        }
        Op::Open { path, flags, slot } => {
            session.slots[usize::from(*slot) % SLOTS] = None;
            let ino = resolve(fs, cx, path).await?;
            let handle = fs.open(cx, ino, *flags).await?;
            session.slots[usize::from(*slot) % SLOTS] = Some(handle);
            Ok(Outcome::Done)
        }
        _ => Err(ErrorKind::Invalid.into()),
    }
}

/// Operations on names.
async fn name<V: Vfs>(fs: &V, cx: Context<'_>, session: &Session<V>, op: &Op) -> Result<Outcome> {
    let (made, dir) = match op {
        Op::Lookup(path) => {
            let (dir, name) = place(fs, cx, path).await?;
            let found = fs.lookup(cx, dir, name).await?;
            return Ok(Outcome::Found(session.seen(&found.attr)));
        }
        Op::Parent(path) => {
            let ino = resolve(fs, cx, path).await?;
            return Ok(Outcome::Found(session.seen(&fs.parent(cx, ino).await?.attr)));
        }
        Op::Make { path, what, mode } => {
            let (dir, name) = place(fs, cx, path).await?;
            let attr = crate::SetAttr { mode: Some(*mode), ..Default::default() };
            let target;
            let what = match what {
                What::Directory => Make::Directory,
                What::Symlink(len) => {
                    target = vec![b't'; usize::from(*len)];
                    Make::Symlink { target: &target }
                }
                What::Fifo => Make::Node(Kind::Fifo),
                What::Device => Make::Node(Kind::CharDevice { major: 1, minor: 3 }),
            };
            let made = fs.make(cx, dir, name, what, &attr).await?;
            (made.entry, made.dir)
        }
        Op::Link { from, to } => {
            let ino = resolve(fs, cx, from).await?;
            let (dir, name) = place(fs, cx, to).await?;
            let made = fs.link(cx, ino, dir, name).await?;
            (made.entry, made.dir)
        }
        Op::Unlink(path) => {
            let (dir, name) = place(fs, cx, path).await?;
            return Ok(session.changed(&fs.unlink(cx, dir, name).await?));
        }
        Op::Rmdir(path) => {
            let (dir, name) = place(fs, cx, path).await?;
            return Ok(session.changed(&fs.rmdir(cx, dir, name).await?));
        }
        Op::Rename { from, to, mode } => {
            let (from, to) = (place(fs, cx, from).await?, place(fs, cx, to).await?);
            let (old, new) = fs.rename(cx, from, to, *mode).await?;
            return Ok(Outcome::Renamed(session.seen(&old.after), session.seen(&new.after)));
        }
        _ => return Err(ErrorKind::Invalid.into()),
    };
    Ok(Outcome::Made(session.seen(&made.attr), session.seen(&dir.after)))
}

async fn list<V: Vfs>(fs: &V, cx: Context<'_>, dirs: &[u8], entries: u32) -> Result<Outcome> {
    let dir = directory(fs, cx, dirs).await?;
    let budget = Budget { entries, name_bytes: 4096, with_attr: false };
    let (mut names, mut after) = (Vec::new(), Cookie::default());
    loop {
        let page = fs.readdir(cx, At::Ino(dir), after, budget).await?;
        let next = next_cookie(&page, after)?;
        names.extend(page.entries.into_iter().map(|entry| (entry.name, Some(entry.kind))));
        match next {
            Some(cookie) => after = cookie,
            None => break,
        }
    }
    names.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Outcome::Names(names))
}

/// Operations on one inode, or two.
async fn inode<V: Vfs>(fs: &V, cx: Context<'_>, session: &Session<V>, op: &Op) -> Result<Outcome> {
    match op {
        Op::Getattr(target) => {
            let at = reach(fs, cx, session, target).await?;
            Ok(Outcome::Found(session.seen(&fs.getattr(cx, at).await?.attr)))
        }
        Op::Setattr { target, set } => {
            let at = reach(fs, cx, session, target).await?;
            Ok(session.changed(&fs.setattr(cx, at, set).await?))
        }
        Op::Access { path, want } => {
            let ino = resolve(fs, cx, path).await?;
            Ok(Outcome::Granted(fs.access(cx, ino, Access(*want)).await?))
        }
        Op::Readlink(path) => {
            let ino = resolve(fs, cx, path).await?;
            Ok(Outcome::Bytes(fs.readlink(cx, ino).await?))
        }
        Op::Xattr { path, name } => {
            let ino = resolve(fs, cx, path).await?;
            Ok(Outcome::Bytes(fs.xattr(cx, ino, xattr_name(*name)).await?))
        }
        Op::SetXattr { path, name, value, mode } => {
            let ino = resolve(fs, cx, path).await?;
            let value = value.map(|(len, fill)| Bytes::from(vec![fill; len as usize]));
            fs.set_xattr(cx, ino, xattr_name(*name), value, *mode).await?;
            Ok(Outcome::Done)
        }
        Op::Xattrs(path) => {
            let ino = resolve(fs, cx, path).await?;
            let mut names = fs.xattrs(cx, ino).await?;
            names.sort_unstable();
            Ok(Outcome::Names(names.into_iter().map(|name| (name, None)).collect()))
        }
        _ => data(fs, cx, session, op).await,
    }
}

fn xattr_name(index: u8) -> &'static [u8] {
    XATTR_NAMES[usize::from(index) % XATTR_NAMES.len()]
}

/// Bytes that show where in which write they came from.
fn pattern(len: u32, fill: u8) -> Bytes {
    (0..len).map(|at| fill.wrapping_add((at % 251) as u8)).collect()
}

/// Operations on data.
async fn data<V: Vfs>(fs: &V, cx: Context<'_>, session: &Session<V>, op: &Op) -> Result<Outcome> {
    match op {
        Op::Read { target, offset, len } => {
            let at = reach(fs, cx, session, target).await?;
            let read = fs.read(cx, at, *offset, *len).await?;
            Ok(Outcome::Data(read.data.into_contiguous().to_vec(), read.eof))
        }
        Op::Write { target, offset, len, fill } => {
            let at = reach(fs, cx, session, target).await?;
            let data = pattern(*len, *fill);
            let middle = data.len() / 3;
            let data = Segments::from(vec![data.slice(..middle), data.slice(middle..)]);
            let place = offset.map_or(WriteAt::End, WriteAt::Offset);
            let written = fs.write(cx, at, place, data, Stability::Buffered).await?;
            if written.count != *len {
                return Ok(Outcome::Count(written.count.into()));
            }
            Ok(session.changed(&written.wcc))
        }
        Op::Allocate { target, offset, len, what } => {
            let at = reach(fs, cx, session, target).await?;
            Ok(session.changed(&fs.allocate(cx, at, *offset, *len, *what).await?))
        }
        Op::Copy { from, to, len } => {
            let source = reach(fs, cx, session, &from.0).await?;
            let target = reach(fs, cx, session, &to.0).await?;
            let count = fs.copy(cx, (source, from.1), (target, to.1), *len).await?;
            Ok(Outcome::Count(count))
        }
        Op::Sync(target) => {
            let file = reach(fs, cx, session, target).await?;
            let scope = Scope::Range { file, offset: 0, len: 0, data_only: false };
            fs.sync(cx, scope, Stability::Journaled).await?;
            Ok(Outcome::Done)
        }
        Op::SyncVolume => {
            fs.sync(cx, Scope::Volume, Stability::Journaled).await?;
            Ok(Outcome::Done)
        }
        _ => Err(ErrorKind::Invalid.into()),
    }
}
