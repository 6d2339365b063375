//! The disk with the state, the cache and the store fails: one write, sync or rename in
//! turn, or all of them from one on until there is room again. Who calls is told, the
//! daemon lives, what was promised is there, and after a sync that failed nothing is
//! promised that is not: also not after a restart, when what the disk never took can
//! still be read.

use super::crash::{self, succeeded};
use super::disk::{Disk, Fault, Image, Left, Replay, Step};
use super::support::{Machine, Numbers, World, is_root, noise, run, text, wait_until};
use fuser::Errno;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Files of one run of the script.
const FILES: u64 = 10;

/// A file that somebody wrote, and what they were told.
#[derive(Debug)]
struct Told {
    names: Vec<String>,
    data: Vec<u8>,
    is_safe: bool,
}

/// Writes files, makes each of them safe, renames some, uploads now and then. Failures
/// are what the caller is told, and nothing more.
fn script(machine: &Machine<'_>, mount: &Path, part: &str) -> Vec<Told> {
    let mut told = Vec::new();
    for number in 0..FILES {
        let name = format!("{part}-{number}");
        let len = if number % 3 == 0 { 300_000 } else { 2000 };
        let data = noise(len, number + part.len() as u64);
        let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
        let written = fs::write(mount.join(&name), &data);
        let synced = written.and_then(|()| sync(&mount.join(&name)));
        let mut names = vec![name.clone()];
        let mut is_safe = is_told(synced);
        if number % 4 == 3 {
            names.push(format!("{name}-moved"));
            let moved = fs::rename(mount.join(&name), mount.join(&names[1]));
            if is_told(moved) && is_told(sync(mount)) {
                names.remove(0);
                // Also what the first sync did not keep.
                is_safe = is_safe || is_told(sync(&mount.join(&names[0])));
            }
        }
        told.push(Told { names, data, is_safe });
        if number % 5 == 4 {
            machine.bare(&["sync"]);
        }
    }
    told
}

/// Whether a call succeeded; it may fail only as the disk does.
fn is_told(result: io::Result<()>) -> bool {
    let Err(error) = result else { return true };
    let expected = [Some(libc::EIO), Some(libc::ENOSPC), Some(libc::ENOENT)];
    assert!(expected.contains(&error.raw_os_error()), "{error}");
    false
}

/// What was promised is there, and nothing that nobody wrote.
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
    told: Vec<Told>,
}

/// Runs the script on a disk that fails, and once more when it does not any longer, after
/// a restart if that is said or needed.
fn run_with_fault(world: &World, start: &Image, fault: Fault, restarts: bool) -> (Failed, u64) {
    let disk = Disk::mount(&world.dir("disk"), start.clone());
    let machine = crash::machine(world, "home");
    let mut mount = machine.mount("mount");
    let said = format!("{fault:?}");
    let was_full = fault.error == Errno::ENOSPC;
    disk.fail(Some(fault));
    let mut told = script(&machine, &mount, "one");
    let tried = disk.tried();
    disk.fail(None);
    // It lives, and gives what it said it has.
    check_told(&mount, &told).unwrap_or_else(|wrong| panic!("{said}: {wrong}"));
    let is_working = || {
        let path = mount.join("probe");
        fs::write(&path, "probe").and_then(|()| File::open(&path)?.sync_all()).is_ok()
    };
    let has_failed_sync = disk.steps().iter().any(|step| matches!(step, Step::SyncFailed { .. }));
    let is_working = is_working() || is_working();
    // A disk that failed is not used again before the next start, one that was full is.
    let may_be_idle = !was_full || has_failed_sync;
    assert!(is_working || may_be_idle, "{said}: there is room, and it is not used");
    if restarts || !is_working {
        crash::take_down(world);
        mount = machine.mount("mount");
        check_told(&mount, &told).unwrap_or_else(|wrong| panic!("{said}, restarted: {wrong}"));
    }
    told.extend(script(&machine, &mount, "second"));
    let failed = told.iter().filter(|told| told.names[0].starts_with("second") && !told.is_safe);
    assert_eq!(failed.count(), 0, "{said}: the disk is sound");
    crash::take_down(world);
    (Failed { steps: disk.unmount(), told }, tried)
}

