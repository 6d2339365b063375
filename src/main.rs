//! The `tgcryptfs` program: parses the command line, runs the command and ends.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(error) = tgcryptfs::crypto::harden_process() {
        eprintln!("tgcryptfs: keys may end up in core dumps: {error}");
    }
    tgcryptfs::cli::main()
}
