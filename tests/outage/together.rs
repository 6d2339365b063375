//! NFS, 9P and a mount of one vault at once, while its store is slow and then away.

use super::clients::{COME_AGAIN, Client, Mounted, Nfs, P9};
use super::vault::{noise, read, write};
use super::weather::{CALL, Vault};
use super::work::{COLD, COLD_LEN, Files, cold_files, watch, work};
use listen::{Endpoint, Policy};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use vfs::Stability;
use zeroize::Zeroizing;

/// How long the weather stays as it is.
#[derive(Clone, Copy)]
struct Course {
    slow: Duration,
    away: Duration,
    slow_again: Duration,
}

/// Everything that serves the vault; dropped in this order.
struct Served {
    nfs: nfs_adapter::Server,
    p9: p9_adapter::Server,
    mount: Option<fuse_adapter::Mount>,
    vault: Vault,
    runtime: Runtime,
    _dir: tempfile::TempDir,
}

fn endpoint() -> (Endpoint, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (Endpoint::Tcp(listener), addr)
}

impl Served {
    fn new() -> (Self, [SocketAddr; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        let vault = runtime.block_on(Vault::new(&dir.path().join("store")));
        let engine = &vault.engine;
        let policy = Policy::default();
        let handle = runtime.handle().clone();
        let ((at_nfs, nfs), (at_p9, p9)) = (endpoint(), endpoint());
        // As the program does it: NFS clients come again by themselves.
        let export = nfs_adapter::Export::new(engine.fs_id(), Zeroizing::new([7; 32]));
        let nfs_server = nfs_adapter::Server::start(
            Arc::new(engine.clone()),
            at_nfs,
            policy.clone(),
            export,
            handle.clone(),
        );
        let export = p9_adapter::Export { match_peer_uid: false, ..Default::default() };
        let fs = Arc::new(engine.patient());
        let p9_server = p9_adapter::Server::start(fs, at_p9, policy, export, handle.clone());
        let point = dir.path().join("mount");
        std::fs::create_dir(&point).unwrap();
        let options = fuse_adapter::Options::new(&point);
        let mount = fuse_adapter::mount(Arc::new(engine.patient()), handle, options);
        let mount = mount.inspect_err(|error| println!("left out, the mount: {error}")).ok();
        let (nfs_server, p9_server) = (nfs_server.unwrap(), p9_server.unwrap());
        (Self { nfs: nfs_server, p9: p9_server, mount, vault, runtime, _dir: dir }, [nfs, p9])
    }

    /// Makes files of which nothing is left on this machine.
    async fn prepare(&self, whose: &[&str]) {
        let engine = &self.vault.engine;
        for whose in whose {
            for (name, content) in cold_files(whose) {
                write(engine, &name, content, Stability::Buffered).await.unwrap();
            }
            for number in 0..COLD {
                let name = format!("{whose}-watched-{number}");
                let content = noise(COLD_LEN, 1000 + number);
                write(engine, &name, content, Stability::Buffered).await.unwrap();
            }
        }
        engine.sync().await.unwrap();
        engine.clear_cache().unwrap();
    }

    /// What was written is there, here and on a new machine.
    async fn check(&self, files: &Files) {
        let fresh = self.vault.on_a_new_machine().await;
        for (name, content) in files {
            assert!(read(&self.vault.engine, name).await.unwrap() == *content, "{name}");
            assert!(read(&fresh, name).await.unwrap() == *content, "{name} on a new machine");
        }
    }
}

/// A client that works and one that watches.
type Pair = (&'static str, Box<dyn Client>, Box<dyn Client>);

fn pairs([nfs, p9]: [SocketAddr; 2], mount: Option<&Path>) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = vec![
        ("nfs", Box::new(Nfs::new(nfs)), Box::new(Nfs::new(nfs))),
        ("9p", Box::new(P9::new(p9)), Box::new(P9::new(p9))),
    ];
    if let Some(root) = mount {
        let mounted = || Box::new(Mounted::new(root.to_owned()));
        pairs.push(("fuse", mounted(), mounted()));
    }
    pairs
}

fn in_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn weather_changes(course: Course) {
    let (served, addrs) = Served::new();
    let mount = served.mount.as_ref().map(|mount| mount.path().to_owned());
    let pairs = pairs(addrs, mount.as_deref());
    let whose: Vec<_> = pairs.iter().map(|(whose, ..)| *whose).collect();
    served.runtime.block_on(served.prepare(&whose));
    let memory_before = in_memory_kib();
    let (stop, mut files) = (AtomicBool::new(false), Files::new());
    let start = Instant::now();
    std::thread::scope(|scope| {
        let stop = &stop;
        let mut running = Vec::new();
        for (seed, (whose, mut worker, mut watcher)) in (1..).zip(pairs) {
            let work = scope.spawn(move || work(&mut *worker, whose, seed, stop));
            let watch = scope.spawn(move || watch(&mut *watcher, whose, stop));
            running.push((whose, work, watch));
        }
        served.vault.slow();
        std::thread::sleep(course.slow);
        let (calls, told) = (served.vault.calls(), COME_AGAIN.load(Ordering::Relaxed));
        println!("{:?}: {calls} calls of the store, come again {told} times", start.elapsed());
        assert!(calls > 5);
        served.vault.away();
        std::thread::sleep(course.away);
        let told_while_away = COME_AGAIN.load(Ordering::Relaxed) - told;
        println!("{:?}: come again {told_while_away} times more", start.elapsed());
        assert!(told_while_away > 5, "clients of NFS were told");
        served.vault.slow();
        std::thread::sleep(course.slow_again);
        served.vault.fair();
        stop.store(true, Ordering::Relaxed);
        for (whose, work, watch) in running {
            let (left, done) = work.join().unwrap();
            let took = watch.join().unwrap();
            let (most, common) = (took[took.len() - 1], took[took.len() / 2]);
            let count = took.len();
            println!("{whose}: {done} things done; {count} glances took {common:?}, one {most:?}");
            assert!(done > 10 && took.len() > 100, "{whose} did something");
            assert!(most < CALL, "{whose} waited for a store it did not need: {most:?}");
            files.extend(left);
        }
    });
    println!("{:?}: all is done", start.elapsed());
    let grown_kib = in_memory_kib() - memory_before;
    println!("{grown_kib} KiB more in memory at most");
    assert!(grown_kib < 256 << 10, "{grown_kib} KiB");
    served.runtime.block_on(served.check(&files));
    // The last close may still be on its way.
    while served.mount.as_ref().is_some_and(|mount| mount.unmount().is_err()) {
        assert!(start.elapsed() < Duration::from_secs(600), "the mount stays busy");
        std::thread::sleep(Duration::from_millis(50));
    }
    served.nfs.stop();
    served.p9.stop();
    served.runtime.block_on(served.vault.engine.close()).unwrap();
}

#[test]
fn a_slow_store_and_an_outage_are_waited_for_and_cost_nothing() {
    let seconds = Duration::from_secs;
    weather_changes(Course { slow: seconds(15), away: seconds(30), slow_again: seconds(5) });
}

/// `cargo test --test outage -- --ignored together`.
#[test]
#[ignore = "the same, for two minutes"]
fn a_store_that_is_slow_for_long_and_an_outage_cost_nothing() {
    let seconds = Duration::from_secs;
    weather_changes(Course { slow: seconds(60), away: seconds(30), slow_again: seconds(30) });
}
