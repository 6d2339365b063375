//! Setting the local state of a vault aside, so that it is made again from the store.
//!
//! Who this machine is and what it holds the store to is not made again, so it stays
//! where it is and is never out of place, whenever this is cut short. What is set aside
//! gets its second name before it loses the first: nothing is nowhere. The database goes
//! first: what lies beside it means nothing without it.

use super::exit::{Code, Failure};
use super::lock::make_private_dir;
use crate::env::sync_dir;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What is made again from the store, the database first.
const FILES: [&str; 3] = ["state.db", "state.db-wal", "state.db-shm"];
/// What was not uploaded, which only the database tells apart from rubbish.
const UNSENT: &str = "unsent";

/// A directory beside `dir` that is not there yet.
fn place_beside(dir: &Path, suffix: &str) -> PathBuf {
    let named = |ending: &str| {
        let mut aside = dir.as_os_str().to_owned();
        aside.push(format!(".{suffix}{ending}"));
        PathBuf::from(aside)
    };
    // What was set aside in the same second stays as it is.
    let mut aside = named("");
    for number in 2.. {
        if fs::symlink_metadata(&aside).is_err() {
            break;
        }
        aside = named(&format!("-{number}"));
    }
    aside
}

/// Sets aside a directory that can be done without; says where it is now.
pub(super) fn set_cache_aside(dir: &Path, suffix: &str) -> Result<Option<PathBuf>, Failure> {
    let aside = place_beside(dir, suffix);
    match fs::rename(dir, &aside) {
        Ok(()) => Ok(Some(aside)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failure(dir, error)),
    }
}

/// Sets aside what the state directory has of the database and of what is not uploaded;
/// says where it is now.
pub(super) fn set_state_aside(dir: &Path, suffix: &str) -> Result<Option<PathBuf>, Failure> {
    let files = files(dir).map_err(|error| failure(dir, error))?;
    if files.is_empty() {
        return Ok(None);
    }
    let aside = place_beside(dir, suffix);
    make_private_dir(&aside.join(UNSENT))?;
    move_files(&files, dir, &aside).map_err(|error| failure(dir, error))?;
    Ok(Some(aside))
}

fn failure(dir: &Path, error: io::Error) -> Failure {
    let message = format!("make it possible to set {} aside", dir.display());
    Failure::because(Code::LocalState, message, error)
}

/// What there is to be set aside, relative to the state directory.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let is_there = |file: &PathBuf| fs::symlink_metadata(dir.join(file)).is_ok();
    let mut files: Vec<PathBuf> = FILES.iter().map(PathBuf::from).filter(is_there).collect();
    match fs::read_dir(dir.join(UNSENT)) {
        Ok(entries) => {
            for entry in entries {
                files.push(Path::new(UNSENT).join(entry?.file_name()));
            }
            Ok(files)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(files),
        Err(error) => Err(error),
    }
}

fn move_files(files: &[PathBuf], from: &Path, to: &Path) -> io::Result<()> {
    for file in files {
        let (old, new) = (from.join(file), to.join(file));
        if fs::hard_link(&old, &new).is_err() {
            // A file system without links.
            fs::copy(&old, &new)?;
            File::open(&new)?.sync_all()?;
        }
    }
    for dir in [&to.join(UNSENT), to] {
        sync_dir(&File::open(dir)?)?;
    }
    for file in files {
        fs::remove_file(from.join(file))?;
        if file == Path::new(FILES[0]) {
            sync_dir(&File::open(from)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_aside_keeps_everything() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert_eq!(set_state_aside(&state, "now").unwrap(), None);
        for _ in 0..2 {
            fs::create_dir_all(state.join(UNSENT)).unwrap();
            for file in ["state.db", "unsent/pack", "machine"] {
                fs::write(state.join(file), file).unwrap();
            }
            let aside = set_state_aside(&state, "now").unwrap().unwrap();
            for file in ["state.db", "unsent/pack"] {
                assert!(!state.join(file).exists());
                assert_eq!(fs::read_to_string(aside.join(file)).unwrap(), file);
            }
            assert!(state.join("machine").exists() && !aside.join("machine").exists());
        }
        let asides = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(asides, 3, "what was set aside in the same second stays as it is");
        let aside = set_cache_aside(&state, "then").unwrap().unwrap();
        assert!(!state.exists() && aside.join("machine").exists());
        assert_eq!(set_cache_aside(&state, "then").unwrap(), None);
    }
}
