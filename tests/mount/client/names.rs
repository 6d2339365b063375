//! Names and attributes: finding, making, moving, removing and changing.

use super::{Client, Handle, Node, as_caller, fail, flags_of, kind_of, open_node, path_of, raw};
use bytes::Bytes;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, RenameFlags, SeekFrom, Timespec, Timestamps,
    UTIME_NOW, UTIME_OMIT, makedev,
};
use rustix::process::{Gid, Uid};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use vfs::{
    Access, At, Budget, Context, Cookie, Created, DirEntry, DirPage, Entry, ErrorKind, IfExists,
    Ino, Kind, Make, Name, OpenFlags, RenameMode, Result, SetAttr, SetTime, Wcc,
};

/// Bytes of entries fetched at once.
const LISTING_BYTES: usize = 32 << 10;

/// What is changed, and how it is reached: by descriptor where that was opened for use,
/// by a path where it permits nothing.
enum Target<'a> {
    Open(BorrowedFd<'a>),
    Found(&'a Node),
}

impl Target<'_> {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Open(file) => *file,
            Self::Found(node) => node.as_fd(),
        }
    }

    fn set_size(&self, size: u64) -> Result<()> {
        let len = i64::try_from(size).map_err(|_| ErrorKind::FileTooBig)?;
        match self {
            Self::Open(file) => rustix::fs::ftruncate(file, size),
            Self::Found(node) => raw::truncate(&node.path(), len),
        }
        .map_err(fail)
    }

    fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        rustix::fs::chownat(self.fd(), "", uid, gid, AtFlags::EMPTY_PATH).map_err(fail)
    }

    fn set_mode(&self, mode: u16) -> Result<()> {
        let mode = Mode::from_bits_retain(mode.into());
        match self {
            Self::Open(file) => rustix::fs::fchmod(file, mode),
            Self::Found(node) => rustix::fs::chmod(node.path(), mode),
        }
        .map_err(fail)
    }

    fn set_times(&self, set: &SetAttr) -> Result<()> {
        let times =
            Timestamps { last_access: timespec(set.atime), last_modification: timespec(set.mtime) };
        rustix::fs::utimensat(self.fd(), "", &times, AtFlags::EMPTY_PATH).map_err(fail)
    }

    /// Changes what `set` names. The length first: nearly all that can fail, fails there.
    fn change(&self, set: &SetAttr) -> Result<()> {
        if let Some(size) = set.size {
            self.set_size(size)?;
        }
        if set.uid.is_some() || set.gid.is_some() {
            self.set_owner(set.uid, set.gid)?;
        }
        if let Some(mode) = set.mode {
            self.set_mode(mode)?;
        }
        if set.atime.is_some() || set.mtime.is_some() {
            self.set_times(set)?;
        }
        Ok(())
    }
}

fn timespec(time: Option<SetTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(SetTime::To(time)) => {
            Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() }
        }
    }
}

/// What of `attr` creating with a mode has not done already.
fn left_over(attr: &SetAttr, mode_is_done: bool) -> SetAttr {
    let is_given = attr.uid.is_some() || attr.gid.is_some();
    let mode = attr.mode.filter(|_| is_given || !mode_is_done);
    SetAttr { mode, ..attr.clone() }
}

fn mode_of(attr: &SetAttr) -> Mode {
    Mode::from_bits_retain(attr.mode.unwrap_or(0o600).into())
}

fn look(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(fail)
}

/// Takes back what could not be finished; that it failed is what the caller is told.
fn undo(dir: BorrowedFd<'_>, name: &[u8], flags: AtFlags) {
    let _ = rustix::fs::unlinkat(dir, name, flags);
}

/// Makes something that is not a file.
fn make_what(dir: BorrowedFd<'_>, name: &[u8], what: Make<'_>, mode: Mode) -> Result<()> {
    let (file_type, device) = match what {
        Make::Directory => return rustix::fs::mkdirat(dir, name, mode).map_err(fail),
        Make::Symlink { target } => {
            return rustix::fs::symlinkat(target, dir, name).map_err(fail);
        }
        Make::Node(Kind::Fifo) => (FileType::Fifo, 0),
        Make::Node(Kind::Socket) => (FileType::Socket, 0),
        Make::Node(Kind::CharDevice { major, minor }) => {
            (FileType::CharacterDevice, makedev(major, minor))
        }
        Make::Node(Kind::BlockDevice { major, minor }) => {
            (FileType::BlockDevice, makedev(major, minor))
        }
        Make::Node(Kind::Regular | Kind::Directory | Kind::Symlink) => {
            return Err(ErrorKind::Invalid.into());
        }
    };
    rustix::fs::mknodat(dir, name, file_type, mode, device).map_err(fail)
}

/// What `getdents64` tells of an entry.
struct Listed {
    number: u64,
    file_type: FileType,
    name: Bytes,
    cookie: Cookie,
}

