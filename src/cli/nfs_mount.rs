//! Mounting through the kernel's NFS client, with a server of our own on this machine.
//!
//! Any program of this machine can reach a port of it, so nobody else may get anything
//! from this one. The path to be mounted is random and good for one mount, which is ours:
//! the kernel shows it to everybody in its list of mounts, and by then it is worth
//! nothing. Whoever has not mounted has no file handle, and cannot make one: the key that
//! they are made with is a fresh one for each mount, and goes with this process, as the
//! mount does. On Linux the server also talks to nobody but root, who the kernel is.
//!
//! Nothing here may look at the mounted directory: this process serves it, and one that
//! is dead never answers.

mod commands;
mod guard;

use super::context::Context;
use super::exit::{Code, Failure, OrFail};
use super::host::{Front, Offered};
use super::mount_table::{Mounted, NFS_PATH_START, busy_advice, device_of, mounted_at};
use super::session::{SecretPath, ServedNfs, Session, Terms, hex};
use crate::env::Env;
use anyhow::Result;
use commands::{Manner, Served, System};
use guard::Guard;
use listen::{Endpoint, Policy};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long the system may take to mount.
const MOUNT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may take to unmount: what is not written yet is handed over before.
const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(600);
/// How long it may take to take a mount away by force.
const FORCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two looks at something that tells nobody when it changes.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longest time between two looks at the list of mounts.
const LIST_EVERY: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
/// How long a server that lives may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes in the random part of a path.
const SECRET_LEN: usize = 16;

/// Mounts the open vault.
pub(super) fn mount(
    context: &Context,
    session: &Session,
    at: PathBuf,
    is_read_only: bool,
) -> Result<Offered> {
    let env = &context.env;
    let secret = Zeroizing::new(hex(&env.random_array::<SECRET_LEN>()));
    let path = Zeroizing::new(format!("{NFS_PATH_START}{}", *secret));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .or_fail(Code::Other, "cannot listen on this machine's own address")?;
    let policy = Policy {
        allow: vec![listen::Cidr::only(Ipv4Addr::LOCALHOST.into())],
        // Linux mounts and asks as root. What macOS does as whom cannot be seen from here.
        users: if cfg!(target_os = "linux") { vec![0] } else { Vec::new() },
        ..Policy::default()
    };
    let mut terms = Terms { is_read_only, ..Terms::default() };
    if !context.loaded.config.mount.allow_other {
        terms.only_user = Some(rustix::process::geteuid().as_raw());
    }
    let endpoint = Endpoint::Tcp(listener);
    let once = SecretPath { path: path.clone(), is_for_one_mount: true };
    let server = session.serve_nfs(context, endpoint, policy, &terms, Some(once))?;
    let port = server.local_addr().map_or(0, |addr| addr.port());
    let served = Served { port, path: &path, is_read_only };
    let source = served.source();
    let guard = Guard::watch(&source, &at)
        .or_fail(Code::Other, "cannot start sh, which is to unmount if this process dies")?;
    let words = commands::mount(System::OWN, &served, &at);
    let mounted = run(env, &words, MOUNT_TIMEOUT);
    let is_there = mounted.is_ok() && !is_gone(env, &source);
    if !is_there {
        // Perhaps it comes to its end now that we have lost patience.
        guard.let_go();
        let message = format!(
            "make /dev/fuse usable, or be root and have NFS in the kernel: cannot mount at {} \
             through NFS",
            at.display()
        );
        let cause = mounted.err().unwrap_or_else(|| "the kernel does not list it".to_owned());
        let cause = cause.replace(&*secret, "…");
        return Err(Failure::because(Code::MountPoint, message, cause).into());
    }
    Ok(Offered {
        title: format!("mounted at {} through NFS, port {port}", at.display()),
        mount_point: Some(at.clone()),
        address: Some(format!("127.0.0.1:{port}")),
        via: "nfs",
        announcement: Vec::new(),
        front: Arc::new(NfsMount {
            env: env.clone(),
            server,
            at,
            device: device_of(&source).ok().flatten(),
            source,
            guard: Mutex::new(Some(guard)),
        }),
    })
}

/// A kernel mount of what this process serves.
struct NfsMount {
    env: Env,
    server: ServedNfs,
    at: PathBuf,
    /// What the kernel calls what is mounted; no other mount has it.
    source: String,
    /// Its number, if the kernel tells.
    device: Option<String>,
    guard: Mutex<Option<Guard>>,
}

impl Front for NfsMount {
    fn wait(&self) {
        while !is_gone(&self.env, &self.source) {
            await_change();
        }
        // Who has a file of a detached mount open goes on until it is closed, and then the
        // kernel hangs up.
        while !self.server.clients().is_empty() {
            std::thread::park_timeout(LOOK_EVERY);
        }
        drop(self.guard.lock().take());
    }

