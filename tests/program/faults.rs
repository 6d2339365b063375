//! The disk with the state, the cache and the store fails, from before the vault is opened
//! until it is closed: one write, sync or rename in turn, or all of them from one on until
//! there is room again. Who calls is told, the daemon lives, what was promised is there,
//! and after a sync that failed nothing is promised that is not: also not after a restart,
//! when what the disk never took can still be read.

mod kept;

use super::crash::{self, succeeded};
use super::disk::{Disk, Fault, Image, Left, Of, Replay, Step};
use super::support::{
    Machine, Numbers, World, is_root, noise, pause, processes_below, run, text, wait_until,
};
use fuser::Errno;
use kept::Kept;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Files of one run of the script.
const FILES: u64 = 10;
/// Runs of the script: while the disk fails, and when it does not any longer.
const PARTS: [&str; 2] = ["one", "second"];
/// What SQLite writes at last, when the vault is closed or its log is long.
const DATABASE: &str = "state.db";

/// What callers were told of a disk that fails.
#[derive(Debug, Default)]
struct Noticed(Vec<io::Error>);

impl Noticed {
    /// Whether a call succeeded; what it said otherwise is kept.
    fn is_done(&mut self, result: io::Result<()>) -> bool {
        result.map_err(|error| self.0.push(error)).is_ok()
    }

    /// Callers are told what the disk said.
    fn check(&self, error: Errno, has_failed_sync: bool) -> Result<(), String> {
        // After a sync that failed nobody knows what is there, whatever reason it gave.
        let is_expected = |told: &&io::Error| match told.raw_os_error() {
            Some(libc::EIO) => has_failed_sync || error == Errno::EIO,
            told => told == Some(error.code()),
        };
        match self.0.iter().find(|told| !is_expected(told)) {
            Some(told) => Err(format!("told {told}, failed syncs {has_failed_sync}")),
            None => Ok(()),
        }
    }
}

/// A file that somebody wrote, and what they were told.
#[derive(Debug)]
struct Told {
    names: Vec<String>,
    data: Vec<u8>,
    is_safe: bool,
}

/// What runs of the script did.
#[derive(Debug, Default)]
struct Past {
    told: Vec<Told>,
    kept: Vec<Kept>,
}

impl Past {
    /// What was promised is there, and nothing that nobody wrote.
    fn check(&self, mount: &Path) -> Result<(), String> {
        check_told(mount, &self.told)?;
        kept::check(mount, &self.kept)
    }

    /// Changes what was safe, writes files, makes each of them safe, renames some, uploads
    /// now and then. Failures are what the caller is told, and nothing more.
    fn script(&mut self, machine: &Machine<'_>, mount: &Path, part: &str) -> Noticed {
        let mut noticed = Noticed::default();
        self.kept.extend(kept::change(mount, part, &mut noticed));
        for number in 0..FILES {
            let name = format!("{part}-{number}");
            let len = if number % 3 == 0 { 300_000 } else { 2000 };
            let data = noise(len, number + part.len() as u64);
            let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
            let is_written = noticed.is_done(fs::write(mount.join(&name), &data));
            let mut is_safe = is_written && noticed.is_done(sync(&mount.join(&name)));
            let mut names = vec![name.clone()];
            if number % 4 == 3 && is_written {
                names.push(format!("{name}-moved"));
                let moved = fs::rename(mount.join(&name), mount.join(&names[1]));
                if noticed.is_done(moved) && noticed.is_done(sync(mount)) {
                    names.remove(0);
                    // Also what the first sync did not keep.
                    is_safe = is_safe || noticed.is_done(sync(&mount.join(&names[0])));
                }
            }
            self.told.push(Told { names, data, is_safe });
            if number % 5 == 4 {
                machine.bare(&["sync"]);
            }
        }
        noticed
    }
}

fn check_told(mount: &Path, told: &[Told]) -> Result<(), String> {
    for Told { names, data, is_safe } in told {
        let found: Vec<Vec<u8>> =
            names.iter().filter_map(|name| fs::read(mount.join(name)).ok()).collect();
        let is_right = match (&found[..], is_safe) {
            ([found], true) => found == data,
            ([], false) => true,
            ([found], false) => data.starts_with(found),
            _ => false,
        };
        if !is_right {
            let lens: Vec<usize> = found.iter().map(Vec::len).collect();
            return Err(format!("{names:?}: safe {is_safe}, {} bytes, found {lens:?}", data.len()));
        }
    }
    Ok(())
}

