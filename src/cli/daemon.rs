//! Leaving a daemon behind: the parent starts this program again and waits until the
//! child says that the mount is usable, or why not.
//!
//! The child is a fresh process, so there is no fork with threads to get wrong. It
//! gets the secret through its standard input, never through arguments or the
//! environment; it reports through its standard output in the control protocol; its
//! standard error is the log. It leaves the session of the terminal first of all.
//!
//! Invariant: if the parent dies before the child is ready, the child unmounts and
//! ends, so nobody is left with a mount that was reported as failed.

use super::control::{EventSink, NoResult, read_events};
use super::exit::{Code, Failure, OrFail};
use super::lock::make_private_dir;
use super::password::{hand_over, take_over};
use crate::engine::Progress;
use crate::env::Env;
use crate::vault::Credential;
use anyhow::Result;
use serde_json::Value;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The hidden flag that makes a process the child.
pub(super) const CHILD_FLAG: &str = "--daemon-child";

/// A log larger than this is set aside when a daemon starts.
const LOG_SIZE_MAX: u64 = 10 << 20;

/// Starts the daemon with this process's own arguments and waits until it is ready;
/// gives what it says then.
pub(super) fn start(
    credential: &Credential,
    log_file: &Path,
    progress: &dyn Progress,
) -> Result<Value> {
    let log = open_log(log_file)?;
    let program = std::env::current_exe()
        .or_fail(Code::Other, "install tgcryptfs where it can be started again, or use -f")?;
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    arguments.push(CHILD_FLAG.into());
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .or_fail(Code::Other, "start the mount with -f: cannot start a daemon")?;
    if let Some(mut pipe) = child.stdin.take() {
        // A child that ended already has said why on its standard output.
        drop(hand_over(credential, &mut pipe));
    }
    let Some(reports) = child.stdout.take() else {
        return Err(Failure::new(Code::Other, "start the mount with -f: no pipe").into());
    };
    match read_events(&mut BufReader::new(reports), progress) {
        Ok(told) => Ok(told),
        Err(NoResult::Failed(failure)) => Err(failure.into()),
        Err(NoResult::Broken(error)) => Err(died(&mut child, log_file, error).into()),
    }
}

/// What is known of a child that ended without a word: its status and its log.
fn died(child: &mut Child, log_file: &Path, error: io::Error) -> Failure {
    let message = format!("look into {}: the mount process ended early", log_file.display());
    match child.wait() {
        Ok(status) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            let code = code.filter(|code| *code != 0).map_or(Code::Other, Code::from_number);
            Failure::because(code, message, status.to_string())
        }
        Err(_) => Failure::because(Code::Other, message, error),
    }
}

fn open_log(path: &Path) -> Result<File> {
    if let Some(dir) = path.parent() {
        make_private_dir(dir)?;
    }
    if std::fs::metadata(path).is_ok_and(|data| data.len() > LOG_SIZE_MAX) {
        let mut old = path.as_os_str().to_owned();
        old.push(".old");
        // A log that cannot be set aside goes on growing; that is no reason not to mount.
        drop(std::fs::rename(path, PathBuf::from(old)));
    }
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    Ok(file.or_fail(Code::LocalState, format!("make {} writable", path.display()))?)
}

/// The child's side: leaves the terminal's session and takes the secret.
pub(super) fn become_child() -> Result<Credential> {
    if let Err(error) = rustix::process::setsid() {
        // Only a process that leads a group already is refused.
        log::warn!("staying in the session of the terminal: {error}");
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    take_over(io::stdin().lock())
}

/// The child's way to tell its parent how far it is.
pub(super) struct ReadinessReport(EventSink<io::Stdout>);

impl ReadinessReport {
    pub(super) fn new(env: &Env) -> Self {
        Self(EventSink::new(io::stdout(), env))
    }

    /// What the work before readiness reports to.
    pub(super) fn progress(&self) -> &dyn Progress {
        &self.0
    }

    /// Says that it is usable, and what else the parent is to know. An error means that
    /// the parent is gone.
    pub(super) fn ready(&self, told: Value) -> io::Result<()> {
        self.0.finish(&Ok(told))
    }

    /// Says why there will be no mount.
    pub(super) fn failed(&self, error: anyhow::Error) -> anyhow::Error {
        let outcome = Err(error);
        // If nobody listens, the log has it too.
        drop(self.0.finish(&outcome));
        outcome.err().unwrap_or_else(|| anyhow::anyhow!("the mount failed"))
    }
}
