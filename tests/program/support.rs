//! A store, machines (home directories) and mounts for one test.

use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_tgcryptfs");

/// Long enough for anything that is not broken.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Key derivation at its cheapest; the default is for people.
const CHEAP: [&str; 4] =
    ["--set", "encryption.argon2_memory_kib=19456", "--set", "encryption.argon2_iterations=2"];

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout.clone()).unwrap(),
            stderr: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    pub(crate) fn first_error(&self) -> &str {
        self.stderr.lines().next().unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }

    /// Failed with `code`, and the first line names each of `words`.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {self:#?}");
        }
        let lines = self.stderr.lines().filter(|line| line.starts_with("tgcryptfs: "));
        assert_eq!(lines.count(), 1, "{self:#?}");
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// A directory with everything of one test.
pub(crate) struct World {
    dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        world.private_file("password", "correct horse battery\n");
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    /// A directory below the world, made if need be.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Every object in the store with its length.
    pub(crate) fn objects(&self) -> BTreeMap<PathBuf, u64> {
        let (mut objects, mut left) = (BTreeMap::new(), vec![self.store()]);
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                match fs::metadata(&path).unwrap() {
                    data if data.is_dir() => left.push(path),
                    data => drop(objects.insert(path, data.len())),
                }
            }
        }
        objects
    }

    pub(crate) fn private_file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub(crate) fn password(&self) -> PathBuf {
        self.path("password")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// A machine that knows nothing yet.
    pub(crate) fn machine(&self, name: &str) -> Machine<'_> {
        Machine { world: self, home: self.dir(name), store: self.store() }
    }

    /// A machine that made the vault.
    pub(crate) fn first_machine(&self) -> Machine<'_> {
        let machine = self.machine("home");
        machine.init();
        machine
    }

    /// Mounts a file system of `bytes` in memory; needs root.
    pub(crate) fn tmpfs(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.dir(name);
        let size = format!("size={bytes},mode=755");
        run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", text(&path)]);
        path
    }

    /// Mounts a small ext4, or where there are no loop devices a file system in memory;
    /// needs root.
    pub(crate) fn small_disk(&self, name: &str, bytes: u64) -> PathBuf {
        let (path, file) = (self.dir(name), self.path(&format!("{name}.ext4")));
        fs::File::create(&file).unwrap().set_len(bytes).unwrap();
        run("mkfs.ext4", &["-q", "-m", "0", text(&file)]);
        let arguments = ["-o", "loop", text(&file), text(&path)];
        let mounted = Command::new("mount").args(arguments).output().unwrap();
        if mounted.status.success() {
            return path;
        }
        println!("in memory, not on ext4: {}", String::from_utf8_lossy(&mounted.stderr));
        self.tmpfs(name, bytes)
    }
}

impl Drop for World {
    /// However the test ends: what it mounted is taken down, and what it started ends.
    fn drop(&mut self) {
        let Ok(root) = self.dir.path().canonicalize() else { return };
        for mount in mounts_below(&root) {
            let detached = Command::new("umount").arg("-l").arg(&mount).output();
            if !detached.is_ok_and(|output| output.status.success()) {
                drop(Command::new("fusermount3").arg("-uz").arg(&mount).output());
            }
        }
        for pid in processes_below(&root) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                // It may have ended by itself.
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
        }
    }
}

/// Mount points below a directory, the last one first.
pub(crate) fn mounts_below(root: &Path) -> Vec<PathBuf> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let points = table.split(|byte| *byte == b'\n').filter_map(|line| {
        let field = line.split(|byte| *byte == b' ').nth(4)?;
        Some(PathBuf::from(std::ffi::OsString::from_vec(field.to_vec())))
    });
    let mut points: Vec<_> = points.filter(|point| point.starts_with(root)).collect();
    points.reverse();
    points
}

/// Processes of the program that were started with a path below `root`.
pub(crate) fn processes_below(root: &Path) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        // Not its file: a process that hides its memory hides that too, but from root.
        let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
        let is_ours = name.starts_with(b"tgcryptfs");
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let root = root.as_os_str().as_bytes();
        is_ours && line.windows(root.len()).any(|window| window == root)
    })
    .collect()
}

/// A home directory, with nothing of the caller's environment.
#[derive(Clone)]
pub(crate) struct Machine<'w> {
    pub(crate) world: &'w World,
    pub(crate) home: PathBuf,
    pub(crate) store: PathBuf,
}

