//! The database's write-ahead log, before SQLite opens it.
//!
//! It gets all the room it will need: a sync of a file that grows makes the file system
//! write to a journal of its own as well. What is there of it already is written again.
//!
//! A run that ended may have had a sync of the log fail. What the disk did not take then
//! is still read from memory, and no later sync of the same file would write it: SQLite
//! would take it for committed, go on behind it, and a power cut would tear the log
//! there and lose what was synced since. So whatever is read is written once more first,
//! into a file of its own.

use crate::env::sync_dir;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Room for as many pages as are logged before they go to their places, with what the
/// log has in front of each.
const ROOM: usize = super::schema::LOG_PAGES as usize * (4096 + 24) + (64 << 10);

fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// Makes durable what is there of the log of `database`, and room behind it; nobody has
/// it open.
pub(super) fn prepare(database: &Path) -> io::Result<()> {
    let log = beside(database, "-wal");
    let mut old = match File::open(&log) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        old => Some(old?),
    };
    match write_anew(&log, old.as_mut(), ROOM) {
        // It will do without; whether anything can be written is not for here to say.
        Err(error) if old.is_none() => {
            log::debug!("no room is made for the log of the database: {error}");
            Ok(())
        }
        Err(error) if is_full(&error) => write_anew(&log, old.as_mut(), 0),
        done => done,
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn write_anew(log: &Path, old: Option<&mut File>, room: usize) -> io::Result<()> {
    let new = beside(log, ".new");
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    copy(old, &mut file, room).and_then(|()| file.sync_all()).inspect_err(|_| {
        // It may be what fills the disk.
        let _ = fs::remove_file(&new);
    })?;
    fs::rename(&new, log)?;
    sync_dir(&File::open(log.parent().unwrap_or(Path::new("/")))?)
}

/// Through memory: the kernel's own copying may share what is on the disk instead of
/// what is read. Zeros follow, which are no frames of the log, until it is `room` long.
fn copy(from: Option<&mut File>, to: &mut File, room: usize) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    if let Some(from) = from {
        // It may have been read before, by a try that failed.
        from.rewind()?;
        loop {
            match from.read(&mut buffer)? {
                0 => break,
                len => to.write_all(&buffer[..len])?,
            }
            done = usize::try_from(from.stream_position()?).unwrap_or(usize::MAX);
        }
    }
    buffer.fill(0);
    while done < room {
        let len = buffer.len().min(room - done);
        to.write_all(&buffer[..len])?;
        done += len;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_try_writes_all_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("db-wal");
        fs::write(&log, vec![7; 3_000_000]).unwrap();
        let mut old = File::open(&log).unwrap();
        // There is no place for the first: it ends with the log read in part.
        let nowhere = &mut File::options().write(true).open("/dev/full").unwrap();
        let full = copy(Some(&mut old), nowhere, ROOM).unwrap_err();
        assert!(is_full(&full), "{full}");
        write_anew(&log, Some(&mut old), 0).unwrap();
        assert_eq!(fs::read(&log).unwrap(), vec![7; 3_000_000]);
    }

    #[test]
    fn a_new_database_has_room_for_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let key = crate::crypto::Key32::copy_of(&[1; 32]);
        let _db = crate::meta::db::Db::open(dir.path(), &key, crate::env::Env::real()).unwrap();
        assert!(fs::metadata(dir.path().join("state.db-wal")).unwrap().len() >= ROOM as u64);
    }

    #[test]
    fn the_log_is_as_it_was_and_another_file() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let (database, log) = (dir.path().join("db"), dir.path().join("db-wal"));
        prepare(&database).unwrap();
        assert_eq!(fs::read(&log).unwrap(), vec![0; ROOM]);
        fs::write(&log, vec![7; 3_000_000]).unwrap();
        let before = fs::metadata(&log).unwrap().ino();
        let kept = File::open(&log).unwrap();
        prepare(&database).unwrap();
        let (room, old) = fs::read(&log).map(|mut all| (all.split_off(3_000_000), all)).unwrap();
        assert_eq!(old, vec![7; 3_000_000]);
        assert_eq!(room, vec![0; ROOM - 3_000_000]);
        assert_ne!(fs::metadata(&log).unwrap().ino(), before);
        drop(kept);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
