//! `kill -9` of the process that serves a mount, under writers.

use super::support::{Machine, MountTimes, Numbers, World, kill, mounts_below, pause, text};
use super::workload::{self, Floor, Promise, Writer};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

const WRITERS: usize = 4;

/// One vault through many kills.
struct Run<'w> {
    machine: Machine<'w>,
    writers: Vec<Writer>,
    time: AtomicU64,
    uploads: Vec<Promise>,
    seed: u64,
}

impl Run<'_> {
    fn now(&self) -> u64 {
        self.time.fetch_add(1, Ordering::SeqCst)
    }

    /// Lets the writers change things and somebody upload now and then, until the
    /// process behind the mount is killed.
    fn work_and_kill(&mut self, mount: &Path, after: u64, upload_after: u64) {
        let pid = self.machine.pid();
        let mut writers = std::mem::take(&mut self.writers);
        let (run, is_over) = (&*self, AtomicBool::new(false));
        let now = || run.now();
        let uploads = std::thread::scope(|scope| {
            let upload = || {
                let mut uploads = Vec::new();
                pause(upload_after);
                while !is_over.load(Ordering::SeqCst) {
                    let began = now();
                    if run.machine.bare(&["sync"]).code == 0 {
                        uploads.push(Promise { began, done: now() });
                    }
                    pause(upload_after);
                }
                uploads
            };
            let uploads = scope.spawn(upload);
            for writer in &mut writers {
                let now = &now;
                scope.spawn(move || {
                    let error = writer.work(mount, usize::MAX, now).unwrap_err();
                    assert_gone(mount, &error);
                });
            }
            pause(after);
            kill(pid);
            is_over.store(true, Ordering::SeqCst);
            uploads.join().unwrap()
        });
        self.writers = writers;
        self.uploads = uploads;
    }

    fn check(&self, mount: &Path, floor: Floor<'_>) -> Vec<workload::Tree> {
        let checked = workload::check(&self.writers, mount, self.now(), floor);
        checked.unwrap_or_else(|wrong| panic!("seed {}: {wrong}", self.seed))
    }

    /// What the store alone gives a machine that knows nothing.
    fn check_new_machine(&self, floor: Floor<'_>) {
        let new = self.machine.world.machine("new-home");
        let mount = new.mount_with("new-mount", &["--read-only"]);
        self.check(&mount, floor);
        new.fsck();
        new.unmount(&mount);
        new.forget();
    }
}

/// An operation failed: only because the process behind the mount is gone, or already
/// the mount too.
fn assert_gone(mount: &Path, error: &io::Error) {
    const DEAD: [ErrorKind; 2] = [ErrorKind::NotConnected, ErrorKind::ConnectionAborted];
    let is_off = || !mounts_below(mount).contains(&mount.to_owned());
    let is_gone = match error.kind() {
        ErrorKind::NotFound => is_off(),
        // What Linux 6.18 may say of a write to the midst of a page that it cannot read.
        ErrorKind::WriteZero => {
            let listed = fs::read_dir(mount).map(drop);
            is_off() || listed.is_err_and(|error| DEAD.contains(&error.kind()))
        }
        kind => DEAD.contains(&kind),
    };
    assert!(is_gone, "{error}");
}

/// Kills `rounds` times; everything is looked at after every `full_every` of them.
fn kill_often(rounds: u64, full_every: u64) {
    let seed = Numbers::seed();
    println!("TGCRYPTFS_TEST_SEED={seed}");
    let mut draw = Numbers::new(seed);
    let world = World::new();
    let machine = world.first_machine();
    // Another vault, which nobody kills.
    let (home, store) = (world.dir("clean-home"), world.path("clean-store"));
    let clean = Machine { home, store, ..machine.clone() };
    clean.init();
    let mut mount = machine.mount("mount");
    let writers = Writer::start(&mount, WRITERS, seed);
    let mut run = Run { machine, writers, time: AtomicU64::new(1), uploads: vec![], seed };
    let (mut times, mut changes, mut uploads) = (MountTimes::default(), 0, 0);
    for round in 1..=rounds {
        let is_full = round % full_every == 0;
        if is_full {
            // What a new machine is compared with begins here.
            run.machine.sync();
        }
        run.work_and_kill(&mount, 50 + draw.below(1500), 100 + draw.below(400));
        if is_full {
            // Before the machine has had a chance to make up for anything.
            run.check_new_machine(Floor::Uploaded(&run.uploads));
        }
        if round % 2 == 1 {
            // It may have freed itself already.
            let finished = run.machine.bare(&["unmount", text(&mount)]);
            assert!([0, 12].contains(&finished.code), "{finished:#?}");
        }
        let start = Instant::now();
        mount = run.machine.mount("mount");
        times.crashed.push(start.elapsed());
        let start = Instant::now();
        let beside = clean.mount("clean-mount");
        times.clean.push(start.elapsed());
        clean.unmount(&beside);
        let vault = run.machine.mounted()["vault"].clone();
        assert_eq!(vault["health"], "ok", "seed {seed}: {vault:#}");
        changes += run.writers.iter().map(Writer::changes).sum::<usize>();
        uploads += run.uploads.len();
        let trees = run.check(&mount, Floor::Fsynced);
        workload::settle(&mut run.writers, &trees);
        if is_full {
            run.machine.fsck();
            run.machine.sync();
            run.uploads = vec![Promise { began: run.now(), done: run.now() }];
            run.check_new_machine(Floor::Uploaded(&run.uploads));
            println!("round {round}: {changes} changes and {uploads} uploads so far");
        }
    }
    println!("{rounds} kills, {changes} changes, {uploads} uploads");
    times.check(seed);
    run.machine.unmount(&mount);
    run.machine.fsck();
}

#[test]
fn s29_kill_keeps_a_prefix_that_holds_all_that_was_fsynced() {
    kill_often(8, 4);
}

/// The same for longer: `scripts/crashes kills`.
#[test]
#[ignore = "takes several minutes"]
fn s29_two_hundred_kills_keep_a_prefix() {
    kill_often(200, 20);
}
