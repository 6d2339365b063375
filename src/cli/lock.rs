//! One process at a time works on the local state of a vault.
//!
//! The kernel releases the lock when the process ends, however it ends.

use super::exit::{Code, Failure, OrFail};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The lock on a state directory, until dropped.
#[derive(Debug)]
pub(super) struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock, or says who has it. The directory is made if need be.
    pub(super) fn take(state: &Path) -> Result<Self, Failure> {
        make_private_dir(state)?;
        let path = state.join("process.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .or_fail(Code::LocalState, format!("make {} writable", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(busy(&mut file)),
            Err(errno) => {
                let message = format!("use a file system with locks for {}", state.display());
                return Err(Failure::because(Code::LocalState, message, io::Error::from(errno)));
            }
        }
        // Who holds it is for the message only: without it the lock is as good.
        drop(file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())));
        Ok(Self { _file: file })
    }
}

fn busy(file: &mut File) -> Failure {
    let mut holder = String::new();
    // As above: only for the message.
    drop(file.take(20).read_to_string(&mut holder));
    let holder = match holder.parse::<u32>() {
        Ok(pid) => format!("process {pid}"),
        Err(_) => "another process".to_owned(),
    };
    Failure::new(Code::Busy, format!("wait for {holder} or end it: it has this vault open"))
}

/// Makes a directory, and those above it, that only its owner can enter.
pub(super) fn make_private_dir(path: &Path) -> Result<(), Failure> {
    crate::env::make_dirs(path)
        .or_fail(Code::LocalState, format!("make it possible to write below {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_second_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/b");
        let first = StateLock::take(&state).unwrap();
        let second = StateLock::take(&state).unwrap_err();
        assert_eq!(second.code(), Code::Busy);
        assert!(second.to_string().contains(&std::process::id().to_string()), "{second}");
        drop(first);
        StateLock::take(&state).unwrap();
        let mode = std::fs::metadata(&state).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn an_unusable_place_is_local_state() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(StateLock::take(&file.join("state")).unwrap_err().code(), Code::LocalState);
    }
}