/// What a run of the script with a fault in it left.
struct Failed {
    steps: Vec<Step>,
    past: Past,
    /// Calls that failed.
    noticed: usize,
    failed_database_writes: usize,
    /// What was tried of what the fault counts before the script ran, and before it was
    /// through.
    script: (u64, u64),
    /// The same, in all.
    tried: u64,
}

/// Ends a mount, or does not, as the disk allows. The database is closed last of all, when
/// who asked has its answer.
fn try_to_unmount(machine: &Machine<'_>, mount: &Path) {
    for _ in 0..100 {
        // Another test's child may hold our files for a moment.
        if machine.bare(&["unmount", text(mount)]).code != 9 {
            let world = machine.world.path("");
            wait_until("the daemon to end", || processes_below(&world).is_empty());
            return;
        }
        pause(50);
    }
}

/// Whether a mount can be used now that the disk does not fail any longer.
fn is_used_again(disk: &Disk, mount: &Path, fault: &Fault) -> bool {
    let is_working = || {
        let path = mount.join("probe");
        fs::write(&path, "probe").and_then(|()| File::open(&path)?.sync_all()).is_ok()
    };
    let is_working = is_working() || is_working();
    // A disk that failed is not used again before the next start, one that was full is.
    let may_be_idle = fault.error != Errno::ENOSPC || has_failed_sync(disk);
    assert!(is_working || may_be_idle, "{fault:?}: there is room, and it is not used");
    is_working
}

fn has_failed_sync(disk: &Disk) -> bool {
    disk.steps().iter().any(|step| matches!(step, Step::SyncFailed { .. }))
}

/// Mounts and runs the script on a disk that fails, and once more when it does not any
/// longer. If that `is_closed`, the mount ends while it still fails.
fn run_with_fault(world: &World, start: &Image, fault: &Fault, is_closed: bool) -> Failed {
    let disk = Disk::mount(&world.dir("disk"), start.clone());
    let machine = crash::machine(world, "home");
    let mut mount = world.dir("mount");
    let (mut past, mut noticed) = (Past::default(), 0);
    let right = |what: &str, told: Result<(), String>| {
        told.unwrap_or_else(|wrong| panic!("{fault:?}, {what}: {wrong}"));
    };
    disk.fail(Some(fault.clone()));
    let mounted = machine.run(&["mount", text(&mount)]);
    let before = disk.tried();
    let is_mounted = mounted.code == 0;
    if is_mounted {
        let told = past.script(&machine, &mount, PARTS[0]);
        right("told", told.check(fault.error, has_failed_sync(&disk)));
        noticed = told.0.len();
        // It lives, and gives what it said it has.
        right("while it fails", past.check(&mount));
    } else {
        let is_said = mounted.stderr.lines().any(|line| line.starts_with("tgcryptfs: "));
        assert!(is_said, "{fault:?}: {mounted:#?}");
    }
    let after = disk.tried();
    if is_mounted && is_closed {
        try_to_unmount(&machine, &mount);
    }
    let tried = disk.tried();
    let failed_database_writes = disk.failed_writes_to(DATABASE);
    disk.fail(None);
    if !is_mounted || is_closed || !is_used_again(&disk, &mount, fault) {
        crash::take_down(world);
        mount = machine.mount("mount");
        right("restarted", past.check(&mount));
    }
    let told = past.script(&machine, &mount, PARTS[1]);
    assert!(told.0.is_empty(), "{fault:?}: the disk is sound: {told:?}");
    right("on a sound disk", past.check(&mount));
    crash::take_down(world);
    let (steps, script) = (disk.unmount(), (before, after));
    Failed { steps, past, noticed, failed_database_writes, script, tried }
}

fn check_after_power_cut(world: &World, past: &Past) -> Result<(), String> {
    let one = crash::machine(world, "home");
    let two = Machine { home: world.dir("new-home"), ..one.clone() };
    for (machine, point) in [(&one, "mount"), (&two, "new-mount")] {
        let mount = world.dir(point);
        succeeded(machine.run(&["mount", text(&mount)]))?;
        past.check(&mount)?;
        succeeded(machine.run(&["sync", "--full"]))?;
        succeeded(machine.run(&["fsck"]))?;
        machine.unmount(&mount);
    }
    two.forget();
    Ok(())
}

