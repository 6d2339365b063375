//! The power is cut while several writers are at work: all that a machine has, its
//! state, cache and store, is on a disk that remembers what was done to it, and is put
//! back to what a cut at some moment may have left.

use super::crash;
use super::disk::{Image, Left, LeftOut, Replay, Step};
use super::support::{MOUNT_MAX, Machine, MountTimes, Numbers, World, is_root, pause, text};
use super::workload::{self, Floor, Promise, Writer};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Instant;

const WRITERS: usize = 3;

/// What writers did, what the disk saw of it, and what was promised.
struct Recorded {
    steps: Vec<Step>,
    /// When the writers began.
    start: u64,
    writers: Vec<Writer>,
    uploads: Vec<Promise>,
}

/// Lets `WRITERS` writers make `changes` each, with an upload now and then.
fn record(world: &World, seed: u64, changes: usize) -> Recorded {
    let disk = crash::empty_disk(world);
    // What is linked elsewhere is copied then.
    disk.refuse_links(seed % 2 == 1);
    let machine = crash::machine(world, "home");
    machine.init();
    // Small packs, so that some are full.
    let mount = machine.mount_with("mount", &["--set", "chunk.chunk_size=1MiB"]);
    let mut writers = Writer::start(&mount, WRITERS, seed);
    machine.sync();
    let (start, is_over, now) = (disk.now(), AtomicBool::new(false), || disk.now());
    let uploads = std::thread::scope(|scope| {
        let upload = || {
            let mut uploads = vec![Promise { began: start, done: start }];
            while !is_over.load(Ordering::SeqCst) {
                let began = now();
                machine.sync();
                uploads.push(Promise { began, done: now() });
                pause(100);
            }
            uploads
        };
        let uploads = scope.spawn(upload);
        let working: Vec<_> = writers
            .iter_mut()
            .map(|writer| scope.spawn(|| writer.work(&mount, changes, &now).unwrap()))
            .collect();
        let results: Vec<_> = working.into_iter().map(ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::SeqCst);
        results.into_iter().for_each(|result| result.unwrap());
        uploads.join().unwrap()
    });
    crash::take_down(world);
    Recorded { steps: disk.unmount(), start, writers, uploads }
}

impl Recorded {
    /// Moments at which the power is cut: any, and right after a sync succeeded, where
    /// one that was left out shows. All there are, if they are fewer than `count`.
    fn moments(&self, count: usize, draw: &mut Numbers) -> Vec<u64> {
        let end = self.steps.len() as u64;
        if end - self.start < count as u64 {
            return (self.start..=end).collect();
        }
        let is_sync = |at: &u64| matches!(self.steps[*at as usize - 1], Step::Sync { .. });
        let syncs: Vec<u64> = (self.start + 1..=end).filter(is_sync).collect();
        let mut moments: Vec<u64> = (0..count)
            .map(|number| match number % 2 {
                0 => self.start + draw.below(end - self.start + 1),
                _ => syncs[draw.below(syncs.len() as u64) as usize],
            })
            .collect();
        moments.sort_unstable();
        moments
    }

    /// Looks at what a crash at `at` has left on the disk; notes how long mounting it took,
    /// and now and then how long that takes without a crash.
    fn check(
        &self,
        machine: &Machine<'_>,
        at: u64,
        is_full: bool,
        times: &RefCell<MountTimes>,
    ) -> Result<(), String> {
        if is_full {
            // The store alone, before the machine makes up for anything.
            let new = Machine { home: machine.world.dir("new-home"), ..machine.clone() };
            let mount = machine.world.dir("new-mount");
            crash::succeeded(new.run(&["mount", "--read-only", text(&mount)]))?;
            workload::check(&self.writers, &mount, at, Floor::Uploaded(&self.uploads))?;
            crash::succeeded(new.run(&["fsck"]))?;
            new.unmount(&mount);
            new.forget();
        }
        let mount = machine.world.dir("mount");
        let start = Instant::now();
        crash::succeeded(machine.run(&["mount", text(&mount)]))?;
        let took = start.elapsed();
        times.borrow_mut().crashed.push(took);
        if machine.mounted()["vault"]["health"] != "ok" {
            return Err(format!("{:#}", machine.mounted()));
        }
        workload::check(&self.writers, &mount, at, Floor::Fsynced)?;
        if is_full {
            crash::succeeded(machine.run(&["sync", "--full"]))?;
        }
        crash::succeeded(machine.run(&["fsck"]))?;
        if is_full || took > MOUNT_MAX {
            machine.unmount(&mount);
            let start = Instant::now();
            crash::succeeded(machine.run(&["mount", text(&mount)]))?;
            times.borrow_mut().clean.push(start.elapsed());
        }
        Ok(())
    }

