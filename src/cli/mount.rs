//! `mount`: opens the vault, mounts it, and serves until somebody ends it.
//!
//! However it ends - `unmount`, a signal, `umount` by hand - the order is the same:
//! the kernel lets go first, then the engine writes down and uploads what it has, then
//! whoever asked is answered.

use super::context::Context;
use super::control::{MountRecord, Request, Server};
use super::daemon::{self, ReadinessReport};
use super::exit::{Code, Failure, OrFail};
use super::lock::make_private_dir;
use super::mount_table::check_mount_point;
use super::notify::notify;
use super::password::SecretArgs;
use super::progress::TerminalProgress;
use super::render::one_line;
use super::service::{EngineService, Service};
use super::session::{Mounted, Session};
use super::signals::EndSignals;
use crate::config::{FlagValue, Paths};
use crate::engine::Progress;
use crate::env::Env;
use crate::vault::Credential;
use anyhow::Result;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// How long a mount that was detached while files are open may go on before the
/// engine is closed under it.
const DETACHED_TIMEOUT: Duration = Duration::from_secs(10);

/// Mount the file system
#[derive(Debug, clap::Args)]
pub(super) struct Mount {
    /// Where to mount it: an existing directory
    path: PathBuf,
    /// How to mount it
    #[arg(long, value_enum, default_value = "auto")]
    via: Via,
    /// Stay in the foreground
    #[arg(short = 'f', long)]
    foreground: bool,
    /// Refuse every write
    #[arg(long)]
    read_only: bool,
    /// Let other users into the mount
    #[arg(long)]
    allow_other: bool,
    #[command(flatten)]
    secret: SecretArgs,
    /// Be the daemon that the same command without this flag starts
    #[arg(long, hide = true, conflicts_with = "foreground")]
    daemon_child: bool,
}

/// Front ends of `mount`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Via {
    /// The best this system has
    Auto,
    /// The kernel's FUSE
    Fuse,
}

impl Mount {
    /// The configuration keys its flags set.
    pub(super) fn flags(&self) -> Vec<FlagValue> {
        let set = |key: &str, flag: &str| FlagValue {
            key: key.to_owned(),
            value: "true".to_owned(),
            flag: flag.to_owned(),
        };
        self.allow_other.then(|| set("mount.allow_other", "--allow-other")).into_iter().collect()
    }

    /// Whether this process is the daemon, which nobody watches.
    pub(super) fn is_daemon(&self) -> bool {
        self.daemon_child
    }

    pub(super) fn run(&self, context: &Context) -> Result<()> {
        if self.daemon_child {
            return self.run_child(context);
        }
        let mount_point = self.prepare(context)?;
        let progress = TerminalProgress::new(&context.env);
        if self.foreground {
            // The prompt can still be interrupted; after it the signals are blocked, before
            // there is any thread, so that every thread inherits the mask.
            let secret = self.secret.obtain(context)?;
            let signals = block_signals()?;
            let mounting = Mounting { context, mount_point, is_read_only: self.read_only };
            return mounting.serve(secret, &progress, signals, None, || {
                println!("{} is mounted", one_line(&self.path.to_string_lossy()));
                Ok(())
            });
        }
        let secret = self.secret.obtain(context)?;
        daemon::start(&secret, &context.paths()?.log_file(), &progress)
    }

    /// What can be refused before a password is asked for.
    fn prepare(&self, context: &Context) -> Result<PathBuf> {
        context.check_supported()?;
        let mount_point = check_mount_point(&self.path)?;
        refuse_overlap(&mount_point, context)?;
        if let Some(record) = running(&context.paths()?) {
            let message = format!(
                "use {}: this vault is mounted there; unmount it to mount it elsewhere",
                record.mount_point.display()
            );
            return Err(Failure::new(Code::Busy, message).into());
        }
        Ok(mount_point)
    }

