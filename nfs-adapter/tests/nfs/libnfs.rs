//! Files by paths, as programs use them through libnfs.

use crate::program::Program;
use crate::support::Served;
use std::process::Stdio;

#[test]
fn libnfs_finds_what_programs_expect_of_files() {
    let served = Served::new();
    let program = Program::files();
    let mut command = program.command(served.addr);
    let output = command.arg("10000").stderr(Stdio::inherit()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success() && said.ends_with("DONE\n"), "{}", output.status);
    assert!(!said.contains("FAIL"), "{said}");
    assert!(said.lines().filter(|line| line.starts_with("PASS ")).count() >= 22);
}