/// A vault with files that are safe, some of them in the store too, and a log to be read.
fn start(world: &World) -> Image {
    let disk = crash::empty_disk(world);
    let machine = crash::machine(world, "home");
    machine.init();
    let mount = machine.mount("mount");
    kept::make(&mount, PARTS[0]);
    machine.sync();
    kept::make(&mount, PARTS[1]);
    machine.kill();
    crash::take_down(world);
    let image = disk.image();
    disk.unmount();
    image
}

/// The faults that are tried, each with whether the mount ends amid it.
fn faults(of: Of, every: u64, probe: &Failed, draw: &mut Numbers) -> Vec<(Fault, bool)> {
    let fault = |error, changes| Fault { changes, of, error };
    let mut faults = Vec::new();
    let numbers = (draw.below(every)..probe.tried).step_by(every as usize);
    for number in numbers {
        let mut kinds = vec![
            fault(Errno::EIO, number..number + 1),
            fault(Errno::ENOSPC, number..number + 1),
            fault(Errno::ENOSPC, number..u64::MAX),
        ];
        if every > 1 {
            kinds = vec![kinds.swap_remove(draw.below(3) as usize)];
        } else if number % 3 > 0 {
            // What stays full fails in the same places as what was full a little earlier.
            kinds.truncate(2);
        }
        for fault in kinds {
            let is_closed = number >= probe.script.1 || draw.below(2) == 0;
            faults.push((fault, is_closed));
        }
    }
    for error in [Errno::EIO, Errno::ENOSPC] {
        // From the midst of the script on, where somebody has to notice.
        let middle = u64::midpoint(probe.script.0, probe.script.1);
        faults.push((fault(error, middle..u64::MAX), draw.below(2) == 0));
        if of == Of::Changes {
            let of = Of::WritesTo(DATABASE);
            faults.push((Fault { changes: 0..u64::MAX, of, error }, true));
        }
    }
    faults
}

/// What runs with faults came to.
#[derive(Debug, Default)]
struct Sums {
    runs: usize,
    failed_syncs: usize,
    failed_database_writes: usize,
    /// Calls that told of a disk that failed, and of one that was full.
    noticed: [usize; 2],
}

impl Sums {
    fn add(&mut self, fault: &Fault, failed: &Failed) {
        self.runs += 1;
        let is_failed_sync = |step: &&Step| matches!(step, Step::SyncFailed { .. });
        self.failed_syncs += failed.steps.iter().filter(is_failed_sync).count();
        self.failed_database_writes += failed.failed_database_writes;
        self.noticed[usize::from(fault.error == Errno::ENOSPC)] += failed.noticed;
    }
}

