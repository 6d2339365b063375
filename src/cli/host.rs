//! A vault that is open for others, from unlocking it to the end: what `mount` and
//! `serve` have in common.
//!
//! However it ends - `unmount`, a signal, `umount` by hand - the order is the same: the
//! front lets go first, then the engine writes down and uploads what it has, then whoever
//! asked is answered.

use super::context::Context;
use super::control::{MountRecord, Request, Server};
use super::daemon::{self, ReadinessReport};
use super::exit::{Code, Failure, OrFail};
use super::lock::make_private_dir;
use super::notify::notify;
use super::password::SecretArgs;
use super::progress::TerminalProgress;
use super::render::one_line;
use super::service::{EngineService, Service};
use super::session::Session;
use super::signals::EndSignals;
use crate::config::Paths;
use crate::engine::Progress;
use crate::env::Env;
use crate::vault::Credential;
use anyhow::Result;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// How long a front that was cut off while files are open may go on before the engine is
/// closed under it.
const CUT_TIMEOUT: Duration = Duration::from_secs(10);

/// How users reach the files while the vault is open.
pub(super) trait Front: Send + Sync {
    /// Waits until it is over, whoever ended it.
    fn wait(&self);
    /// Ends it; fails while files are open.
    fn end(&self) -> Result<(), Failure>;
    /// Ends it for whoever comes new; who is in may go on for a while.
    fn cut(&self) -> Result<(), Failure>;
    /// Serves nobody any more; the engine is closed next.
    fn stop(&self) {}
    /// Who is connected, if there are connections.
    fn clients(&self) -> Option<Vec<String>> {
        None
    }
}

/// A front that works, and what others are told about it.
pub(super) struct Offered {
    pub(super) front: Arc<dyn Front>,
    /// Where it is mounted, if it is.
    pub(super) mount_point: Option<PathBuf>,
    /// Where it is served, if it is.
    pub(super) address: Option<String>,
    /// Protocol.
    pub(super) via: &'static str,
    /// For the log: what began.
    pub(super) title: String,
    /// What the user is told when it is ready.
    pub(super) announcement: Vec<String>,
}

/// Makes the front for an open vault.
pub(super) type Opening<'a> = Box<dyn FnOnce(&Session) -> Result<Offered> + 'a>;

/// How a command that leaves something running is run.
#[derive(Debug, clap::Args)]
pub(super) struct HostArgs {
    /// Stay in the foreground
    #[arg(short = 'f', long)]
    foreground: bool,
    #[command(flatten)]
    secret: SecretArgs,
    /// Be the daemon that the same command without this flag starts
    #[arg(long, hide = true, conflicts_with = "foreground")]
    daemon_child: bool,
}

impl HostArgs {
    /// Whether this process is the daemon, which nobody watches.
    pub(super) fn is_daemon(&self) -> bool {
        self.daemon_child
    }

    /// Whether it stays in the foreground.
    pub(super) fn is_foreground(&self) -> bool {
        self.foreground
    }

    /// Opens the vault and what `prepare` makes of it, until it is ended. `prepare`
    /// refuses what can be refused before a password is asked for; it is called once more
    /// in the daemon.
    pub(super) fn run<'a>(
        &self,
        context: &Context,
        is_read_only: bool,
        prepare: impl Fn() -> Result<Opening<'a>>,
    ) -> Result<()> {
        let host = Host { context, is_read_only };
        if self.daemon_child {
            return host.run_child(prepare);
        }
        let open = prepare()?;
        let progress = TerminalProgress::new(&context.env);
        // The prompt can still be interrupted; after it the signals are blocked, before
        // there is any thread, so that every thread inherits the mask.
        let secret = self.secret.obtain(context)?;
        if !self.foreground {
            let told = daemon::start(&secret, &context.paths()?.log_file(), &progress)?;
            let lines = told["lines"].as_array().into_iter().flatten();
            print_lines(lines.filter_map(Value::as_str));
            return Ok(());
        }
        let signals = block_signals()?;
        host.serve((secret, open), &progress, signals, None, |lines| {
            print_lines(lines.iter().map(String::as_str));
            Ok(())
        })
    }
}