    fn end(&self) -> Result<(), Failure> {
        self.unmount(Manner::IfUnused, UNMOUNT_TIMEOUT)
    }

    fn cut(&self) -> Result<(), Failure> {
        // The kernel writes out what files that stay open have, and may not come to it later.
        let words = ["sync".into(), "-f".into(), self.at.clone().into()];
        if let Err(error) = run(&self.env, &words, FORCE_TIMEOUT) {
            log::warn!("not everything is handed over before detaching: {error}");
        }
        self.unmount(Manner::Detach, FORCE_TIMEOUT)
    }

    fn stop(&self) {
        let is_in_use = !self.server.clients().is_empty();
        self.server.stop();
        if let Some(device) = self.device.as_ref().filter(|_| is_in_use) {
            // What is detached and still open is dead now. From Linux 6.5 on programs can be
            // told so.
            let knob = format!("/sys/fs/nfs/{device}/shutdown");
            if let Err(error) = std::fs::write(&knob, "1") {
                log::warn!("programs may wait for files that are still open: {knob}: {error}");
            }
        }
        drop(self.guard.lock().take());
    }

    fn clients(&self) -> Option<Vec<String>> {
        Some(self.server.clients())
    }
}

impl NfsMount {
    fn unmount(&self, manner: Manner, timeout: Duration) -> Result<(), Failure> {
        let tried = try_all(&self.env, manner, &self.at, timeout);
        match tried {
            Err(tried) if !is_gone(&self.env, &self.source) => {
                Err(Failure::because(Code::MountPoint, busy_advice(&self.at), tried))
            }
            _ => Ok(()),
        }
    }
}

/// Takes off a mount whose server is gone.
pub(super) fn take_off(at: &Path) -> Result<(), Failure> {
    let env = Env::real();
    match try_all(&env, Manner::Abandon, at, FORCE_TIMEOUT) {
        Err(tried) if matches!(mounted_at(at), Mounted::Nfs { .. }) => {
            let message = format!("unmount {} as root: its server is gone", at.display());
            Err(Failure::because(Code::MountPoint, message, tried))
        }
        _ => Ok(()),
    }
}

/// Whether somebody listens where the server of a mount of ours was.
pub(super) fn is_served(port: Option<u16>) -> bool {
    port.is_some_and(|port| {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT).is_ok()
    })
}

/// Whether the system lists its mounts, and this one is not among them.
fn is_gone(env: &Env, source: &str) -> bool {
    if cfg!(target_os = "linux") {
        return matches!(device_of(source), Ok(None));
    }
    let listed = output_of(env, &["mount".into()], FORCE_TIMEOUT);
    listed.is_ok_and(|text| !text.contains(&format!("{source} on ")))
}

/// Waits until the list of mounts may have changed.
fn await_change() {
    // Where there is no such list time passes instead.
    let changed = File::open("/proc/self/mountinfo").map(|list| {
        let mut fds = [PollFd::new(&list, PollFlags::PRI)];
        // However it ends: whoever waits looks.
        let _ = poll(&mut fds, Some(&LIST_EVERY));
    });
    std::thread::park_timeout(if changed.is_ok() { LOOK_EVERY } else { CONNECT_TIMEOUT });
}

fn try_all(env: &Env, manner: Manner, at: &Path, timeout: Duration) -> Result<(), String> {
    let mut tried = Vec::new();
    for words in commands::unmount(System::OWN, manner, at) {
        match run(env, &words, timeout) {
            Ok(()) => return Ok(()),
            Err(error) => tried.push(error),
        }
    }
    Err(tried.join("; "))
}

fn run(env: &Env, words: &[std::ffi::OsString], timeout: Duration) -> Result<(), String> {
    output_of(env, words, timeout).map(drop)
}

/// Runs a command that must not take longer; gives what it printed, or says what it
/// complained of.
fn output_of(env: &Env, words: &[std::ffi::OsString], timeout: Duration) -> Result<String, String> {
    let Some((program, arguments)) = words.split_first() else { return Ok(String::new()) };
    let name = program.to_string_lossy();
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/").stdin(Stdio::null());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{name}: {error}"))?;
    let start = env.monotonic();
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if env.monotonic().saturating_sub(start) < timeout => {
                std::thread::park_timeout(LOOK_EVERY);
            }
            Ok(None) => {
                // One that waits for a server in the kernel may not even die; nobody waits.
                drop(child.kill());
                return Err(format!("{name}: no answer within {} s", timeout.as_secs()));
            }
            Err(error) => return Err(format!("{name}: {error}")),
        }
    }
    let output = child.wait_with_output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    // What follows the first line is advice for others.
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name}: {}", said.lines().next().unwrap_or("it failed without a word")))
}
