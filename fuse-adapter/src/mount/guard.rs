//! Unmounts when this process dies, even by `kill -9`.
//!
//! A dead FUSE process leaves its mount behind, and everything below answers
//! "Transport endpoint is not connected". A small shell waits at the end of a pipe
//! whose other end only this process holds; the kernel closes it whatever kills us.
//! `fusermount3 -o auto_unmount` would do the same, but looks into the mount to see
//! that it is dead, as root, and a user's mount lets root in only with `allow_other`.

use super::table::Row;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// `$1` finds the mount by its numbers; `$2` is the directory. A mount there that answers
/// is a later one and is left alone. A Ctrl-C meant for us must not end the guard first.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
read -r _
grep -qs "$1" /proc/self/mountinfo || exit 0
stat -f -- "$2" && exit 0
fusermount3 -u -q -z -- "$2" || umount -l -- "$2"
"#;

/// Watches over one mount; dropping it ends the watch.
#[derive(Debug)]
pub(crate) struct Guard(Child);

impl Guard {
    pub(crate) fn watch(path: &Path, row: &Row) -> io::Result<Self> {
        use std::os::unix::process::CommandExt;
        let pattern = format!("^{} [0-9]* {} ", row.id, row.device);
        let child = Command::new("sh")
            .args(["-c", SCRIPT, "unmount-on-death", &pattern])
            .arg(path)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Both can only fail if the shell is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