/// Refuses to open a vault that a daemon has open already.
pub(super) fn refuse_running(paths: &Paths) -> Result<()> {
    let running = super::control::Client::connect(&paths.run_dir())
        .and_then(|_| MountRecord::read(&paths.run_dir()));
    let Some(record) = running else { return Ok(()) };
    let message = match (&record.mount_point, &record.address) {
        (None, Some(address)) => {
            format!("unmount {address} first: this vault is served there")
        }
        (at, _) => {
            let at = at.clone().unwrap_or_default();
            let at = at.display();
            format!("use {at}: this vault is mounted there; unmount it to mount it elsewhere")
        }
    };
    Err(Failure::new(Code::Busy, message).into())
}

fn print_lines<'a>(lines: impl Iterator<Item = &'a str>) {
    lines.for_each(|line| println!("{}", one_line(line)));
}

fn block_signals() -> Result<EndSignals> {
    Ok(EndSignals::block().or_fail(Code::Other, "cannot set up signals")?)
}

/// Why the main thread wakes.
enum Wake {
    Signal(&'static str),
    Unmount { is_lazy: bool, answer: Sender<Result<(), Failure>> },
    Over,
}

struct Host<'a> {
    context: &'a Context,
    is_read_only: bool,
}

impl Host<'_> {
    fn run_child<'a>(&self, prepare: impl Fn() -> Result<Opening<'a>>) -> Result<()> {
        let secret = daemon::become_child()?;
        let signals = block_signals()?;
        let report = ReadinessReport::new(&self.context.env);
        let paths = self.context.paths()?;
        let mut is_ready = false;
        let serve = || -> Result<()> {
            let open = prepare()?;
            let log = Some(paths.log_file());
            self.serve((secret, open), report.progress(), signals, log, |lines| {
                report.ready(json!({ "lines": lines }))?;
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

    fn serve(
        &self,
        (secret, open): (Credential, Opening<'_>),
        progress: &dyn Progress,
        signals: EndSignals,
        log: Option<PathBuf>,
        on_ready: impl FnOnce(&[String]) -> Result<()>,
    ) -> Result<()> {
        let context = self.context;
        let (wake, woken) = channel();
        let is_open = Arc::new(AtomicBool::new(false));
        await_signals(&context.env, signals, &wake, &is_open)?;
        let session = Session::open(context, &secret, self.is_read_only, progress)?;
        // It lasts for weeks, and needs no password.
        drop(secret);
        session.start();
        let offered = open(&session)?;
        is_open.store(true, Ordering::SeqCst);
        let front = Arc::clone(&offered.front);
        await_end(&context.env, &front, &wake)?;
        let run_dir = session.paths.run_dir();
        make_private_dir(&run_dir)?;
        let inner = Arc::clone(&session.service);
        let service = HostService { inner, front: Arc::clone(&front), wake };
        let server = Server::start(&run_dir, Arc::new(service), &context.env)
            .or_fail(Code::LocalState, format!("make {} usable", run_dir.display()))?;
        self.record(&offered, log)
            .write(&run_dir)
            .or_fail(Code::LocalState, format!("make {} writable", run_dir.display()))?;
        let systemd = context.variable("NOTIFY_SOCKET");
        let mut waiting = Vec::new();
        match on_ready(&offered.announcement) {
            Ok(()) => {
                notify(systemd, "READY=1");
                log::info!("{}", offered.title);
                self.until_over(&*front, &woken, &mut waiting);
            }
            Err(error) => {
                log::error!("ending: nobody waits for this any more: {error:#}");
                self.end_or_cut(&*front, &woken);
            }
        }
        notify(systemd, "STOPPING=1");
        front.stop();
        drop((front, offered));
        let outcome = close(&session);
        for answer in waiting {
            // Whoever asked may have gone.
            drop(answer.send(answer_of(&outcome)));
        }
        server.stop();
        MountRecord::remove(&run_dir);
        outcome
    }

    fn record(&self, offered: &Offered, log: Option<PathBuf>) -> MountRecord {
        MountRecord {
            mount_point: offered.mount_point.clone(),
            address: offered.address.clone(),
            store: self.context.loaded.config.store.clone().unwrap_or_default(),
            pid: std::process::id(),
            via: offered.via.to_owned(),
            is_read_only: self.is_read_only,
            since_s: self.context.env.now().seconds,
            log,
        }
    }

    /// Serves until the front is over; collects who waits for the end.
    fn until_over(
        &self,
        front: &dyn Front,
        woken: &Receiver<Wake>,
        waiting: &mut Vec<Sender<Result<(), Failure>>>,
    ) {
        // The channel cannot close: the control service holds a sender.
        while let Ok(wake) = woken.recv() {
            match wake {
                Wake::Over => return,
                Wake::Signal(name) => {
                    log::info!("ending on {name}");
                    return self.end_or_cut(front, woken);
                }
                Wake::Unmount { is_lazy, answer } => {
                    match if is_lazy { front.cut() } else { front.end() } {
                        Ok(()) => waiting.push(answer),
                        Err(failure) => drop(answer.send(Err(failure))),
                    }
                }
            }
        }
    }

    /// Ends it; if files are open, cuts it off and waits a little for them.
    fn end_or_cut(&self, front: &dyn Front, woken: &Receiver<Wake>) {
        if let Err(failure) = front.end() {
            log::warn!("detaching, files are still open: {}", with_cause(&failure));
            if let Err(failure) = front.cut() {
                log::error!("{}", with_cause(&failure));
            }
        }
        let start = self.context.env.monotonic();
        let spent = || self.context.env.monotonic().saturating_sub(start);
        while let Some(left) = CUT_TIMEOUT.checked_sub(spent()) {
            match woken.recv_timeout(left) {
                Ok(Wake::Over) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

fn with_cause(failure: &Failure) -> String {
    use std::error::Error;
    failure.source().map_or_else(|| failure.to_string(), |cause| format!("{failure}: {cause}"))
}

/// Starts the thread that receives signals. Before there is a front a signal simply ends
/// the process: opening a vault may be cut short anywhere.
fn await_signals(
    env: &Env,
    signals: EndSignals,
    wake: &Sender<Wake>,
    is_open: &Arc<AtomicBool>,
) -> Result<()> {
    let (wake, is_open) = (wake.clone(), Arc::clone(is_open));
    env.spawn("signals", move || {
        loop {
            let name = signals.wait();
            if !is_open.load(Ordering::SeqCst) {
                log::warn!("ending on {name} before it was ready");
                std::process::exit(Code::Other.number().into());
            }
            if wake.send(Wake::Signal(name)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// Starts the thread that notices when the front is over.
fn await_end(env: &Env, front: &Arc<dyn Front>, wake: &Sender<Wake>) -> Result<()> {
    let (wake, front) = (wake.clone(), Arc::clone(front));
    env.spawn("front", move || {
        front.wait();
        // The front ends with its last holder, which must not be this thread.
        drop(front);
        // Fails only when the main thread is past caring.
        drop(wake.send(Wake::Over));
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

/// The engine's service, who is connected, and the end.
struct HostService {
    inner: Arc<EngineService>,
    front: Arc<dyn Front>,
    wake: Sender<Wake>,
}

impl Service for HostService {
    fn handle(&self, request: &Request, progress: &dyn Progress) -> Result<Value> {
        let is_lazy = match *request {
            Request::Unmount { is_lazy } => is_lazy,
            Request::Status => {
                let mut status = self.inner.handle(request, progress)?;
                if let Some(clients) = self.front.clients() {
                    status[CLIENTS] = clients.into();
                }
                return Ok(status);
            }
            _ => return self.inner.handle(request, progress),
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

/// Who is connected, in what a daemon says of itself.
pub(super) const CLIENTS: &str = "clients";
