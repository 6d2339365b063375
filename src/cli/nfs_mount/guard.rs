//! Unmounts when this process dies, even by `kill -9`.
//!
//! Whoever uses an NFS mount waits for a server that is gone, for ever: so it must not
//! outlive us. A small shell waits at the end of a pipe whose other end only this process
//! holds. It is there before the mount is.

use super::commands::{System, guard_script};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Watches over one mount; dropping it ends the watch.
#[derive(Debug)]
pub(super) struct Guard {
    shell: Child,
    is_let_go: bool,
}

impl Guard {
    pub(super) fn watch(source: &str, at: &Path) -> io::Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", &guard_script(System::OWN), "unmount-on-death"])
            .arg(at)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let told = shell.stdin.as_mut().map(|pipe| writeln!(pipe, "{source}"));
        let guard = Self { shell, is_let_go: false };
        told.unwrap_or_else(|| Err(io::ErrorKind::BrokenPipe.into()))?;
        Ok(guard)
    }

    /// Unmounts as if this process had died, and what is mounted in the next seconds too.
    pub(super) fn let_go(mut self) {
        self.is_let_go = true;
        drop(self.shell.stdin.take());
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.is_let_go {
            return;
        }
        // Both can only fail if the shell is gone already.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
