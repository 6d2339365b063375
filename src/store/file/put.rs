//! How an object gets into the directory, in the order that a power loss demands.
//!
//! See the store's module for that order.

use super::temp::TempFile;
use super::{DIR_MODE, FILE_MODE, FileStore, Place, dir_name, durable, errno_of, is_elsewhere};
use crate::store::{BlobStore as _, Error, ErrorKind, ObjectName, PutMode, PutOutcome, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering;

/// What a put stores.
#[derive(Clone, Copy)]
pub(super) enum Body<'a> {
    Bytes(&'a [u8]),
    /// Contents of a file, which may become the object itself.
    File(&'a Path),
}

impl FileStore {
    pub(super) fn check_not_broken(&self, name: &ObjectName) -> Result<()> {
        if !self.is_broken.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Io).at(self.location()).named(name).detail(
            "an earlier fsync failed, so nothing more is written; check the disk, then open the store again",
        ))
    }

    /// Makes the names in `dir` survive a power loss.
    pub(super) fn sync_dir(&self, name: &ObjectName, dir: &File) -> Result<()> {
        durable::sync(dir).map_err(|errno| {
            if is_elsewhere(errno) {
                return self.error(name, errno);
            }
            self.is_broken.store(true, Ordering::Release);
            self.error(name, errno)
                .detail("fsync of the directory failed; check the disk, then open the store again")
        })
    }

    fn open_dir(&self, name: &ObjectName, dir: &str) -> Result<File> {
        durable::open_dir(self.root.as_fd(), dir).map_err(|errno| self.write_error(name, errno))
    }

    fn ensure_fanout(&self, name: &ObjectName, byte: u8) -> Result<()> {
        if self.fanouts.is_known(byte) {
            return Ok(());
        }
        match rustix::fs::mkdirat(&self.root, dir_name(byte), DIR_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.write_error(name, errno)),
        }
        self.sync_dir(name, &self.open_dir(name, ".")?)?;
        self.fanouts.learn(byte);
        Ok(())
    }

    pub(super) fn put_body(
        &self,
        name: &ObjectName,
        body: Body<'_>,
        mode: PutMode,
    ) -> Result<PutOutcome> {
        self.check_not_broken(name)?;
        let place = Place::of(name);
        if let Some(byte) = place.fanout {
            self.ensure_fanout(name, byte)?;
        }
        // Opened before the name is given: once it is, all that may fail is the disk.
        let dir = self.open_dir(name, &place.dir())?;
        let outcome = match body {
            Body::Bytes(bytes) => self.write(name, bytes, &place, mode)?,
            Body::File(path) => self.link_or_copy(name, path, &place, mode)?,
        };
        self.sync_dir(name, &dir)?;
        Ok(outcome)
    }

    fn write(
        &self,
        name: &ObjectName,
        bytes: &[u8],
        place: &Place,
        mode: PutMode,
    ) -> Result<PutOutcome> {
        self.check_size(name, bytes.len() as u64)?;
        // Writing megabytes to find the name taken would be a pity; the answer
        // that counts is the rename's.
        if mode == PutMode::CreateIfAbsent && self.is_there(name, place)? {
            return Ok(PutOutcome::AlreadyThere);
        }
        let (temp, mut file) =
            self.temp.create(FILE_MODE).map_err(|errno| self.write_error(name, errno))?;
        file.write_all(bytes)
            .and_then(|()| file.sync_data())
            .map_err(|error| self.write_error(name, errno_of(&error)))?;
        self.publish(name, temp, place, mode)
    }

    /// Gives a finished file its name.
    fn publish(
        &self,
        name: &ObjectName,
        temp: TempFile<'_>,
        place: &Place,
        mode: PutMode,
    ) -> Result<PutOutcome> {
        let published = match mode {
            PutMode::Overwrite => temp.replace(self.root.as_fd(), &place.file),
            PutMode::CreateIfAbsent => temp.create_as(self.root.as_fd(), &place.file),
        };
        match published {
            Ok(()) => Ok(PutOutcome::Created),
            Err(Errno::EXIST) if mode == PutMode::CreateIfAbsent => Ok(PutOutcome::AlreadyThere),
            Err(errno @ (Errno::NOTSUP | Errno::PERM)) if mode == PutMode::CreateIfAbsent => {
                Err(Error::new(ErrorKind::Unsupported)
                    .at(self.location())
                    .named(name)
                    .because(errno)
                    .detail("this file system can neither link files nor rename without replacing; use another for the store"))
            }
            Err(errno) => Err(self.write_error(name, errno)),
        }
    }

    fn link_or_copy(
        &self,
        name: &ObjectName,
        path: &Path,
        place: &Place,
        mode: PutMode,
    ) -> Result<PutOutcome> {
        let source_error = |errno: Errno| {
            Error::new(ErrorKind::Io)
                .at(self.location())
                .named(name)
                .because(errno)
                .detail(format!("cannot read {}", path.display()))
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = rustix::fs::open(path, flags, Mode::empty()).map_err(source_error)?;
        let stat = rustix::fs::fstat(&source).map_err(source_error)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(source_error(Errno::INVAL));
        }
        self.check_size(name, stat.st_size as u64)?;
        if mode == PutMode::CreateIfAbsent && self.is_there(name, place)? {
            return Ok(PutOutcome::AlreadyThere);
        }
        // Both names lead to one file from now on; nobody may write through either.
        // Where that cannot be had (somebody else's file), a copy is made.
        let is_linked = rustix::fs::fchmod(&source, Mode::RUSR).is_ok();
        if is_linked && let Ok(temp) = self.temp.link(path) {
            return self.publish(name, temp, place, mode);
        }
        let (temp, mut file) =
            self.temp.create(FILE_MODE).map_err(|errno| self.write_error(name, errno))?;
        // Shares the blocks where the file system can.
        std::io::copy(&mut File::from(source), &mut file)
            .and_then(|_| file.sync_data())
            .map_err(|error| self.write_error(name, errno_of(&error)))?;
        self.publish(name, temp, place, mode)
    }

    fn is_there(&self, name: &ObjectName, place: &Place) -> Result<bool> {
        match rustix::fs::statat(&self.root, &place.file, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.error(name, errno)),
        }
    }
}
