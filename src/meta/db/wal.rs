//! The database's write-ahead log, before it is read again.
//!
//! A run that ended may have had a sync of the log fail. What the disk did not take then
//! is still read from memory, and no later sync of the same file would write it: SQLite
//! would take it for committed, go on behind it, and a power cut would tear the log
//! there and lose what was synced since. So whatever is read is written once more first,
//! into a file of its own.

use crate::env::sync_dir;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// Makes durable what is there of the log of `database`; nobody has it open.
pub(super) fn write_again(database: &Path) -> io::Result<()> {
    let (log, new) = (beside(database, "-wal"), beside(database, "-wal.new"));
    let mut old = match File::open(&log) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        old => old?,
    };
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    copy(&mut old, &mut file).and_then(|()| file.sync_all()).inspect_err(|_| {
        // It may be what fills the disk.
        let _ = fs::remove_file(&new);
    })?;
    fs::rename(&new, &log)?;
    sync_dir(&File::open(log.parent().unwrap_or(Path::new("/")))?)
}

/// Through memory: the kernel's own copying may share what is on the disk instead of
/// what is read.
fn copy(from: &mut File, to: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            len => to.write_all(&buffer[..len])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_as_it_was_and_another_file() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let (database, log) = (dir.path().join("db"), dir.path().join("db-wal"));
        write_again(&database).unwrap();
        assert!(!log.exists());
        fs::write(&log, vec![7; 3_000_000]).unwrap();
        let before = fs::metadata(&log).unwrap().ino();
        let kept = File::open(&log).unwrap();
        write_again(&database).unwrap();
        assert_eq!(fs::read(&log).unwrap(), vec![7; 3_000_000]);
        assert_ne!(fs::metadata(&log).unwrap().ino(), before);
        drop(kept);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
