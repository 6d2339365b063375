//! Programs of libnfs, which others wrote: a client that knows nothing of this server, and
//! whose authors have read the RFC for themselves. Tests of the engine take this in too.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use tempfile::TempDir;

/// A program, compiled.
pub(crate) struct Program {
    dir: TempDir,
}

impl Program {
    /// Makes the calls that it is given.
    pub(crate) fn calls() -> Self {
        Self::compile(include_str!("libnfs/calls.c"))
    }

    /// Uses files by their paths, and says what it finds.
    pub(crate) fn files() -> Self {
        Self::compile(include_str!("libnfs/files.c"))
    }

    fn compile(source: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("program.c");
        fs::write(&from, source).unwrap();
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-Wall", "-Wextra", "-o"]).arg(dir.path().join("program")).arg(from);
        let output = cc.arg("-lnfs").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let needs = "needs a C compiler and libnfs (Debian: build-essential and libnfs-dev)";
        assert!(output.status.success(), "{needs}\n{said}");
        Self { dir }
    }

    /// The program, told which server it is for.
    pub(crate) fn command(&self, addr: SocketAddr) -> Command {
        let mut command = Command::new(self.dir.path().join("program"));
        command.args([addr.ip().to_string(), addr.port().to_string()]);
        command
    }
}