/// The entries after `after` that fit in `budget`, and whether nothing follows.
fn list(dir: BorrowedFd<'_>, after: Cookie, budget: Budget) -> Result<(Vec<Listed>, bool)> {
    rustix::fs::seek(dir, SeekFrom::Start(after.0)).map_err(fail)?;
    let mut buffer = vec![MaybeUninit::uninit(); LISTING_BYTES];
    let mut stream = RawDir::new(dir, &mut buffer);
    let (mut listed, mut name_bytes) = (Vec::new(), 0);
    while let Some(entry) = stream.next() {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        name_bytes += name.len();
        let is_over =
            listed.len() >= budget.entries as usize || name_bytes > budget.name_bytes as usize;
        if is_over && !listed.is_empty() {
            return Ok((listed, false));
        }
        listed.push(Listed {
            number: entry.ino(),
            file_type: entry.file_type(),
            name: Bytes::copy_from_slice(name),
            cookie: Cookie(entry.next_entry_cookie()),
        });
    }
    Ok((listed, true))
}

impl Client {
    pub(super) fn look_up(&self, cx: Context<'_>, dir: Ino, name: &[u8]) -> Result<Entry> {
        let dir = self.nodes().find(dir)?;
        let found = as_caller(cx.cred, || look(dir.as_fd(), name))?;
        self.entry(found.as_fd())
    }

    pub(super) fn find_parent(&self, cx: Context<'_>, dir: Ino) -> Result<Entry> {
        // Above the root of a mount lies something else.
        if dir == Ino::ROOT {
            self.entry(self.nodes().root())
        } else {
            self.look_up(cx, dir, b"..")
        }
    }

    pub(super) fn set(&self, cx: Context<'_>, at: At<'_, Handle>, set: &SetAttr) -> Result<Wcc> {
        let change = || match at {
            At::Open(handle) => {
                as_caller(cx.cred, || Target::Open(handle.file.as_fd()).change(set))
            }
            At::Ino(ino) => {
                let node = self.nodes().find(ino)?;
                as_caller(cx.cred, || Target::Found(&node).change(set))
            }
        };
        if let Some(expected) = set.only_if_ctime
            && self.attr_at(at)?.ctime != expected
        {
            return Err(ErrorKind::NotSync.into());
        }
        Ok(self.around(at, change)?.1)
    }

    pub(super) fn check_access(&self, cx: Context<'_>, ino: Ino, want: Access) -> Result<Access> {
        let node = self.nodes().find(ino)?;
        let kinds = [
            (Access::READ, rustix::fs::Access::READ_OK),
            (Access::WRITE, rustix::fs::Access::WRITE_OK),
            (Access::EXECUTE, rustix::fs::Access::EXEC_OK),
        ];
        as_caller(cx.cred, || {
            let mut granted = Access::default();
            for (one, asked) in kinds.into_iter().filter(|(one, _)| want.contains(*one)) {
                match rustix::fs::accessat(CWD, node.path(), asked, AtFlags::empty()) {
                    Ok(()) => granted = granted.and(one),
                    Err(rustix::io::Errno::ACCESS) => {}
                    Err(errno) => return Err(fail(errno)),
                }
            }
            Ok(granted)
        })
    }

    pub(super) fn read_link(&self, ino: Ino) -> Result<Bytes> {
        let node = self.nodes().find(ino)?;
        match rustix::fs::readlinkat(&node, "", Vec::new()) {
            Ok(target) => Ok(Bytes::from(target.into_bytes())),
            // By its descriptor, what is no link is "not found"; by name it is this.
            Err(rustix::io::Errno::NOENT) => Err(ErrorKind::Invalid.into()),
            Err(errno) => Err(fail(errno)),
        }
    }

    pub(super) fn open_ino(&self, cx: Context<'_>, ino: Ino, flags: OpenFlags) -> Result<Handle> {
        let node = self.find_openable(ino)?;
        let file = as_caller(cx.cred, || open_node(&node, flags_of(flags)))?;
        Ok(self.handle(file, ino))
    }

    pub(super) fn create_file(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: &[u8],
        attr: &SetAttr,
        if_exists: IfExists,
        open: Option<OpenFlags>,
    ) -> Result<Created<Handle>> {
        if matches!(if_exists, IfExists::SameVerifier(_)) {
            return Err(ErrorKind::NotSupported.into());
        }
        let node = self.nodes().find(dir)?;
        let flags = flags_of(open.unwrap_or(OpenFlags::READ)) | OFlags::CREATE | OFlags::CLOEXEC;
        let create = || {
            let open = |flags| rustix::fs::openat(&node, name, flags, mode_of(attr)).map_err(fail);
            let file = match open(flags | OFlags::EXCL) {
                Err(error) if error.kind() == ErrorKind::Exists && if_exists == IfExists::Reuse => {
                    let file = open(flags)?;
                    if let Some(size) = attr.size {
                        raw::truncate(&path_of(file.as_fd()), size as i64).map_err(fail)?;
                    }
                    return Ok(file);
                }
                opened => opened?,
            };
            let sized = attr.size.map_or(Ok(()), |size| {
                raw::truncate(&path_of(file.as_fd()), size as i64).map_err(fail)
            });
            let rest = SetAttr { size: None, ..left_over(attr, true) };
            let finished = sized.and_then(|()| Target::Open(file.as_fd()).change(&rest));
            finished.inspect_err(|_| undo(node.as_fd(), name, AtFlags::empty()))?;
            Ok(file)
        };
        let (file, dir) = self.around(At::Ino(dir), || as_caller(cx.cred, create))?;
        let entry = self.entry(file.as_fd())?;
        let handle = open.map(|_| self.handle(file, entry.attr.ino));
        Ok(Created { entry, dir, handle })
    }

