//! The `tgcryptfs` program: parses the command line, runs the command and ends.

use std::process::ExitCode;

fn main() -> ExitCode {
    // MERGE: tgcryptfs::crypto::harden_process() goes here, before anything is read.
    tgcryptfs::cli::main()
}
