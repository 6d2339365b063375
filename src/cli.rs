//! The command line: what people type, and what they see.
//!
//! One struct and one file per family of commands. Only here does the program
//! print, read the environment or use [`anyhow`]; every failure ends in
//! [`exit`], which decides the exit code and prints what to do first.
//!
//! A command that needs the inside of a vault asks the mount daemon through its
//! control socket, and opens the vault itself only when no daemon has it open.

mod allocator;
mod aside;
mod completions;
mod config_command;
mod context;
pub mod control;
mod daemon;
mod demo;
pub mod exit;
mod host;
mod init;
mod inspect;
mod keys;
mod lock;
mod logging;
mod mount;
pub mod mount_table;
mod nfs_mount;
mod notify;
pub mod password;
mod progress;
mod render;
mod serve;
mod service;
mod session;
mod signals;
mod unmount;
mod vault_ops;

use anyhow::Result;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};
use context::{Context, NamedFile};
use exit::Code;
use std::path::PathBuf;
use std::process::ExitCode;

/// Keep files on storage that nobody has to trust
#[derive(Debug, Parser)]
#[command(name = "tgcryptfs", version, max_term_width = 100, subcommand_required = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags every command takes.
#[derive(Clone, Debug, clap::Args)]
struct Global {
    /// Use this configuration file (.json, .yaml or .yml) [env: TGCRYPTFS_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Use this namespace of the vault
    #[arg(long, global = true, value_name = "NAME")]
    namespace: Option<String>,
    /// Set any configuration key, as in --set cache.max_size=2GiB
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Say more on standard error; twice for details
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Mount(mount::Mount),
    Serve(serve::Serve),
    Unmount(unmount::Unmount),
    Status(inspect::Status),
    Sync(inspect::Sync),
    Cache(inspect::Cache),
    Fsck(inspect::Fsck),
    Passwd(keys::Passwd),
    Key(keys::Key),
    Recovery(keys::Recovery),
    Config(config_command::ConfigCommand),
    Completions(completions::Completions),
    Demo(demo::Demo),
}

/// Runs the program on the process's own arguments.
#[must_use]
pub fn main() -> ExitCode {
    allocator::keep_little();
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return ExitCode::from(report_usage(&error).number()),
    };
    let outcome = Cli::from_arg_matches(&matches).map_err(anyhow::Error::from).and_then(run);
    let code = match outcome {
        Ok(()) => Code::Done,
        Err(error) => {
            print_failure(&error);
            exit::code_of(&error)
        }
    };
    ExitCode::from(code.number())
}

/// The command line as clap knows it, with what the help needs at run time.
fn command() -> clap::Command {
    let environment = format!(
        "Environment:\n  {:<28}  {}\n  {:<28}  {}\n  {:<28}  {}",
        "TGCRYPTFS_CONFIG",
        "configuration file",
        "TGCRYPTFS_PASSWORD_FILE",
        "file to read the password from",
        "TGCRYPTFS_<SECTION>_<KEY>",
        "any configuration key: TGCRYPTFS_CACHE_MAX_SIZE sets cache.max_size",
    );
    Cli::command()
        .after_help(exit::help())
        .after_long_help(format!("{environment}\n\n{}", exit::help()))
}

fn report_usage(error: &clap::Error) -> Code {
    let text = error.render().to_string();
    if text.lines().any(|line| render::one_line(line) != line) {
        // Arguments may be names from anywhere.
        text.lines().for_each(|line| eprintln!("{}", render::one_line(line)));
    } else {
        // A closed pipe is the reader's decision, not a failure to report.
        drop(error.print());
    }
    if error.use_stderr() { Code::Usage } else { Code::Done }
}

fn print_failure(error: &anyhow::Error) {
    for (index, line) in exit::lines_of(error).iter().enumerate() {
        match index {
            0 => eprintln!("tgcryptfs: {line}"),
            _ => eprintln!("  {line}"),
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    // A daemon's log is read when something went wrong, so it says when it began and ended.
    let is_daemon = match &cli.command {
        Command::Mount(mount) => mount.is_daemon(),
        Command::Serve(serve) => serve.is_daemon(),
        _ => false,
    };
    logging::start(cli.global.verbose.max(is_daemon.into()));
    let load = |flags| Context::load(&cli.global, flags, NamedFile::MustExist);
    match cli.command {
        Command::Init(init) => {
            init.run(&Context::load(&cli.global, init.flags(), NamedFile::MayBeMade)?)
        }
        Command::Mount(mount) => {
            let flags = mount.flags();
            mount.run(&load(flags)?)
        }
        Command::Serve(serve) => {
            let flags = serve.flags();
            serve.run(&load(flags)?)
        }
        Command::Unmount(unmount) => unmount.run(&load(vec![])?),
        Command::Status(status) => status.run(&load(vec![])?),
        Command::Sync(sync) => sync.run(&load(vec![])?),
        Command::Cache(cache) => cache.run(&load(vec![])?),
        Command::Fsck(fsck) => fsck.run(&load(vec![])?),
        Command::Passwd(passwd) => passwd.run(&load(vec![])?),
        Command::Key(key) => key.run(&load(vec![])?),
        Command::Recovery(recovery) => recovery.run(&load(vec![])?),
        Command::Config(config) => config.run(&load(vec![])?),
        Command::Completions(completions) => completions.run(&mut command()),
        Command::Demo(demo) => demo.run(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_has_a_one_line_summary_without_full_stop() {
        for sub in command().get_subcommands() {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && !about.ends_with('.'), "{}: {about:?}", sub.get_name());
        }
    }
}