impl Machine<'_> {
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env_clear().stdin(Stdio::null());
        command.env("HOME", &self.home).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Runs the program without a secret.
    pub(crate) fn bare(&self, arguments: &[&str]) -> Finished {
        Finished::of(&self.command(arguments).output().unwrap())
    }

    /// Runs the program with the password where it can be found, and with the store.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with(&self.world.password(), arguments)
    }

    pub(crate) fn run_with(&self, password: &Path, arguments: &[&str]) -> Finished {
        let mut command = self.command(arguments);
        command.env("TGCRYPTFS_PASSWORD_FILE", password).env("TGCRYPTFS_STORE", self.url());
        Finished::of(&command.output().unwrap())
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.store.display())
    }

    pub(crate) fn init(&self) -> Finished {
        let url = self.url();
        let mut arguments = vec!["init", "--store", &url];
        arguments.extend(CHEAP);
        self.run(&arguments).succeeded()
    }

    /// Mounts as a daemon at a directory of the world.
    pub(crate) fn mount(&self, name: &str) -> PathBuf {
        self.mount_with(name, &[])
    }

    pub(crate) fn mount_with(&self, name: &str, flags: &[&str]) -> PathBuf {
        let point = self.world.path(name);
        if !mounts_below(&point).contains(&point) {
            fs::create_dir_all(&point).unwrap();
        }
        let mut arguments = vec!["mount", text(&point)];
        arguments.extend(flags);
        self.run(&arguments).succeeded();
        point
    }

    /// Unmounts. Another test's child may hold our files for a moment, until it runs its
    /// program, so the first try may find the mount busy.
    pub(crate) fn unmount(&self, point: &Path) {
        let start = Instant::now();
        loop {
            let finished = self.bare(&["unmount", text(point)]);
            if finished.code != 9 || start.elapsed() > Duration::from_secs(5) {
                finished.succeeded();
                return;
            }
            pause(50);
        }
    }

    /// What `status --json` says of the only mount.
    pub(crate) fn mounted(&self) -> Value {
        let mut report = self.bare(&["status", "--json"]).succeeded().json();
        let mounts = report["mounts"].as_array_mut().unwrap();
        assert_eq!(mounts.len(), 1, "{mounts:#?}");
        mounts.remove(0)
    }

    /// A number that `status --json` says of the only mount.
    pub(crate) fn status(&self, name: &str) -> u64 {
        let mounted = self.mounted();
        mounted["vault"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {mounted:#}"))
    }

    pub(crate) fn sync(&self) {
        self.run(&["sync"]).succeeded();
    }

    /// Fsck finds nothing.
    pub(crate) fn fsck(&self) {
        let report = self.run(&["fsck", "--json"]).succeeded().json();
        assert_eq!(report["problems"].as_array().unwrap().len(), 0, "{report:#}");
    }

    /// Kills the daemon that serves the only mount, and waits until it is gone.
    pub(crate) fn kill(&self) {
        kill(self.pid());
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.mounted()["pid"].as_i64().unwrap()).unwrap()
    }

    /// Deletes everything this machine knows.
    pub(crate) fn forget(&self) {
        fs::remove_dir_all(&self.home).unwrap();
        fs::create_dir(&self.home).unwrap();
    }
}

/// Ends a process that the test started as nothing can prevent.
pub(crate) fn kill(pid: i32) {
    let id = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
    wait_until("the process to be gone", || {
        // A zombie serves nobody, once its other threads are gone too.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        let is_zombie = |stat: &str| stat.rsplit(')').next().is_some_and(|s| s.starts_with(" Z"));
        stat.map_or(true, |stat| is_zombie(&stat) && threads <= 1)
    });
}

/// A figure that Linux tells of a process: what it has in memory (`VmRSS`), what it had at
/// most (`VmHWM`), both in KiB, its `Threads`; 0 if it is gone.
pub(crate) fn figure_of(pid: i32, figure: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What a mount may take after a crash, or may take longer than a clean one.
pub(crate) const MOUNT_MAX: Duration = Duration::from_secs(1);

/// How long mounts took.
#[derive(Debug, Default)]
pub(crate) struct MountTimes {
    pub(crate) crashed: Vec<Duration>,
    /// Clean ones between these.
    pub(crate) clean: Vec<Duration>,
}

impl MountTimes {
    /// Mounts after crashes are fast: in the median, and each of them but for what clean
    /// ones take as well when the machine does something else.
    #[track_caller]
    pub(crate) fn check(mut self, seed: u64) {
        self.crashed.sort_unstable();
        let median = self.crashed[self.crashed.len() / 2];
        let (worst, clean) = (*self.crashed.last().unwrap(), *self.clean.iter().max().unwrap());
        println!(
            "{} mounts after crashes took {median:?} in the median, {worst:?} at most; {} clean \
             ones {clean:?} at most",
            self.crashed.len(),
            self.clean.len()
        );
        assert!(median <= MOUNT_MAX, "seed {seed}: mounting took {median:?}");
        assert!(worst <= MOUNT_MAX + clean, "seed {seed}: mounting took {worst:?}");
    }
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "waited too long for {what}");
        pause(10);
    }
}

pub(crate) fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Runs a tool of the system that has to succeed; gives what it printed.
#[track_caller]
pub(crate) fn run(tool: &str, arguments: &[&str]) -> String {
    run_command(Command::new(tool).args(arguments))
}

#[track_caller]
pub(crate) fn run_command(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("{command:?} is not installed; scripts/test installs what the tests need")
        }
        output => output.unwrap(),
    };
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
pub(crate) fn text<P: AsRef<OsStr> + ?Sized>(path: &P) -> &str {
    path.as_ref().to_str().unwrap()
}

/// Whether this process may do what only root may. If not, that is a failure, unless
/// `TGCRYPTFS_TEST_WITHOUT_ROOT` is 1: then it says what is left out.
#[track_caller]
pub(crate) fn is_root(what: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        let is_allowed = std::env::var("TGCRYPTFS_TEST_WITHOUT_ROOT").is_ok_and(|text| text == "1");
        assert!(is_allowed, "run as root, or with TGCRYPTFS_TEST_WITHOUT_ROOT=1 without {what}");
        println!("left out, since it needs root: {what}");
    }
    is_root
}

/// Numbers that repeat with their seed (SplitMix64, public domain reference).
#[derive(Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed that differs between runs, unless `TGCRYPTFS_TEST_SEED` says which.
    pub(crate) fn seed() -> u64 {
        let given = std::env::var("TGCRYPTFS_TEST_SEED").ok().and_then(|text| text.parse().ok());
        given.unwrap_or_else(|| {
            let bytes = tgcryptfs::env::Env::real().random_array::<4>();
            u32::from_le_bytes(bytes).into()
        })
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Bytes that follow from a seed and do not compress.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}
