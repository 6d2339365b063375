//! `completions`: scripts that let a shell complete this command line.

use anyhow::Result;
use clap_complete::Shell;
use std::io::Write;

/// Write a completion script for a shell
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self, command: &mut clap::Command) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "tgcryptfs", &mut script);
        Ok(std::io::stdout().write_all(&script)?)
    }
}
