//! What every case starts from: a directory of its own, short ways to say usual
//! things, and assertions that return instead of panicking, so that one failure
//! does not hide the others.

use super::Profile;
use crate::{
    At, Attr, Budget, Context, Cookie, Cred, Dac, DirEntry, Error, ErrorKind, IfExists, Ino, Kind,
    Make, Name, OpenFlags, Result, Segments, SetAttr, Stability, Timestamp, Vfs, WriteAt, Written,
};
use bytes::Bytes;
use std::fmt;
use std::panic::Location;

/// How a case failed, and where.
#[derive(Debug)]
pub struct Failure {
    message: String,
    at: &'static Location<'static>,
}

impl Failure {
    #[track_caller]
    fn new(message: String) -> Self {
        Self { message, at: Location::caller() }
    }

    #[track_caller]
    pub(super) fn no_such_case() -> Self {
        Self::new("left out, but there is no such case".to_owned())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.message, self.at.file(), self.at.line())
    }
}

impl From<Error> for Failure {
    #[track_caller]
    fn from(error: Error) -> Self {
        Self::new(format!("failed unexpectedly: {error}"))
    }
}

/// What a case comes to.
pub type Verdict = std::result::Result<(), Failure>;

/// Asserts that something is so.
#[track_caller]
pub(super) fn holds(is_so: bool, what: &str) -> Verdict {
    if is_so { Ok(()) } else { Err(Failure::new(format!("not so: {what}"))) }
}

/// Asserts that two values are the same.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "cases compare values they make on the spot")]
pub(super) fn same<A: PartialEq<B> + fmt::Debug, B: fmt::Debug>(
    got: A,
    expected: B,
    what: &str,
) -> Verdict {
    if got == expected {
        return Ok(());
    }
    Err(Failure::new(format!("{what}: got {}, expected {}", short(&got), short(&expected))))
}

/// Asserts that an operation failed, in this way.
#[track_caller]
pub(super) fn fails<T>(result: Result<T>, kind: ErrorKind, what: &str) -> Verdict {
    match result {
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => Err(Failure::new(format!("{what}: failed with {error}, expected {kind}"))),
        Ok(_) => Err(Failure::new(format!("{what}: succeeded, expected {kind}"))),
    }
}

fn short(value: &impl fmt::Debug) -> String {
    let mut text = format!("{value:?}");
    if text.len() > 300 {
        text = text.chars().take(300).collect();
        text.push('…');
    }
    text
}

/// A name written in a case.
pub(super) fn name(text: &str) -> Name<'_> {
    // Cases write legal names; an illegal one fails the case with Invalid below.
    Name::new(text.as_bytes()).unwrap_or_else(|_| unreachable!("illegal name in a case: {text}"))
}

/// Only a mode.
pub(super) fn with_mode(mode: u16) -> SetAttr {
    SetAttr { mode: Some(mode), ..SetAttr::default() }
}

/// Only a length.
pub(super) fn with_size(size: u64) -> SetAttr {
    SetAttr { size: Some(size), ..SetAttr::default() }
}

/// Bytes that show where they came from.
pub(super) fn pattern(len: usize, fill: u8) -> Vec<u8> {
    (0..len).map(|at| fill.wrapping_add((at % 251) as u8)).collect()
}

/// What a case works with.
#[expect(missing_debug_implementations, reason = "deriving would demand it of the file system")]
pub struct Fixture<V: Vfs> {
    /// The file system under test.
    pub fs: V,
    /// What it can do.
    pub profile: Profile,
    /// The case's own directory, which everybody may write to.
    pub dir: Ino,
    root: Cred,
}

impl<V: Vfs> Fixture<V> {
    /// Prepares the directory of the case called `name`.
    pub async fn new(fs: V, profile: Profile, name: &str) -> std::result::Result<Self, Failure> {
        let mut fixture = Self { fs, profile, dir: Ino::ROOT, root: Cred::root() };
        let name = Name::new(name.as_bytes())?;
        let attr = with_mode(0o777);
        let made = fixture.fs.make(fixture.cx(), Ino::ROOT, name, Make::Directory, &attr).await?;
        fixture.dir = made.entry.attr.ino;
        // Whatever umask stood in between.
        fixture.fs.setattr(fixture.cx(), At::Ino(fixture.dir), &attr).await?;
        Ok(fixture)
    }

