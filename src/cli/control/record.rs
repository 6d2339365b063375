//! What a daemon leaves beside its socket, so that others find its mount.
//!
//! A record may outlive its daemon; it counts only while the socket answers.

use super::Client;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const RECORD_NAME: &str = "mount.json";

/// A mount as its daemon describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    /// Where it is mounted, if it is.
    pub(in crate::cli) mount_point: Option<PathBuf>,
    /// Where it is served, if it is.
    #[serde(default)]
    pub(in crate::cli) address: Option<String>,
    /// What it is mounted from.
    pub(in crate::cli) store: String,
    /// Process of the daemon.
    pub(in crate::cli) pid: u32,
    /// Front end.
    pub(in crate::cli) via: String,
    /// Whether it refuses writes.
    pub(in crate::cli) is_read_only: bool,
    /// When it was mounted, seconds since the Unix epoch.
    pub(in crate::cli) since_s: i64,
    /// Its log, if it does not write to a terminal.
    pub(in crate::cli) log: Option<PathBuf>,
}

impl MountRecord {
    /// Writes the record in one step.
    pub(in crate::cli) fn write(&self, run_dir: &Path) -> io::Result<()> {
        let temporary = run_dir.join("mount.json.new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&temporary)?.write_all(&self.encode()?)?;
        std::fs::rename(&temporary, run_dir.join(RECORD_NAME))
    }

    /// Removes the record.
    pub(in crate::cli) fn remove(run_dir: &Path) {
        // What stays behind counts for nothing without a socket that answers.
        drop(std::fs::remove_file(run_dir.join(RECORD_NAME)));
    }

    /// The bytes of the file.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Reads them; `None` if they are no record.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Reads the record, whether or not its daemon still runs.
    pub(in crate::cli) fn read(run_dir: &Path) -> Option<Self> {
        Self::decode(&std::fs::read(run_dir.join(RECORD_NAME)).ok()?)
    }
}

/// Every mount whose daemon answers, with a connection to it and its run directory.
pub(in crate::cli) fn all_mounts(state_root: &Path) -> Vec<(MountRecord, Client, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(state_root) else { return Vec::new() };
    let mut mounts: Vec<_> = entries
        .filter_map(|entry| {
            let run_dir = entry.ok()?.path().join("run");
            let record = MountRecord::read(&run_dir)?;
            Some((record, Client::connect(&run_dir)?, run_dir))
        })
        .collect();
    let place = |record: &MountRecord| (record.mount_point.clone(), record.address.clone());
    mounts.sort_by_key(|(record, ..)| place(record));
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_without_a_daemon_is_no_mount() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("0123/run");
        std::fs::create_dir_all(&run).unwrap();
        let record = MountRecord {
            mount_point: Some("/mnt/x".into()),
            address: None,
            store: "file:///srv/v".to_owned(),
            pid: 1,
            via: "fuse".to_owned(),
            is_read_only: false,
            since_s: 5,
            log: None,
        };
        record.write(&run).unwrap();
        assert_eq!(MountRecord::read(&run), Some(record));
        assert!(all_mounts(dir.path()).is_empty());
        let _listener = std::os::unix::net::UnixListener::bind(run.join("control.sock")).unwrap();
        assert_eq!(all_mounts(dir.path()).len(), 1);
        MountRecord::remove(&run);
        assert!(all_mounts(dir.path()).is_empty());
        assert!(all_mounts(&dir.path().join("missing")).is_empty());
    }
}
