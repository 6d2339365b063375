//! Files on their way into the store.
//!
//! They have names, in `.tmp`, so that a crash leaves them behind. Opening a
//! store removes those that nobody has touched for an hour, by the clock of the
//! file system itself: a probe file written at that moment says what time it is
//! there, whatever the clocks of the machines that share the store say. Should
//! another process be slower than that, its put fails when it gives the file
//! its name, and nothing else happens.

use super::durable::open_dir;
use super::{DIR_MODE, FILE_MODE};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const DIR: &str = ".tmp";
/// Far longer than a disk takes to write the largest object.
const AGE_MAX_S: i64 = 3600;

/// The directory of unfinished files.
#[derive(Debug)]
pub(super) struct TempDir {
    dir: File,
    next: AtomicU64,
}

/// An unfinished file; removed on drop unless it got its name.
#[derive(Debug)]
pub(super) struct TempFile<'a> {
    dir: BorrowedFd<'a>,
    name: String,
}

impl TempDir {
    /// Opens the directory below `root`, makes it if need be, proves that it can
    /// be written to, and removes what crashes have left behind.
    pub(super) fn open(root: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        match rustix::fs::mkdirat(root, DIR, DIR_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let temp = Self { dir: open_dir(root, DIR)?, next: AtomicU64::new(0) };
        match temp.create(FILE_MODE) {
            Ok((_probe, file)) => temp.sweep(rustix::fs::fstat(&file)?.st_ctime)?,
            // A full store can still be read, and emptied.
            Err(Errno::NOSPC | Errno::DQUOT) => {
                log::warn!("the store's file system is full; nothing more can be stored");
            }
            Err(errno) => return Err(errno),
        }
        Ok(temp)
    }

    fn sweep(&self, now_s: i64) -> rustix::io::Result<()> {
        for entry in Names::read(self.dir.as_fd(), ".")? {
            let name = entry?;
            let Ok(stat) = rustix::fs::statat(&self.dir, &name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            // The time of the last change, since linking a file here moves that
            // one alone.
            if now_s.saturating_sub(stat.st_ctime) > AGE_MAX_S {
                match rustix::fs::unlinkat(&self.dir, &name, AtFlags::empty()) {
                    Ok(()) => log::info!("removed {DIR}/{name}, left behind by a crash"),
                    // Two processes may open the store at once; anything else
                    // takes space and does no other harm.
                    Err(errno) => log::debug!("cannot remove {DIR}/{name}: {errno}"),
                }
            }
        }
        Ok(())
    }

    /// A new, empty file.
    pub(super) fn create(&self, mode: Mode) -> rustix::io::Result<(TempFile<'_>, File)> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        self.with_new_name(|name| rustix::fs::openat(&self.dir, name, flags, mode))
            .map(|(temp, fd)| (temp, fd.into()))
    }

    /// A second name for the file at `path`.
    pub(super) fn link(&self, path: &Path) -> rustix::io::Result<TempFile<'_>> {
        self.with_new_name(|name| {
            rustix::fs::linkat(rustix::fs::CWD, path, &self.dir, name, AtFlags::empty())
        })
        .map(|(temp, ())| temp)
    }

    /// Two machines may share the directory and have processes of one number,
    /// so a name is only ours if it was not there.
    fn with_new_name<T>(
        &self,
        mut make: impl FnMut(&str) -> rustix::io::Result<T>,
    ) -> rustix::io::Result<(TempFile<'_>, T)> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}.{number}", std::process::id());
            match make(&name) {
                Ok(made) => return Ok((TempFile { dir: self.dir.as_fd(), name }, made)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl TempFile<'_> {
    /// Gives the file the name `target` below `root`, whatever had it before.
    pub(super) fn replace(self, root: BorrowedFd<'_>, target: &str) -> rustix::io::Result<()> {
        // Renaming a file over another name of itself leaves both; dropping
        // removes the one here.
        rustix::fs::renameat(self.dir, &self.name, root, target)
    }

    /// Gives the file the name `target` below `root` unless it is taken.
    pub(super) fn create_as(self, root: BorrowedFd<'_>, target: &str) -> rustix::io::Result<()> {
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(self.dir, &self.name, root, target, flags) {
            // Not every file system knows the flag (NFS does not); links were always there.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.link_as(root, target),
            renamed => renamed,
        }
    }

    fn link_as(&self, root: BorrowedFd<'_>, target: &str) -> rustix::io::Result<()> {
        match rustix::fs::linkat(self.dir, &self.name, root, target, AtFlags::empty()) {
            // NFS may lose the answer, ask again and be told that its own link is in the way.
            Err(Errno::EXIST) if self.is_same(root, target)? => Ok(()),
            linked => linked,
        }
    }

    fn is_same(&self, root: BorrowedFd<'_>, target: &str) -> rustix::io::Result<bool> {
        let ours = rustix::fs::statat(self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW)?;
        let there = rustix::fs::statat(root, target, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok((ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino))
    }
}

impl Drop for TempFile<'_> {
    fn drop(&mut self) {
        match rustix::fs::unlinkat(self.dir, &self.name, AtFlags::empty()) {
            // Renamed: the usual case.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => log::debug!("cannot remove {DIR}/{}: {errno}", self.name),
        }
    }
}

/// The names in a directory that are text, which all of ours are.
pub(super) struct Names(Dir);

impl Names {
    pub(super) fn read(root: BorrowedFd<'_>, dir: &str) -> rustix::io::Result<Self> {
        Dir::new(open_dir(root, dir)?).map(Self)
    }
}

impl Iterator for Names {
    type Item = rustix::io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.0.next()? {
                Err(errno) => return Some(Err(errno)),
                Ok(entry) => match entry.file_name().to_str() {
                    Ok("." | "..") | Err(_) => {}
                    Ok(name) => return Some(Ok(name.to_owned())),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{TempDir, TempFile};
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::{AsFd, OwnedFd};
    use std::path::Path;

    fn open(path: &Path) -> (OwnedFd, TempDir) {
        let root = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        let root = root.unwrap();
        let temp = TempDir::open(root.as_fd()).unwrap();
        (root, temp)
    }

    fn names(path: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(path.join(".tmp")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Leaves a file as a crash would.
    fn leave(temp: TempFile<'_>) {
        std::mem::forget(temp);
    }

    #[test]
    fn only_old_leftovers_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let (_root, temp) = open(dir.path());
        assert!(names(dir.path()).is_empty(), "the probe stays behind");
        let (file, fd) = temp.create(Mode::RUSR).unwrap();
        let stat = rustix::fs::fstat(&fd).unwrap();
        leave(file);

        open(dir.path());
        assert_eq!(names(dir.path()).len(), 1, "a young file is another process's");
        temp.sweep(stat.st_ctime + 3600).unwrap();
        assert_eq!(names(dir.path()).len(), 1);
        temp.sweep(stat.st_ctime + 3601).unwrap();
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn two_processes_of_one_number_do_not_meet() {
        let dir = tempfile::tempdir().unwrap();
        let ((_root, one), (_same, two)) = (open(dir.path()), open(dir.path()));
        let (first, _) = one.create(Mode::RUSR).unwrap();
        let (second, _) = two.create(Mode::RUSR).unwrap();
        assert_ne!(first.name, second.name);
        drop((first, second));
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn links_serve_where_renaming_cannot_refuse() {
        let dir = tempfile::tempdir().unwrap();
        let (root, temp) = open(dir.path());
        let (one, _) = temp.create(Mode::RUSR).unwrap();
        let (two, _) = temp.create(Mode::RUSR).unwrap();
        assert_eq!(one.link_as(root.as_fd(), "object"), Ok(()));
        assert_eq!(one.link_as(root.as_fd(), "object"), Ok(()), "the answer was lost");
        assert_eq!(two.link_as(root.as_fd(), "object"), Err(rustix::io::Errno::EXIST));
        drop((one, two));
        assert!(names(dir.path()).is_empty());
        assert!(dir.path().join("object").exists());
    }
}