    fn run_child(&self, context: &Context) -> Result<()> {
        let secret = daemon::become_child()?;
        let signals = block_signals()?;
        let report = ReadinessReport::new(&context.env);
        let paths = context.paths()?;
        let mut is_ready = false;
        let serve = || -> Result<()> {
            let mount_point = self.prepare(context)?;
            let mounting = Mounting { context, mount_point, is_read_only: self.read_only };
            let log = Some(paths.log_file());
            mounting.serve(secret, report.progress(), signals, log, || {
                report.ready()?;
                is_ready = true;
                // The daemon must not keep the directory it was started from busy.
                Ok(std::env::set_current_dir("/")?)
            })
        };
        let outcome = serve();
        match outcome {
            Err(error) if !is_ready => Err(report.failed(error)),
            outcome => outcome,
        }
    }
}

fn block_signals() -> Result<EndSignals> {
    Ok(EndSignals::block().or_fail(Code::Other, "cannot set up signals")?)
}

/// The record of a daemon that serves this vault, if one answers.
fn running(paths: &Paths) -> Option<MountRecord> {
    super::control::Client::connect(&paths.run_dir())?;
    MountRecord::read(&paths.run_dir())
}

/// Refuses to mount over what the mount itself needs: it would wait for itself.
fn refuse_overlap(mount_point: &Path, context: &Context) -> Result<()> {
    let paths = context.paths()?;
    let mut needed = vec![(paths.state, "local state"), (paths.cache_root, "cache")];
    if let Some(path) = context.store_url()?.strip_prefix("file://") {
        needed.push((PathBuf::from(path), "store"));
    }
    for (path, what) in needed {
        if path.canonicalize().unwrap_or(path).starts_with(mount_point) {
            let message = format!(
                "choose another mount point: the {what} lies below {}",
                mount_point.display()
            );
            return Err(Failure::new(Code::MountPoint, message).into());
        }
    }
    Ok(())
}

/// Why the main thread wakes.
enum Wake {
    Signal(&'static str),
    Unmount { is_lazy: bool, answer: Sender<Result<(), Failure>> },
    Unmounted,
}

/// One mount, from opening the vault to the end.
struct Mounting<'a> {
    context: &'a Context,
    mount_point: PathBuf,
    is_read_only: bool,
}

