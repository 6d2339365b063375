//! A system call, and a process that makes it.

use crate::program::support::Numbers;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, RenameFlags};
use rustix::io::{Errno, pread, write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use vfs::RenameMode;

/// A name, and the directory it is in unless that is the round's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) dir: Option<&'static str>,
    pub(super) name: &'static str,
}

const PLACES: [Place; 5] = [
    Place { dir: None, name: "a" },
    Place { dir: None, name: "b" },
    DIR,
    Place { dir: Some("d"), name: "a" },
    Place { dir: Some("d"), name: "b" },
];
const DIR: Place = Place { dir: None, name: "d" };

/// What a process does. It has at most one file open.
#[derive(Clone, Debug)]
pub(super) enum Call {
    /// `open` for reading and appending.
    Open(Place),
    /// The same with `O_CREAT`, and perhaps `O_EXCL`.
    Create {
        place: Place,
        is_exclusive: bool,
    },
    Append(char),
    Read,
    Cut,
    /// `fstat` of what is open.
    StatOpen,
    Stat(Place),
    Mkdir(Place),
    Rmdir(Place),
    Unlink(Place),
    Link(Place, Place),
    Rename(Place, Place, RenameMode),
    /// One `getdents` of the round's directory.
    List,
}

impl Call {
    pub(super) fn random(draw: &mut Numbers) -> Self {
        let place = PLACES[draw.below(5) as usize];
        let other = PLACES[draw.below(5) as usize];
        let dir = if draw.below(4) == 0 { place } else { DIR };
        match draw.below(25) {
            0..3 => Self::Create { place, is_exclusive: true },
            3..5 => Self::Create { place, is_exclusive: false },
            5 => Self::Open(place),
            6..8 => Self::Append(char::from(b'a' + draw.below(26) as u8)),
            8 => Self::Read,
            9 => Self::Cut,
            10 => Self::StatOpen,
            11 => Self::Stat(place),
            12..14 => Self::Mkdir(dir),
            14 => Self::Rmdir(dir),
            15..17 => Self::Unlink(place),
            17..19 => Self::Link(place, other),
            23.. => Self::List,
            kind => {
                let mode = match kind {
                    19 => RenameMode::NoReplace,
                    20 => RenameMode::Exchange,
                    _ => RenameMode::Replace,
                };
                Self::Rename(place, other, mode)
            }
        }
    }
}

/// What a process has: its directory, and the file it opened last.
pub(super) struct Process {
    root: PathBuf,
    open: Option<OwnedFd>,
}

/// What is said of a file's attributes.
pub(super) fn describe(is_dir: bool, names: u64, size: u64) -> String {
    if is_dir { "a directory".to_owned() } else { format!("{names} names, {size} bytes") }
}

/// What is said of the names in a directory, each with whether it is one of a directory.
pub(super) fn describe_names(names: impl Iterator<Item = (String, bool)>) -> String {
    let with_kind = |(name, is_dir): (String, bool)| if is_dir { name + "/" } else { name };
    let mut names: Vec<_> = names.map(with_kind).collect();
    names.sort();
    format!("lists: {}", names.join(" "))
}

fn describe_stat(stat: &rustix::fs::Stat) -> String {
    let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
    describe(is_dir, stat.st_nlink, u64::try_from(stat.st_size).unwrap())
}

impl Process {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, open: None }
    }

    fn path(&self, place: Place) -> PathBuf {
        self.root.join(place.dir.unwrap_or_default()).join(place.name)
    }

    /// Makes a call and says what it answered.
    pub(super) fn make(&mut self, call: &Call) -> String {
        match self.try_make(call) {
            Ok(said) => said,
            Err(error) => format!("error {}", error.raw_os_error()),
        }
    }

    fn try_make(&mut self, call: &Call) -> Result<String, Errno> {
        let done = |()| "done".to_owned();
        match call {
            Call::Open(place) => self.open(*place, OFlags::empty()),
            Call::Create { place, is_exclusive: false } => self.open(*place, OFlags::CREATE),
            Call::Create { place, .. } => self.open(*place, OFlags::CREATE | OFlags::EXCL),
            Call::Append(_) | Call::Read | Call::Cut | Call::StatOpen => self.use_open(call),
            Call::Stat(place) => rustix::fs::lstat(self.path(*place)).map(|it| describe_stat(&it)),
            Call::Mkdir(place) => {
                rustix::fs::mkdir(self.path(*place), Mode::from_raw_mode(0o755)).map(done)
            }
            Call::Rmdir(place) => rustix::fs::rmdir(self.path(*place)).map(done),
            Call::Unlink(place) => rustix::fs::unlink(self.path(*place)).map(done),
            Call::Link(from, to) => {
                let (from, to) = (self.path(*from), self.path(*to));
                rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()).map(done)
            }
            Call::Rename(from, to, mode) => {
                let flags = match mode {
                    RenameMode::Replace => RenameFlags::empty(),
                    RenameMode::NoReplace => RenameFlags::NOREPLACE,
                    RenameMode::Exchange => RenameFlags::EXCHANGE,
                };
                let (from, to) = (self.path(*from), self.path(*to));
                rustix::fs::renameat_with(CWD, from, CWD, to, flags).map(done)
            }
            Call::List => self.list(),
        }
    }

    /// What one system call says. It has room for all there is, and while it is made the
    /// kernel lets nobody change the directory, so it is of one moment.
    fn list(&self) -> Result<String, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&self.root, flags, Mode::empty())?;
        let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
        let mut dir = RawDir::new(dir, &mut buffer);
        let mut names = Vec::new();
        while let Some(entry) = dir.next() {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push((name, entry.file_type().is_dir()));
            }
            // Another call would be of another moment.
            if dir.is_buffer_empty() {
                break;
            }
        }
        Ok(describe_names(names.into_iter()))
    }

    fn open(&mut self, place: Place, flags: OFlags) -> Result<String, Errno> {
        let flags = flags | OFlags::RDWR | OFlags::APPEND | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        self.open = Some(rustix::fs::open(self.path(place), flags, mode)?);
        Ok("done".to_owned())
    }

    fn use_open(&self, call: &Call) -> Result<String, Errno> {
        let Some(file) = &self.open else { return Ok("nothing is open".to_owned()) };
        match call {
            Call::Append(fill) => write(file, fill.to_string().as_bytes()).map(|n| n.to_string()),
            Call::Cut => rustix::fs::ftruncate(file, 0).map(|()| "done".to_owned()),
            Call::StatOpen => rustix::fs::fstat(file).map(|it| describe_stat(&it)),
            _ => {
                let mut data = [0; 64];
                let len = pread(file, &mut data, 0)?;
                Ok(String::from_utf8_lossy(&data[..len]).into_owned())
            }
        }
    }
}