fn check_after_power_cut(world: &World, told: &[Told]) -> Result<(), String> {
    let one = crash::machine(world, "home");
    let two = Machine { home: world.dir("new-home"), ..one.clone() };
    for (machine, point) in [(&one, "mount"), (&two, "new-mount")] {
        let mount = world.dir(point);
        succeeded(machine.run(&["mount", text(&mount)]))?;
        check_told(&mount, told)?;
        succeeded(machine.run(&["sync", "--full"]))?;
        succeeded(machine.run(&["fsck"]))?;
        machine.unmount(&mount);
    }
    two.forget();
    Ok(())
}

/// Any change, or any sync, fails in one run or another: each `every`th, in one way, or in
/// every way if each fails.
fn fail_everywhere(every: u64, is_of_syncs: bool) {
    if !is_root("a disk of its own") {
        return;
    }
    let seed = Numbers::seed();
    println!("TGCRYPTFS_TEST_SEED={seed}");
    let world = World::new();
    let start = {
        let disk = crash::empty_disk(&world);
        crash::machine(&world, "home").init();
        let image = disk.image();
        disk.unmount();
        image
    };
    let fault = |error, changes: Range<u64>| Fault { changes, is_of_syncs, error };
    let (_, tried) = run_with_fault(&world, &start, fault(Errno::EIO, 0..0), false);
    let mut draw = Numbers::new(seed);
    let (mut wrong, mut runs, mut failed_syncs) = (Vec::new(), 0, 0);
    let faults_at = |number: u64, draw: &mut Numbers| {
        let faults = vec![
            fault(Errno::EIO, number..number + 1),
            fault(Errno::ENOSPC, number..number + 1),
            fault(Errno::ENOSPC, number..u64::MAX),
        ];
        let drawn = draw.below(3) as usize;
        if every == 1 { faults } else { faults[drawn..=drawn].to_vec() }
    };
    let numbers = (draw.below(every)..tried).step_by(every as usize);
    let faults: Vec<_> = numbers
        .flat_map(|number| faults_at(number, &mut draw).into_iter().map(move |f| (number, f)))
        .collect();
    for (number, fault) in faults {
        let restarts = draw.below(2) == 0;
        let (failed, _) = run_with_fault(&world, &start, fault.clone(), restarts);
        let mut replay = Replay::new(start.clone(), seed ^ number);
        failed.steps.iter().for_each(|step| replay.push(step));
        let is_failed_sync = |step: &&Step| matches!(step, Step::SyncFailed { .. });
        failed_syncs += failed.steps.iter().filter(is_failed_sync).count();
        runs += 1;
        let left = if draw.below(2) == 0 { Left::Nothing } else { Left::AnyPart };
        let check = || check_after_power_cut(&world, &failed.told);
        if let Err(said) = crash::look(&world, replay.crash(left), check) {
            wrong.push(format!("{fault:?}, restarts {restarts}, {left:?}: {said}"));
        }
    }
    println!("{runs} runs with faults in {tried} changes, {failed_syncs} failed syncs");
    assert!(wrong.is_empty(), "seed {seed}: {} wrong\n{}", wrong.len(), wrong.join("\n\n"));
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
        disk.fail(Some(Fault { changes, is_of_syncs: false, error: Errno::EIO }));
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
    fail_everywhere(50, false);
}

#[test]
fn after_a_failed_sync_nothing_is_promised_that_is_not_written_again() {
    fail_everywhere(6, true);
}

/// Each change in turn: `cargo test --test program -- --ignored --nocapture in_turn`.
#[test]
#[ignore = "takes many minutes"]
fn changes_that_fail_in_turn_cost_nothing_that_was_promised() {
    fail_everywhere(1, false);
}

/// Each sync in turn, as above.
#[test]
#[ignore = "takes minutes"]
fn syncs_that_fail_in_turn_cost_nothing_that_was_promised() {
    fail_everywhere(1, true);
}
