//! How the program holds up when there is much: a million files, a huge directory, a
//! huge file with random writes, ten thousand open files. `scripts/scale` runs them; what
//! they print is rates, and what the daemon had in memory at most in each phase.

use super::support::{Machine, Numbers, PROGRAM, World, figure_of, is_root, text};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// What the daemon may have in memory besides `cache.memory_max`: the fixed part that
/// docs/SEMANTICS.md names in "When there is much". The most that was seen is 145 MiB, with
/// random writes to a huge file; `benches/peers/systems.py` holds to it as well.
const FIXED_MAX_KIB: u64 = 192 << 10;
/// `cache.memory_max` if nobody sets it.
const MEMORY_MAX_KIB: u64 = 256 << 10;
/// What it may have in all then.
const RESIDENT_MAX_KIB: u64 = MEMORY_MAX_KIB + FIXED_MAX_KIB;
/// A mount with local state is there within this.
const MOUNT_TIME_MAX: Duration = Duration::from_secs(1);
/// Files of one directory, where many are made.
const DIR_FILES: u64 = 1000;
/// Files whose creation is measured beside all others: as many, or a fifth. What is done in
/// the background comes in bursts, some seconds every half minute.
const LAST_CREATED: u64 = 10_000;
/// Names that are looked up at a time; what leads to them is found in the first thousands.
const LOOKUPS: u64 = 30_000;
/// How often they are looked up: the median counts.
const LOOKUP_ROUNDS: usize = 7;
/// Blocks of a large file that are read.
const READS: u64 = 2000;
/// From name to name, all over them; nothing that has few files has it as a factor.
const STRIDE: u64 = 7_654_321;

/// Prints what each phase took and how large its process became.
struct Meter {
    pid: i32,
    worst_kib: u64,
}

impl Meter {
    fn new(machine: &Machine<'_>) -> Self {
        Self { pid: machine.pid(), worst_kib: 0 }
    }

    /// Runs a phase that does `count` things; answers how many a second.
    fn phase(&mut self, what: &str, count: u64, work: impl FnOnce()) -> f64 {
        // The kernel's mark of the most is set back to what is in memory now.
        fs::write(format!("/proc/{}/clear_refs", self.pid), "5").unwrap();
        let (start, cpu_before) = (Instant::now(), cpu_time(self.pid));
        work();
        let (took, cpu) = (start.elapsed(), cpu_time(self.pid) - cpu_before);
        let rate = report(what, count, took, (cpu, figure_of(self.pid, "VmHWM")));
        self.worst_kib = self.worst_kib.max(figure_of(self.pid, "VmHWM"));
        rate
    }

    fn check(&self) {
        self.check_with(MEMORY_MAX_KIB);
    }

    fn check_with(&self, memory_max_kib: u64) {
        let most_kib = memory_max_kib + FIXED_MAX_KIB;
        assert!(
            self.worst_kib <= most_kib,
            "{} KiB were resident, {most_kib} may be",
            self.worst_kib
        );
    }
}

fn report(what: &str, count: u64, took: Duration, (cpu, peak_kib): (Duration, u64)) -> f64 {
    let rate = count as f64 / took.as_secs_f64();
    let cpu_us = cpu.as_micros() as f64 / count as f64;
    let (seconds, peak_mib) = (took.as_secs_f64(), peak_kib >> 10);
    println!(
        "  {what:<22} {count:8} in {seconds:7.2} s {rate:7.0}/s {cpu_us:6.0} µs each {peak_mib:5} MiB"
    );
    rate
}