    /// Cuts the power `count` times; gives what was wrong. From where the writers begin
    /// on, some syncs may be left out: then the first harm ends it.
    fn cut_power(
        &self,
        world: &World,
        count: usize,
        seed: u64,
        left_out: Option<LeftOut>,
    ) -> Vec<String> {
        let (machine, mut draw) = (crash::machine(world, "home"), Numbers::new(seed));
        let mut replay = Replay::new(Image::empty(), seed);
        let push = |replay: &mut Replay, from: u64, to: u64| {
            self.steps[from as usize..to as usize].iter().for_each(|step| replay.push(step));
        };
        push(&mut replay, 0, self.start);
        replay.left_out = left_out;
        let (mut wrong, mut at, mut pending, mut cuts) = (Vec::new(), self.start, 0, 0);
        let times = RefCell::new(MountTimes::default());
        for moment in self.moments(count, &mut draw) {
            push(&mut replay, at, moment);
            (at, cuts, pending) = (moment, cuts + 1, pending + replay.pending());
            let left = Left::CUTS[cuts % Left::CUTS.len()];
            let check = || self.check(&machine, at, cuts % 5 == 0, &times);
            if let Err(said) = crash::look(world, replay.crash(left), check) {
                wrong.push(format!("seed {seed}, cut at {at}, {left:?}: {said}"));
                if left_out.is_some() {
                    break;
                }
            }
        }
        let is_sync = |step: &&Step| matches!(step, Step::Sync { .. });
        println!(
            "left out {left_out:?}: {cuts} cuts of {} steps with {} syncs, {} steps undecided at \
             each; {} uploads; {} wrong",
            self.steps.len(),
            self.steps.iter().filter(is_sync).count(),
            pending / cuts,
            self.uploads.len(),
            wrong.len()
        );
        if left_out.is_none() && wrong.is_empty() {
            times.into_inner().check(seed);
        }
        wrong
    }
}

fn cut_power(changes: usize, count: usize) {
    if !is_root("a disk of its own") {
        return;
    }
    let seed = Numbers::seed();
    println!("TGCRYPTFS_TEST_SEED={seed}");
    let world = World::new();
    let recorded = record(&world, seed, changes);
    let wrong = recorded.cut_power(&world, count, seed, None);
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    // One that is left out is missed.
    for left_out in [LeftOut::Files, LeftOut::Dirs] {
        let seen = recorded.cut_power(&world, count, seed, Some(left_out));
        assert!(!seen.is_empty(), "seed {seed}: nobody misses syncs of {left_out:?}");
    }
}

#[test]
fn a_power_cut_keeps_a_prefix_that_holds_all_that_was_fsynced() {
    cut_power(150, 40);
}

/// The same for longer: `scripts/crashes power`.
#[test]
#[ignore = "takes several minutes"]
fn three_hundred_power_cuts_keep_a_prefix() {
    cut_power(1000, 300);
}

/// Short, but after each step in turn, so that none of what commits and uploads do is
/// left out: `scripts/crashes power`.
#[test]
#[ignore = "takes several minutes"]
fn a_power_cut_at_every_step_keeps_a_prefix() {
    cut_power(25, usize::MAX);
}