/// Any change, or any sync, fails in one run or another: each `every`th, in one way, or in
/// several if each fails.
fn fail_everywhere(every: u64, of: Of) {
    if !is_root("a disk of its own") {
        return;
    }
    let seed = Numbers::seed();
    println!("TGCRYPTFS_TEST_SEED={seed}");
    let world = World::new();
    let start = start(&world);
    let no_fault = Fault { changes: 0..0, of, error: Errno::EIO };
    let probe = run_with_fault(&world, &start, &no_fault, true);
    assert_eq!(probe.noticed, 0, "nothing fails");
    let mut draw = Numbers::new(seed);
    let (mut wrong, mut sums) = (Vec::new(), Sums::default());
    for (fault, is_closed) in faults(of, every, &probe, &mut draw) {
        let failed = run_with_fault(&world, &start, &fault, is_closed);
        sums.add(&fault, &failed);
        let mut replay = Replay::new(start.clone(), seed ^ fault.changes.start);
        failed.steps.iter().for_each(|step| replay.push(step));
        let left = if draw.below(2) == 0 { Left::Nothing } else { Left::AnyPart };
        let check = || check_after_power_cut(&world, &failed.past);
        if let Err(said) = crash::look(&world, replay.crash(left), check) {
            wrong.push(format!("{fault:?}, closed {is_closed}, {left:?}: {said}"));
        }
    }
    println!("faults in {} changes: {sums:?}", probe.tried);
    assert!(wrong.is_empty(), "seed {seed}: {} wrong\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(sums.noticed.iter().all(|calls| *calls > 0), "seed {seed}: nobody noticed: {sums:?}");
    if of == Of::Changes {
        assert!(sums.failed_database_writes > 0, "seed {seed}: {DATABASE} was never written");
    }
}

/// Nobody knows whether a change came through that was answered with an error.
#[test]
fn a_new_recovery_code_that_may_not_have_been_taken_is_kept() {
    if !is_root("a disk of its own") {
        return;
    }
    let world = World::new();
    let disk = crash::empty_disk(&world);
    let machine = crash::machine(&world, "home");
    let (url, mut codes) = (machine.url(), vec![world.path("old")]);
    machine.run(&["init", "--store", &url, "--recovery-file", text(&codes[0])]).succeeded();
    let store = format!("store={url}");
    let opens = |code: &PathBuf| {
        machine.bare(&["fsck", "--recovery-code-file", text(code), "--set", &store]).code == 0
    };
    let mut may_be_taken = 0;
    // From the first change on, from the second, and so on until none is left.
    for first in 0.. {
        let new = world.path(&format!("new-{first}"));
        let changes = first..u64::MAX;
        disk.fail(Some(Fault { changes, of: Of::Changes, error: Errno::EIO }));
        let finished = machine.run(&["recovery", "rotate", "--recovery-file", text(&new)]);
        disk.fail(None);
        codes.extend(Some(new).filter(|new| new.exists()));
        assert!(codes.iter().any(opens), "from change {first}: {finished:#?}");
        if finished.code == 0 {
            break;
        }
        may_be_taken += u64::from(finished.stderr.contains("keep both recovery codes"));
    }
    assert!(may_be_taken > 0);
    disk.unmount();
}

/// Writes a file and makes it safe.
fn write_safely(mount: &Path, number: u64) -> io::Result<()> {
    let path = mount.join(format!("file-{number}"));
    fs::write(&path, noise(400_000, number))?;
    File::open(&path)?.sync_all()
}

#[test]
fn s30_a_full_disk_serves_reads_and_takes_writes_again_when_there_is_room() {
    if !is_root("local state on a small file system") {
        return;
    }
    let world = World::new();
    let small = world.small_disk("small", 84 << 20);
    let machine = Machine { home: small.join("home"), ..world.machine("unused") };
    fs::create_dir(&machine.home).unwrap();
    machine.init();
    let mount = machine.mount("mount");
    let pid = machine.pid();
    let ballast = small.join("ballast");
    run("fallocate", &["-l", "40M", text(&ballast)]);
    let mut safe = Vec::new();
    let error = loop {
        let number = safe.len() as u64;
        match write_safely(&mount, number) {
            Ok(()) => safe.push(number),
            Err(error) => break error,
        }
        assert!(safe.len() < 1000, "it never fills up");
    };
    println!("{} files, then: {error}", safe.len());
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
    let are_there = |mount: &Path, safe: &[u64]| {
        for number in safe {
            let data = fs::read(mount.join(format!("file-{number}"))).unwrap();
            assert!(data == noise(400_000, *number), "file-{number}");
        }
    };
    // As long as it is full, and no write is lost that was said to be safe.
    for number in 1000..1005 {
        if write_safely(&mount, number).is_ok() {
            safe.push(number);
        }
        are_there(&mount, &safe);
    }
    fs::remove_file(ballast).unwrap();
    wait_until("writes to be safe again", || write_safely(&mount, 2000).is_ok());
    safe.push(2000);
    assert_eq!(machine.pid(), pid, "it is the same process");
    machine.kill();
    let mount = machine.mount("mount");
    are_there(&mount, &safe);
    machine.sync();
    machine.fsck();
    machine.unmount(&mount);
    let new = world.machine("new-home");
    let mount = new.mount("new-mount");
    are_there(&mount, &safe);
    new.unmount(&mount);
}

#[test]
fn s30_a_failing_disk_is_told_and_costs_nothing_that_was_promised() {
    fail_everywhere(50, Of::Changes);
}

#[test]
fn after_a_failed_sync_nothing_is_promised_that_is_not_written_again() {
    fail_everywhere(6, Of::Syncs);
}

/// Each change in turn: `scripts/crashes faults`.
#[test]
#[ignore = "takes many minutes"]
fn changes_that_fail_in_turn_cost_nothing_that_was_promised() {
    fail_everywhere(1, Of::Changes);
}

/// Each sync in turn, as above.
#[test]
#[ignore = "takes minutes"]
fn syncs_that_fail_in_turn_cost_nothing_that_was_promised() {
    fail_everywhere(1, Of::Syncs);
}