impl Mounting<'_> {
    fn serve(
        &self,
        secret: Credential,
        progress: &dyn Progress,
        signals: EndSignals,
        log: Option<PathBuf>,
        on_ready: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let context = self.context;
        let (wake, woken) = channel();
        let is_mounted = Arc::new(AtomicBool::new(false));
        await_signals(&context.env, signals, &wake, &is_mounted)?;
        let session = Session::open(context, &secret, self.is_read_only, progress)?;
        // A mount lasts for weeks, and needs no password.
        drop(secret);
        session.start();
        let mounted = session.mount_fuse(context, &self.mount_point, self.is_read_only)?;
        is_mounted.store(true, Ordering::SeqCst);
        await_end(&context.env, &mounted, &wake)?;
        let run_dir = session.paths.run_dir();
        make_private_dir(&run_dir)?;
        let service = MountService { inner: Arc::clone(&session.service), wake };
        let server = Server::start(&run_dir, Arc::new(service), &context.env)
            .or_fail(Code::LocalState, format!("make {} usable", run_dir.display()))?;
        self.record(log)
            .write(&run_dir)
            .or_fail(Code::LocalState, format!("make {} writable", run_dir.display()))?;
        let systemd = context.variable("NOTIFY_SOCKET");
        let mut waiting = Vec::new();
        match on_ready() {
            Ok(()) => {
                notify(systemd, "READY=1");
                log::info!("mounted at {}", self.mount_point.display());
                self.until_unmounted(&mounted, &woken, &mut waiting);
            }
            Err(error) => {
                log::error!("unmounting: nobody waits for this mount any more: {error:#}");
                self.unmount_or_detach(&mounted, &woken);
            }
        }
        notify(systemd, "STOPPING=1");
        drop(mounted);
        let outcome = close(&session);
        for answer in waiting {
            // Whoever asked may have gone.
            drop(answer.send(answer_of(&outcome)));
        }
        server.stop();
        MountRecord::remove(&run_dir);
        outcome
    }

    fn record(&self, log: Option<PathBuf>) -> MountRecord {
        MountRecord {
            mount_point: self.mount_point.clone(),
            store: self.context.loaded.config.store.clone().unwrap_or_default(),
            pid: std::process::id(),
            via: "fuse".to_owned(),
            is_read_only: self.is_read_only,
            since_s: self.context.env.now().seconds,
            log,
        }
    }

    /// Serves until the kernel has let go; collects who waits for the end.
    fn until_unmounted(
        &self,
        mounted: &Mounted,
        woken: &Receiver<Wake>,
        waiting: &mut Vec<Sender<Result<(), Failure>>>,
    ) {
        // The channel cannot close: the control service holds a sender.
        while let Ok(wake) = woken.recv() {
            match wake {
                Wake::Unmounted => return,
                Wake::Signal(name) => {
                    log::info!("ending on {name}");
                    return self.unmount_or_detach(mounted, woken);
                }
                Wake::Unmount { is_lazy, answer } => {
                    let outcome = if is_lazy { mounted.detach() } else { mounted.unmount() };
                    let outcome = outcome.or_fail(Code::MountPoint, self.busy_advice());
                    match outcome {
                        Ok(()) => waiting.push(answer),
                        Err(failure) => drop(answer.send(Err(failure))),
                    }
                }
            }
        }
    }

    fn busy_advice(&self) -> String {
        let at = self.mount_point.display();
        format!("close what is open below {at} (lsof +D shows it), or use --lazy")
    }

    /// Unmounts; if files are open, detaches and waits a little for them.
    fn unmount_or_detach(&self, mounted: &Mounted, woken: &Receiver<Wake>) {
        if let Err(error) = mounted.unmount() {
            log::warn!("detaching, files are still open: {error}");
            if let Err(error) = mounted.detach() {
                log::error!("{error}");
            }
        }
        let start = self.context.env.monotonic();
        let spent = || self.context.env.monotonic().saturating_sub(start);
        while let Some(left) = DETACHED_TIMEOUT.checked_sub(spent()) {
            match woken.recv_timeout(left) {
                Ok(Wake::Unmounted) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

/// Starts the thread that receives signals. Before there is a mount a signal simply
/// ends the process: opening a vault may be cut short anywhere.
fn await_signals(
    env: &Env,
    signals: EndSignals,
    wake: &Sender<Wake>,
    is_mounted: &Arc<AtomicBool>,
) -> Result<()> {
    let (wake, is_mounted) = (wake.clone(), Arc::clone(is_mounted));
    env.spawn("signals", move || {
        loop {
            let name = signals.wait();
            if !is_mounted.load(Ordering::SeqCst) {
                log::warn!("ending on {name} before the mount was ready");
                std::process::exit(Code::Other.number().into());
            }
            if wake.send(Wake::Signal(name)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// Starts the thread that notices when the kernel has let go.
fn await_end(env: &Env, mounted: &Arc<Mounted>, wake: &Sender<Wake>) -> Result<()> {
    let (wake, mounted) = (wake.clone(), Arc::clone(mounted));
    env.spawn("mount", move || {
        if let Err(error) = mounted.wait() {
            log::error!("the mount ended: {error}");
        }
        // Fails only when the main thread is past caring.
        drop(wake.send(Wake::Unmounted));
    })?;
    Ok(())
}

fn close(session: &Session) -> Result<()> {
    let outcome = session.close();
    if let Err(error) = &outcome {
        log::error!("closing: {error:#}");
    }
    outcome
}

/// The outcome once more, for somebody else who waits for it.
fn answer_of(outcome: &Result<()>) -> Result<(), Failure> {
    outcome.as_ref().copied().map_err(|error| {
        Failure::from_lines(super::exit::code_of(error), &super::exit::lines_of(error))
    })
}

/// The engine's service, and unmounting.
struct MountService {
    inner: Arc<EngineService>,
    wake: Sender<Wake>,
}

impl Service for MountService {
    fn handle(&self, request: &Request, progress: &dyn Progress) -> Result<Value> {
        let Request::Unmount { is_lazy } = *request else {
            return self.inner.handle(request, progress);
        };
        progress.begin("unmounting", None);
        let (answer, answered) = channel();
        let ended = "look again with status: the mount was ending already";
        let sent = self.wake.send(Wake::Unmount { is_lazy, answer });
        sent.or_fail(Code::Busy, ended)?;
        answered.recv().or_fail(Code::Busy, ended)??;
        progress.end();
        Ok(json!({}))
    }
}
