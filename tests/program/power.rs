//! The power is cut while several writers are at work: all that a machine has, its
//! state, cache and store, is on a disk that remembers what was done to it, and is put
//! back to what a cut at some moment may have left.

use super::crash;
use super::disk::{Image, Left, Replay, Step};
use super::support::{Machine, Numbers, World, is_root, pause, text};
use super::workload::{self, Floor, Promise, Writer};
use std::sync::atomic::{AtomicBool, Ordering};

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
    let machine = crash::machine(world, "home");
    machine.init();
    let mount = machine.mount("mount");
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
        let results: Vec<_> = working.into_iter().map(|writer| writer.join()).collect();
        is_over.store(true, Ordering::SeqCst);
        results.into_iter().for_each(|result| result.unwrap());
        uploads.join().unwrap()
    });
    crash::take_down(world);
    Recorded { steps: disk.unmount(), start, writers, uploads }
}

impl Recorded {
    /// Moments at which the power is cut: any, and right after a sync succeeded, where
    /// one that was left out shows.
    fn moments(&self, count: usize, draw: &mut Numbers) -> Vec<u64> {
        let end = self.steps.len() as u64;
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

    /// Looks at what a crash at `at` has left on the disk.
    fn check(&self, machine: &Machine<'_>, at: u64, is_full: bool) -> Result<(), String> {
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
        crash::succeeded(machine.run(&["mount", text(&mount)]))?;
        if machine.mounted()["vault"]["health"] != "ok" {
            return Err(format!("{:#}", machine.mounted()));
        }
        workload::check(&self.writers, &mount, at, Floor::Fsynced)?;
        if is_full {
            crash::succeeded(machine.run(&["sync", "--full"]))?;
        }
        crash::succeeded(machine.run(&["fsck"])).map(drop)
    }

    /// Cuts the power `count` times; gives what was wrong.
    fn cut_power(
        &self,
        world: &World,
        count: usize,
        seed: u64,
        keeps_promises: bool,
    ) -> Vec<String> {
        let (machine, mut draw) = (crash::machine(world, "home"), Numbers::new(seed));
        let mut replay = Replay::new(Image::empty(), seed, keeps_promises);
        let (mut wrong, mut at, mut pending) = (Vec::new(), 0, 0);
        for (number, moment) in self.moments(count, &mut draw).into_iter().enumerate() {
            self.steps[at as usize..moment as usize].iter().for_each(|step| replay.push(step));
            at = moment;
            pending += replay.pending();
            let left = Left::CUTS[number % Left::CUTS.len()];
            let check = || self.check(&machine, at, number % 5 == 0);
            let checked = crash::look(world, replay.crash(left), check);
            if let Err(said) = checked {
                wrong.push(format!("seed {seed}, cut at {at}, {left:?}: {said}"));
                if !keeps_promises {
                    break;
                }
            }
        }
        let (steps, syncs) =
            (self.steps.len(), self.steps.iter().filter(|step| matches!(step, Step::Sync { .. })));
        println!(
            "{count} cuts of {steps} steps with {} syncs, {} steps undecided at each; {} uploads; {} wrong",
            syncs.count(),
            pending / count,
            self.uploads.len(),
            wrong.len()
        );
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
    let wrong = recorded.cut_power(&world, count, seed, true);
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    // That a sync left out would have been seen.
    let seen = recorded.cut_power(&world, count, seed, false);
    assert!(!seen.is_empty(), "seed {seed}: nobody misses syncs that do nothing");
}

#[test]
fn a_power_cut_keeps_a_prefix_that_holds_all_that_was_fsynced() {
    cut_power(150, 30);
}

/// The same for longer: `cargo test --test program -- --ignored --nocapture three_hundred`.
#[test]
#[ignore = "takes several minutes"]
fn three_hundred_power_cuts_keep_a_prefix() {
    cut_power(1000, 300);
}