    /// As root.
    pub(super) fn cx(&self) -> Context<'_> {
        self.as_user(&self.root)
    }

    /// As somebody else.
    pub(super) fn as_user<'a>(&self, cred: &'a Cred) -> Context<'a> {
        Context { cred, dac: Dac::Enforce, op: None }
    }

    pub(super) async fn file(&self, text: &str) -> Result<Ino> {
        self.file_in(self.dir, text).await
    }

    pub(super) async fn file_in(&self, dir: Ino, text: &str) -> Result<Ino> {
        let attr = with_mode(0o644);
        let made = self.fs.create(self.cx(), dir, name(text), &attr, IfExists::Fail, None).await?;
        Ok(made.entry.attr.ino)
    }

    pub(super) async fn file_with(&self, text: &str, data: &[u8]) -> Result<Ino> {
        let ino = self.file(text).await?;
        self.write(ino, 0, data).await?;
        Ok(ino)
    }

    pub(super) async fn dir(&self, text: &str) -> Result<Ino> {
        self.dir_in(self.dir, text).await
    }

    pub(super) async fn dir_in(&self, dir: Ino, text: &str) -> Result<Ino> {
        self.made(dir, text, Make::Directory, 0o755).await
    }

    pub(super) async fn made(
        &self,
        dir: Ino,
        text: &str,
        what: Make<'_>,
        mode: u16,
    ) -> Result<Ino> {
        let made = self.fs.make(self.cx(), dir, name(text), what, &with_mode(mode)).await?;
        Ok(made.entry.attr.ino)
    }

    pub(super) async fn find(&self, dir: Ino, text: &str) -> Result<Ino> {
        Ok(self.fs.lookup(self.cx(), dir, name(text)).await?.attr.ino)
    }

    pub(super) async fn attr(&self, ino: Ino) -> Result<Attr> {
        Ok(self.fs.getattr(self.cx(), At::Ino(ino)).await?.attr)
    }

    pub(super) async fn set(&self, ino: Ino, set: &SetAttr) -> Result<Attr> {
        Ok(self.fs.setattr(self.cx(), At::Ino(ino), set).await?.after)
    }

    /// Gives an inode away, with this mode.
    pub(super) async fn give(&self, ino: Ino, uid: u32, gid: u32, mode: u16) -> Result<()> {
        let set = SetAttr { uid: Some(uid), gid: Some(gid), ..with_mode(mode) };
        self.set(ino, &set).await.map(drop)
    }

    pub(super) async fn open(&self, ino: Ino, flags: OpenFlags) -> Result<V::Handle> {
        self.fs.open(self.cx(), ino, flags).await
    }

    pub(super) async fn write(&self, ino: Ino, offset: u64, data: &[u8]) -> Result<Written> {
        self.write_at(At::Ino(ino), WriteAt::Offset(offset), data).await
    }

    pub(super) async fn write_at(
        &self,
        at: At<'_, V::Handle>,
        place: WriteAt,
        data: &[u8],
    ) -> Result<Written> {
        let data = Segments::from(Bytes::copy_from_slice(data));
        self.fs.write(self.cx(), at, place, data, Stability::Buffered).await
    }

    pub(super) async fn read(&self, ino: Ino, offset: u64, len: u32) -> Result<Vec<u8>> {
        self.read_at(At::Ino(ino), offset, len).await
    }

    pub(super) async fn read_at(
        &self,
        at: At<'_, V::Handle>,
        offset: u64,
        len: u32,
    ) -> Result<Vec<u8>> {
        let read = self.fs.read(self.cx(), at, offset, len).await?;
        Ok(read.data.into_contiguous().to_vec())
    }

    /// Everything in a directory, in pages of `entries`.
    pub(super) async fn list(&self, dir: Ino, entries: u32) -> Result<Vec<DirEntry>> {
        let budget = Budget { entries, name_bytes: 1 << 20, with_attr: false };
        let (mut all, mut after) = (Vec::new(), Cookie::default());
        loop {
            let page = self.fs.readdir(self.cx(), At::Ino(dir), after, budget).await?;
            let next = crate::model::ops::next_cookie(&page, after)?;
            all.extend(page.entries);
            match next {
                Some(cookie) => after = cookie,
                None => return Ok(all),
            }
        }
    }

    /// The names in a directory, sorted.
    pub(super) async fn names(&self, dir: Ino) -> Result<Vec<String>> {
        let entries = self.list(dir, 1000).await?;
        let mut names: Vec<_> =
            entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// A file that can be neither found nor reached.
    pub(super) async fn is_gone(&self, ino: Ino) -> Verdict {
        if self.profile.by_inode {
            fails(self.attr(ino).await, ErrorKind::Stale, "asking for an inode that is gone")?;
        }
        Ok(())
    }
}

/// Whether `later` is after `earlier`, as far as the implementation can tell.
pub(super) fn is_after(profile: &Profile, later: Timestamp, earlier: Timestamp) -> bool {
    if profile.exact_times { later > earlier } else { later >= earlier }
}

/// A directory's kind, to save an import in every area.
pub(super) const DIRECTORY: Kind = Kind::Directory;