    pub(super) fn make_other(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: &[u8],
        what: Make<'_>,
        attr: &SetAttr,
    ) -> Result<Created<Handle>> {
        let node = self.nodes().find(dir)?;
        let is_link = matches!(what, Make::Symlink { .. });
        // mkdir(2) leaves the set-id bits out, and links have no mode of their own.
        let mode_is_done = attr.mode.is_none_or(|mode| mode & 0o6000 == 0);
        let make = || {
            make_what(node.as_fd(), name, what, mode_of(attr))?;
            let found = look(node.as_fd(), name)?;
            let mut rest = left_over(attr, mode_is_done);
            rest.mode = rest.mode.filter(|_| !is_link);
            let made = Node::held(found);
            let finished = Target::Found(&made).change(&rest);
            let flags = match what {
                Make::Directory => AtFlags::REMOVEDIR,
                _ => AtFlags::empty(),
            };
            finished.inspect_err(|_| undo(node.as_fd(), name, flags))?;
            Ok(made)
        };
        let (made, dir) = self.around(At::Ino(dir), || as_caller(cx.cred, make))?;
        Ok(Created { entry: self.entry(made.as_fd())?, dir, handle: None })
    }

    pub(super) fn add_link(
        &self,
        cx: Context<'_>,
        ino: Ino,
        dir: Ino,
        name: &[u8],
    ) -> Result<Created<Handle>> {
        let (file, node) = (self.nodes().find(ino)?, self.nodes().find(dir)?);
        let link = || {
            let flags = AtFlags::SYMLINK_FOLLOW;
            rustix::fs::linkat(CWD, file.path(), &node, name, flags).map_err(fail)
        };
        let ((), dir) = self.around(At::Ino(dir), || as_caller(cx.cred, link))?;
        Ok(Created { entry: self.entry(file.as_fd())?, dir, handle: None })
    }

    pub(super) fn remove(
        &self,
        cx: Context<'_>,
        dir: Ino,
        name: &[u8],
        flags: AtFlags,
    ) -> Result<Wcc> {
        let node = self.nodes().find(dir)?;
        let remove = || rustix::fs::unlinkat(&node, name, flags).map_err(fail);
        Ok(self.around(At::Ino(dir), || as_caller(cx.cred, remove))?.1)
    }

    pub(super) fn move_name(
        &self,
        cx: Context<'_>,
        from: (Ino, Name<'_>),
        to: (Ino, Name<'_>),
        mode: RenameMode,
    ) -> Result<(Wcc, Wcc)> {
        let flags = match mode {
            RenameMode::Replace => RenameFlags::empty(),
            RenameMode::NoReplace => RenameFlags::NOREPLACE,
            RenameMode::Exchange => RenameFlags::EXCHANGE,
        };
        let (old, new) = (self.nodes().find(from.0)?, self.nodes().find(to.0)?);
        let (old_name, new_name) = (from.1.as_bytes(), to.1.as_bytes());
        let rename =
            || rustix::fs::renameat_with(&old, old_name, &new, new_name, flags).map_err(fail);
        let inner = || Ok(self.around(At::Ino(to.0), || as_caller(cx.cred, rename))?.1);
        let (to, from) = self.around(At::Ino(from.0), inner)?;
        Ok((from, to))
    }

    pub(super) fn list(
        &self,
        cx: Context<'_>,
        dir: At<'_, Handle>,
        after: Cookie,
        budget: Budget,
    ) -> Result<DirPage> {
        let node = self.nodes().find(Self::ino_of(dir))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let (listed, end) = self.with_file(cx, dir, flags, |dir| list(dir, after, budget))?;
        let mut entries = Vec::with_capacity(listed.len());
        for Listed { number, file_type, name, cookie } in listed {
            let mut ino = self.nodes().ino(number)?;
            let is_device = matches!(
                file_type,
                FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown
            );
            let mut entry = None;
            let mut kind = kind_of(file_type, 0, 0);
            if budget.with_attr || is_device || !self.nodes().knows(ino) {
                let found = self.entry(look(node.as_fd(), &name)?.as_fd())?;
                (ino, kind) = (found.attr.ino, Ok(found.attr.kind));
                entry = budget.with_attr.then_some(found);
            }
            entries.push(DirEntry { ino, kind: kind?, name, cookie, entry });
        }
        Ok(DirPage { entries, end, dir: self.attr_at(dir)? })
    }
}
