//! Programs of libnfs, which others wrote: a client that knows nothing of this server, and
//! whose authors have read the RFC for themselves.

use crate::support::Served;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A program, compiled.
pub(crate) struct Program {
    dir: TempDir,
}

impl Program {
    /// Makes the calls that it is given.
    pub(crate) fn calls() -> Self {
        Self::compile("calls.c")
    }

    fn compile(source: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nfs/libnfs").join(source);
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-Wall", "-Wextra", "-o"]).arg(dir.path().join("program")).arg(source);
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

#[test]
fn libnfs_finds_what_programs_expect_of_files() {
    let served = Served::new();
    let program = Program::compile("files.c");
    let mut command = program.command(served.addr);
    let output = command.arg("10000").stderr(Stdio::inherit()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success() && said.ends_with("DONE\n"), "{}", output.status);
    assert!(!said.contains("FAIL"), "{said}");
    assert!(said.lines().filter(|line| line.starts_with("PASS ")).count() >= 22);
}