/// The processor time that a process has had.
fn cpu_time(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Runs the program to its end; answers how many things a second it did.
fn run_measured(machine: &Machine<'_>, what: &str, count: u64, arguments: &[&str]) -> f64 {
    let mut command = machine.command(arguments);
    command.env("TGCRYPTFS_PASSWORD_FILE", machine.world.password());
    command.env("TGCRYPTFS_STORE", machine.url()).stdout(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let (mut cpu, mut peak_kib) = (Duration::ZERO, 0);
    let status = loop {
        cpu = cpu.max(cpu_time(pid));
        peak_kib = peak_kib.max(figure_of(pid, "VmHWM"));
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    assert!(status.success(), "{PROGRAM} {arguments:?}: {status}");
    let rate = report(what, count, start.elapsed(), (cpu, peak_kib));
    assert!(peak_kib <= RESIDENT_MAX_KIB, "{peak_kib} KiB were resident");
    rate
}

fn file_path(root: &Path, file: u64) -> PathBuf {
    root.join(format!("dir {:04}", file / DIR_FILES)).join(format!("file {file:07}"))
}

fn create_files(root: &Path, files: std::ops::Range<u64>) {
    for file in files {
        let path = file_path(root, file);
        if file % DIR_FILES == 0 {
            fs::create_dir(path.parent().unwrap()).unwrap();
        }
        let mut out = File::create_new(&path).unwrap();
        writeln!(out, "this is file {file}").unwrap();
    }
}

fn walk(dir: &Path) -> u64 {
    let mut count = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let data = entry.metadata().unwrap();
        count += if data.is_dir() { 1 + walk(&entry.path()) } else { 1 };
    }
    count
}

/// Looks names up of `count` files, each once and in no order, which neither kernel nor
/// daemon remembers; answers how many a second.
fn look_up(meter: &mut Meter, what: &str, point: &Path, count: u64) -> f64 {
    for dir in fs::read_dir(point).unwrap() {
        dir.unwrap().metadata().unwrap();
    }
    let lookups = count.min(LOOKUPS);
    meter.phase(what, lookups, || {
        for lookup in 0..lookups {
            fs::metadata(file_path(point, lookup * STRIDE % count)).unwrap();
        }
    })
}

/// Unmounts and mounts again, so that neither kernel nor daemon remembers anything.
fn remount(machine: &Machine<'_>, point: &Path) -> Meter {
    machine.unmount(point);
    mount_measured(machine, "mount")
}

/// Mounts in time, and within the memory it may have.
fn mount_measured(machine: &Machine<'_>, what: &str) -> Meter {
    let start = Instant::now();
    machine.mount("mnt");
    let took = start.elapsed();
    let mut meter = Meter::new(machine);
    meter.worst_kib = figure_of(meter.pid, "VmHWM");
    report(what, 1, took, (cpu_time(meter.pid), meter.worst_kib));
    assert!(took <= MOUNT_TIME_MAX, "the mount took {took:?}");
    meter
}

/// Makes so many files and walks over them; answers how many of the last were made a second.
fn fill(machine: &Machine<'_>, count: u64) -> f64 {
    println!("{count} files");
    let point = machine.mount("mnt");
    let mut meter = Meter::new(machine);
    let last = LAST_CREATED.max(count / 5);
    let before = count - last;
    if before > 0 {
        meter.phase("create", before, || create_files(&point, 0..before));
    }
    let rate = meter.phase("create the last", last, || create_files(&point, before..count));
    meter.check();
    // Killed with much that is not uploaded, and with nothing of its files in memory.
    File::open(&point).unwrap().sync_all().unwrap();
    machine.kill();
    machine.bare(&["unmount", text(&point)]);
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    let mut meter = mount_measured(machine, "mount after a kill");
    meter.phase("sync", count, || machine.sync());
    meter.check();
    machine.unmount(&point);
    let mut meter = mount_measured(machine, "mount");
    let dirs = count.div_ceil(DIR_FILES);
    meter.phase("walk", count, || assert_eq!(walk(&point), count + dirs));
    meter.phase("fsck", count, || machine.fsck());
    meter.check();
    machine.unmount(&point);
    rate
}

/// Rebuilds the local state and looks names up with the disk's cache empty, which is as
/// fast as the disk is; answers how many files a second were rebuilt.
fn rebuild(machine: &Machine<'_>, count: u64) -> f64 {
    println!("{count} files, rebuilt");
    let rate = run_measured(machine, "fsck --rebuild", count, &["fsck", "--rebuild"]);
    let mut meter = mount_measured(machine, "mount");
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    let point = machine.world.path("mnt");
    look_up(&mut meter, "lookup, cold disk", &point, count);
    meter.check();
    machine.unmount(&point);
    rate
}

#[test]
#[ignore = "takes minutes and needs root: scripts/scale runs it"]
fn a_million_files() {
    assert!(is_root("a million files"));
    let files_max = std::env::var("FILES").map_or(1_000_000, |files| files.parse().unwrap());
    let sizes = [10_000, 100_000, 1_000_000].into_iter().filter(|size| *size <= files_max);
    let worlds: Vec<_> = sizes.map(|size| (World::new(), size)).collect();
    let all: Vec<_> = worlds.iter().map(|(world, size)| (world.first_machine(), *size)).collect();
    let created: Vec<_> = all.iter().map(|(machine, size)| fill(machine, *size)).collect();
    // The disk's cache is warm, those of kernel and daemon are empty, each time. Too short to
    // be measured once, and in turns, since the machine is not equally fast all the time.
    let mut lookups = vec![[0.0; LOOKUP_ROUNDS]; all.len()];
    for round in 0..LOOKUP_ROUNDS {
        for ((machine, size), rates) in all.iter().zip(&mut lookups) {
            println!("{size} files, round {round}");
            let mut meter = mount_measured(machine, "mount");
            let point = machine.world.path("mnt");
            rates[round] = look_up(&mut meter, "lookup", &point, *size);
            meter.check();
            machine.unmount(&point);
        }
    }
    let median = |rates: &mut [f64; LOOKUP_ROUNDS]| {
        rates.sort_by(f64::total_cmp);
        rates[LOOKUP_ROUNDS / 2]
    };
    let looked_up: Vec<_> = lookups.iter_mut().map(median).collect();
    let rebuilt: Vec<_> = all.iter().map(|(machine, size)| rebuild(machine, *size)).collect();
    println!("a second: created {created:.0?}, looked up {looked_up:.0?}, rebuilt {rebuilt:.0?}");
    let last = all.len() - 1;
    assert!(created[last] >= 0.8 * created[0], "creating becomes slower");
    assert!(looked_up[last] >= 0.8 * looked_up[0], "looking up becomes slower");
    // The smallest takes as long as a start does.
    if last == 2 {
        assert!(rebuilt[2] >= 0.67 * rebuilt[1], "rebuilding becomes slower");
    }
}

#[test]
#[ignore = "takes a minute and needs root: scripts/scale runs it"]
fn a_directory_of_many_entries() {
    const ENTRIES: u64 = 200_000;
    assert!(is_root("a large directory"));
    println!("a directory of {ENTRIES} entries");
    let world = World::new();
    let machine = world.first_machine();
    let point = machine.mount("mnt");
    let mut meter = Meter::new(&machine);
    let path = |entry: u64| point.join("many").join(format!("entry {entry}"));
    fs::create_dir(point.join("many")).unwrap();
    let make = |entry| drop(File::create_new(path(entry)).unwrap());
    meter.phase("create", ENTRIES, || (0..ENTRIES).for_each(make));
    meter.phase("sync", ENTRIES, || machine.sync());
    meter.check();
    let mut meter = remount(&machine, &point);
    let list = || fs::read_dir(point.join("many")).unwrap().map(|entry| entry.unwrap().path());
    let mut entries = Vec::new();
    meter.phase("list", ENTRIES, || entries.extend(list()));
    let (mut found, mut expected) = (entries.clone(), (0..ENTRIES).map(&path).collect::<Vec<_>>());
    found.sort_unstable();
    expected.sort_unstable();
    assert!(found == expected, "{} names: some are missing, twice or wrong", found.len());
    let mut numbers = Numbers::new(ENTRIES);
    meter.phase("lookup", LOOKUPS, || {
        for _ in 0..LOOKUPS {
            fs::metadata(path(numbers.below(ENTRIES))).unwrap();
        }
    });
    let remove = |path: PathBuf| fs::remove_file(path).unwrap();
    let (first, second) = entries.split_at(entries.len() / 2);
    let first_half = meter.phase("remove half", ENTRIES / 2, || {
        first.iter().cloned().for_each(remove);
    });
    let second_half = meter.phase("remove the rest", ENTRIES / 2, || {
        second.iter().cloned().for_each(remove);
    });
    assert!(second_half >= 0.5 * first_half, "removing becomes slower");
    meter.phase("remove the directory", 1, || fs::remove_dir(point.join("many")).unwrap());
    meter.phase("sync", ENTRIES, || machine.sync());
    meter.phase("fsck", 1, || machine.fsck());
    meter.check();
}

#[test]
#[ignore = "takes a minute and needs root: scripts/scale runs it"]
fn random_writes_to_a_huge_sparse_file() {
    write_at_random(MEMORY_MAX_KIB);
}

#[test]
#[ignore = "takes a minute and needs root: scripts/scale runs it"]
fn random_writes_to_a_huge_sparse_file_with_little_memory() {
    write_at_random(48 << 10);
}

fn write_at_random(memory_max_kib: u64) {
    const LEN: u64 = 100 << 30;
    const WRITES: u64 = 100_000;
    const WRITE_LEN: usize = 4096;
    assert!(is_root("a huge sparse file"));
    println!("a sparse file of 100 GiB, with {} MiB of memory", memory_max_kib >> 10);
    let set = format!("cache.memory_max={memory_max_kib}KiB");
    let mount = |machine: &Machine<'_>| {
        let point = machine.mount_with("mnt", &["--set", &set]);
        (Meter::new(machine), point)
    };
    let world = World::new();
    let machine = world.first_machine();
    let (mut meter, point) = mount(&machine);
    let path = point.join("sparse");
    let file = File::create_new(&path).unwrap();
    file.set_len(LEN).unwrap();
    let places = || {
        let mut numbers = Numbers::new(LEN);
        (0..WRITES).map(move |_| numbers.below(LEN / WRITE_LEN as u64) * WRITE_LEN as u64)
    };
    meter.phase("write 4 KiB at random", WRITES, || {
        for at in places() {
            file.write_all_at(&at.to_le_bytes().repeat(WRITE_LEN / 8), at).unwrap();
        }
        file.sync_all().unwrap();
    });
    drop(file);
    meter.phase("sync", WRITES, || machine.sync());
    meter.check_with(memory_max_kib);
    machine.unmount(&point);
    let (mut meter, _) = mount(&machine);
    let file = File::open(&path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), LEN);
    let mut bytes = [0; WRITE_LEN];
    meter.phase("read some again", READS, || {
        for at in places().take(READS as usize) {
            file.read_exact_at(&mut bytes, at).unwrap();
            assert!(bytes == *at.to_le_bytes().repeat(WRITE_LEN / 8));
        }
    });
    meter.phase("fsck", WRITES, || machine.fsck());
    meter.check_with(memory_max_kib);
}

#[test]
#[ignore = "takes a minute and needs root: scripts/scale runs it"]
fn ten_thousand_open_files() {
    const FILES: u64 = 10_000;
    const ROUNDS: u64 = 4;
    const PIECE_LEN: usize = 16 << 10;
    assert!(is_root("many open files"));
    println!("{FILES} open files");
    let limit = rustix::process::Rlimit { current: Some(2 * FILES), maximum: Some(2 * FILES) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let world = World::new();
    let machine = world.first_machine();
    let point = machine.mount("mnt");
    let mut meter = Meter::new(&machine);
    let mut files = Vec::new();
    meter.phase("open", FILES, || {
        let open = |file| File::create_new(point.join(format!("file {file}"))).unwrap();
        files.extend((0..FILES).map(open));
    });
    let piece = |number: usize, round: u64| (number as u64 ^ round << 32).to_le_bytes();
    for round in 0..ROUNDS {
        meter.phase("write 16 KiB to each", FILES, || {
            for (number, file) in files.iter().enumerate() {
                let bytes = piece(number, round).repeat(PIECE_LEN / 8);
                file.write_all_at(&bytes, round * 2 * PIECE_LEN as u64).unwrap();
            }
            files[0].sync_all().unwrap();
        });
    }
    meter.phase("sync", FILES, || machine.sync());
    // From the daemon, through what is open.
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    meter.phase("read all of each", FILES, || {
        for (number, file) in files.iter().enumerate() {
            // Behind each piece but the last there is a hole of the same length.
            let mut expected = Vec::new();
            for round in 0..ROUNDS {
                expected.resize(round as usize * 2 * PIECE_LEN, 0);
                expected.extend(piece(number, round).repeat(PIECE_LEN / 8));
            }
            let mut found = vec![1; expected.len()];
            file.read_exact_at(&mut found, 0).unwrap();
            assert!(found == expected, "file {number} has another content");
            assert_eq!(file.metadata().unwrap().len(), expected.len() as u64, "file {number}");
        }
    });
    meter.phase("close", FILES, || files.clear());
    meter.phase("fsck", FILES, || machine.fsck());
    meter.check();
}
