//! A tree of everything goes in, is worked in, and comes back on a machine that has
//! nothing but the store and the password: every byte, name, mode, owner, time, link,
//! device and attribute as it was.
//!
//! The full one has 20,000 files and more from cargo's registry and a file of 1 GiB; it
//! takes two minutes and 6 GiB of disk:
//!
//! ```sh
//! cargo test --release --test program -- --ignored --nocapture full_round_trip
//! ```
//!
//! On two cores: 30,144 names, 1.9 GB in, 0.98 GB in the store; 21 s for `cp -a` into the
//! mount, 1.3 s to mount on a new machine, 14 s to read everything there.

use super::support::{Numbers, World, is_root, noise, run, run_command, text};
use super::tree::{Tree, assert_same, record};
use rusqlite::Connection;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// How much goes in.
struct Size {
    small_files: u64,
    large: u64,
    /// A directory to take along.
    also: Option<PathBuf>,
}

#[test]
fn a_tree_of_everything_comes_back_on_a_new_machine() {
    round_trip(&Size { small_files: 1100, large: 64 << 20, also: None });
}

#[test]
#[ignore = "takes minutes and 6 GiB; see the head of this file"]
fn full_round_trip() {
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home =
        cargo_home.unwrap_or_else(|| Path::new(&std::env::var("HOME").unwrap()).join(".cargo"));
    let registry = cargo_home.join("registry/src");
    round_trip(&Size { small_files: 5000, large: 1 << 30, also: Some(registry) });
}

/// Says how long the steps take.
struct Steps(Instant);

impl Steps {
    fn done(&mut self, what: &str) {
        println!("{:>8.2} s  {what}", self.0.elapsed().as_secs_f64());
        self.0 = Instant::now();
    }
}

fn round_trip(size: &Size) {
    let mut steps = Steps(Instant::now());
    let world = World::new();
    let original = world.dir("original");
    plant(&original, size);
    let before = record(&original);
    let files = before.len();
    steps.done(&format!("made {files} names"));

    let machine = world.first_machine();
    let mount = machine.mount("mount");
    let (inside, work) = (mount.join("tree"), mount.join("work"));
    run("cp", &["-a", text(&original), text(&inside)]);
    steps.done("cp -a into the mount");
    assert_same("in the mount", &before, &record(&inside));
    steps.done("compared");

    fs::create_dir(&work).unwrap();
    run("cp", &["-a", text(&inside.join("git")), text(&inside.join("cargo")), text(&work)]);
    use_git(&world, &work.join("git"));
    assert!(build(&work.join("cargo")).contains("Compiling"), "cargo had nothing to build");
    use_database(&inside.join("database"), &work.join("database"));
    let worked = record(&work);
    steps.done("worked with git, cargo and SQLite");
    machine.sync();
    assert_eq!(machine.mounted()["vault"]["dirty_bytes"], 0);
    steps.done("synced");
    machine.unmount(&mount);
    machine.mount("mount");
    assert_same("mounted again", &before, &record(&inside));
    assert_same("mounted again, work", &worked, &record(&work));
    steps.done("mounted again and compared");

    machine.unmount(&mount);
    machine.forget();
    report_store(&world);
    steps.done("unmounted and forgot everything");

    let machine = world.machine("new-home");
    let mount = machine.mount("new-mount");
    steps.done("mounted on a new machine");
    let (inside, work) = (mount.join("tree"), mount.join("work"));
    assert_same("on a new machine", &before, &record(&inside));
    assert_same("on a new machine, work", &worked, &record(&work));
    steps.done("compared");
    check_git(&world, &inside.join("git"));
    check_git(&world, &work.join("git"));
    // Cargo goes by times and sizes: nothing has changed for it.
    assert!(!build(&work.join("cargo")).contains("Compiling"));
    check_database(&inside.join("database"));
    check_database(&work.join("database"));
    steps.done("git, cargo and SQLite find everything");
    machine.fsck();
    machine.unmount(&mount);
    steps.done("fsck");
}

fn report_store(world: &World) {
    let sizes = run("du", &["-sb", "--total", text(&world.store()), text(&world.path("original"))]);
    println!("{}", sizes.trim_end());
}

/// Makes one of everything.
fn plant(root: &Path, size: &Size) {
    plant_small_files(&root.join("small"), size.small_files);
    plant_sizes(&root.join("sizes"), size.large);
    plant_names(&root.join("names"));
    plant_links(&root.join("links"));
    plant_special(&root.join("special"));
    plant_git(&root.join("git"));
    plant_cargo(&root.join("cargo"));
    plant_database(&root.join("database"));
    if let Some(also) = &size.also {
        run("cp", &["-a", text(also), text(&root.join("also"))]);
    }
    plant_attributes(&root.join("attributes"));
    // Last, since whatever is made in a directory changes its time.
    plant_times(&root.join("times"));
}

fn plant_small_files(root: &Path, count: u64) {
    let mut draw = Numbers::new(1);
    for number in 0..count {
        // Some directories hold many, most hold few.
        let dir = match number % 3 {
            0 => root.join("wide"),
            _ => root.join(format!("{}/{}", draw.below(9), draw.below(12))),
        };
        fs::create_dir_all(&dir).unwrap();
        let line = format!("line {} of file {number}\n", draw.below(100));
        fs::write(dir.join(number.to_string()), line.repeat(draw.below(200) as usize)).unwrap();
    }
    let deep = (0..30).fold(root.to_owned(), |path, level| path.join(format!("{level:060}")));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "deep").unwrap();
}

fn plant_sizes(root: &Path, large: u64) {
    fs::create_dir(root).unwrap();
    for size in [0, 1, 4095, 4096, 131_071, 131_072, 131_073, 262_144, 1_000_003] {
        fs::write(root.join(format!("{size}")), noise(size, 5)).unwrap();
    }
    let mut file = File::create(root.join("large")).unwrap();
    for number in 0..large >> 20 {
        // Some of it compresses, some of it is there twice.
        match number % 8 {
            0 => file.write_all(&vec![number as u8; 1 << 20]).unwrap(),
            _ => file.write_all(&noise(1 << 20, number - u64::from(number % 8 == 7))).unwrap(),
        }
    }
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(b"begins", 3 << 20).unwrap();
    sparse.write_all_at(&noise(300_000, 9), 40 << 20).unwrap();
    sparse.set_len(64 << 20).unwrap();
    File::create(root.join("hole")).unwrap().set_len(256 << 20).unwrap();
}

fn plant_names(root: &Path) {
    fs::create_dir(root).unwrap();
    let long = [b'x'; 255];
    let names: [&[u8]; 14] = [
        &long,
        b"\xff\xfe\x80 no UTF-8",
        b"two\nlines\n",
        b" space at both ends ",
        b"-rf",
        b"*?[a]$(b)`c`",
        b"back\\slash",
        b"\x01\x1b[2J\x7f",
        b"dots...",
        b"...",
        b"Case",
        b"case",
        "caf\u{e9}".as_bytes(),
        "cafe\u{301}".as_bytes(),
    ];
    for name in names {
        fs::write(root.join(OsStr::from_bytes(name)), name).unwrap();
    }
    let dir = root.join(OsStr::from_bytes(b"dir \xc0\n"));
    fs::create_dir(&dir).unwrap();
    fs::create_dir(dir.join("empty")).unwrap();
    fs::write(dir.join("inside"), "").unwrap();
}

fn plant_links(root: &Path) {
    fs::create_dir_all(root.join("other")).unwrap();
    fs::write(root.join("file"), "linked").unwrap();
    for name in ["a", "z", "other/b"] {
        fs::hard_link(root.join("file"), root.join(name)).unwrap();
    }
    let long = "y/".repeat(2000);
    let targets =
        [("relative", "other/b"), ("dangling", "/no/such"), ("loop", "loop"), ("long", &long)];
    for (name, target) in targets {
        symlink(target, root.join(name)).unwrap();
    }
    symlink(OsStr::from_bytes(b"\xff\n"), root.join("odd")).unwrap();
    // A second name of the symlink itself.
    let (old, new) = (root.join("relative"), root.join("relative-too"));
    rustix::fs::linkat(CWD, old, CWD, new, AtFlags::empty()).unwrap();
}

fn plant_special(root: &Path) {
    fs::create_dir(root).unwrap();
    let make = |name: &str, kind, major, minor| {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o640), device)
            .unwrap();
    };
    make("fifo", FileType::Fifo, 0, 0);
    fs::hard_link(root.join("fifo"), root.join("fifo-too")).unwrap();
    make("socket", FileType::Socket, 0, 0);
    if is_root("device nodes and other owners") {
        make("null", FileType::CharacterDevice, 1, 3);
        make("odd-device", FileType::CharacterDevice, 4095, 1_048_575);
        make("loop0", FileType::BlockDevice, 7, 0);
    }
    let modes = [0o000, 0o400, 0o777, 0o4755, 0o2755, 0o1777, 0o6711, 0o7777, 0o200].into_iter();
    for mode in modes {
        let (file, dir) = (root.join(format!("file-{mode:o}")), root.join(format!("dir-{mode:o}")));
        fs::write(&file, "mode").unwrap();
        fs::create_dir(&dir).unwrap();
        let owners = [(4242, 0), (0, 4243), (u32::MAX - 2, 65_534)];
        let (uid, gid) = owners[mode as usize % 3];
        if rustix::process::geteuid().is_root() {
            lchown(&file, Some(uid), Some(gid)).unwrap();
            lchown(&dir, Some(uid), Some(gid)).unwrap();
        } else if mode & 0o500 != 0o500 {
            // Nobody else could compare it.
            continue;
        }
        // After the owner, since a change of owner takes setuid away.
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("x", root.join("link")).unwrap();
    if rustix::process::geteuid().is_root() {
        lchown(root.join("link"), Some(77), Some(78)).unwrap();
    }
}

fn plant_attributes(root: &Path) {
    fs::create_dir(root).unwrap();
    let (file, dir) = (root.join("file"), root.join("dir"));
    fs::write(&file, "attributes").unwrap();
    fs::create_dir(&dir).unwrap();
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
    };
    set(&file, "user.empty", b"");
    set(&file, "user.bytes", b"\0\xff\n\0");
    set(&file, "user.large", &noise(2000, 3));
    set(&file, &format!("user.{}", "n".repeat(250)), b"long name");
    set(&dir, "user.mime_type", b"inode/directory");
    if is_root("trusted attributes") {
        set(&file, "trusted.note", b"for root");
        set(&dir, "trusted.note", b"for root");
    }
}

fn plant_times(root: &Path) {
    fs::create_dir(root).unwrap();
    let times = [
        (0, 0),
        (0, 1),
        (-1, 999_999_999),
        (-2_000_000_000, 5),
        (1_000_000_000, 123_456_789),
        (2_147_483_648, 1),
        (13_000_000_000, 999_999_999),
    ];
    for (seconds, nanoseconds) in times {
        let name = format!("{seconds}.{nanoseconds}");
        let (file, dir) = (root.join(&name), root.join(format!("dir{name}")));
        let link = root.join(format!("link{name}"));
        fs::write(&file, "").unwrap();
        fs::create_dir(&dir).unwrap();
        symlink("x", &link).unwrap();
        for path in [file, dir, link] {
            set_time(&path, seconds, nanoseconds);
        }
    }
    set_time(root, -7, 7);
}

fn set_time(path: &Path, tv_sec: i64, tv_nsec: i64) {
    let time = Timespec { tv_sec, tv_nsec };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

pub(crate) fn git(home: &Path, dir: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(dir).env("HOME", home).env("GIT_CONFIG_NOSYSTEM", "1");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    let identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"];
    run_command(command.args(identity).args(arguments))
}

fn plant_git(dir: &Path) {
    let home = dir.parent().unwrap();
    fs::create_dir(dir).unwrap();
    git(home, dir, &["init", "--quiet"]);
    let mut draw = Numbers::new(2);
    for commit in 0..12 {
        for _ in 0..8 {
            let path = dir.join(format!("{}/{}.txt", draw.below(4), draw.below(10)));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
            writeln!(file, "commit {commit} says {}", draw.next()).unwrap();
        }
        git(home, dir, &["add", "--all"]);
        git(home, dir, &["commit", "--quiet", "--message", &format!("commit {commit}")]);
        if commit == 6 {
            git(home, dir, &["branch", "older"]);
            git(home, dir, &["tag", "--annotate", "six", "--message", "the sixth"]);
            git(home, dir, &["gc", "--quiet"]);
        }
    }
}

/// What people do all day.
fn use_git(world: &World, dir: &Path) {
    let home = world.path("");
    let git = |arguments: &[&str]| git(&home, dir, arguments);
    assert_eq!(git(&["status", "--porcelain"]), "");
    git(&["checkout", "--quiet", "older"]);
    fs::write(dir.join("new"), "on a branch").unwrap();
    git(&["add", "new"]);
    git(&["commit", "--quiet", "--message", "a branch"]);
    git(&["checkout", "--quiet", "-"]);
    git(&["merge", "--quiet", "--message", "together", "older"]);
    git(&["clone", "--quiet", ".", "../clone"]);
    git(&["gc", "--quiet", "--prune=now"]);
    check_git(world, dir);
    check_git(world, &dir.with_file_name("clone"));
}

fn check_git(world: &World, dir: &Path) {
    let home = world.path("");
    assert_eq!(git(&home, dir, &["status", "--porcelain"]), "");
    git(&home, dir, &["fsck", "--full", "--strict"]);
    assert!(git(&home, dir, &["log", "--oneline"]).lines().count() >= 12);
}

fn plant_cargo(dir: &Path) {
    fs::create_dir_all(dir.join("src")).unwrap();
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    let package = "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";
    write("Cargo.toml", &format!("{package}[workspace]\n"));
    let script = "fn main() { std::fs::write(std::env::var(\"OUT_DIR\").unwrap() + \"/n.rs\", \
                  \"42\").unwrap(); println!(\"cargo:rerun-if-changed=build.rs\"); }\n";
    write("build.rs", script);
    write("src/lib.rs", "pub fn n() -> u32 { include!(concat!(env!(\"OUT_DIR\"), \"/n.rs\")) }\n");
    write("src/main.rs", "fn main() { println!(\"the answer is {}\", hello::n()); }\n");
}

/// Builds and runs the project where it lies; gives what cargo said.
fn build(dir: &Path) -> String {
    let mut command = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let is_ours = name.as_bytes().starts_with(b"CARGO") && name != "CARGO_HOME";
        if is_ours || name.as_bytes().starts_with(b"RUSTFLAGS") {
            command.env_remove(name);
        }
    }
    let output = command.args(["build", "--offline"]).current_dir(dir).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(run(text(&dir.join("target/debug/hello")), &[]), "the answer is 42\n");
    said
}

fn plant_database(path: &Path) {
    let database = Connection::open(path).unwrap();
    database.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)").unwrap();
    fill(&database, 0..1500, 100);
}

/// Inserts rows, `batch` to a transaction.
fn fill(database: &Connection, rows: std::ops::Range<u64>, batch: usize) {
    let rows: Vec<u64> = rows.collect();
    for rows in rows.chunks(batch) {
        database.execute_batch("BEGIN").unwrap();
        for row in rows {
            let value = noise(row.wrapping_mul(37) as usize % 700, *row);
            database.execute("INSERT INTO t (v) VALUES (?1)", [value]).unwrap();
        }
        database.execute_batch("COMMIT").unwrap();
    }
}

/// Works on a copy of a database, with a rollback journal and with a write-ahead log.
fn use_database(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
    let database = Connection::open(to).unwrap();
    fill(&database, 1500..1800, 30);
    let mode = |name: &str| {
        let pragma = format!("PRAGMA journal_mode = {name}");
        database.query_row(&pragma, [], |row| row.get::<_, String>(0)).unwrap()
    };
    assert_eq!(mode("wal"), "wal");
    fill(&database, 1800..3000, 30);
    // Another connection reads meanwhile, through the shared memory of the log.
    let reader = Connection::open(to).unwrap();
    let count = |database: &Connection| {
        database.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    database.execute_batch("BEGIN; DELETE FROM t WHERE id % 3 = 0").unwrap();
    assert_eq!((count(&reader), count(&database)), (3000, 2000));
    database.execute_batch("COMMIT; VACUUM").unwrap();
    assert_eq!(count(&reader), 2000);
    drop(reader);
    drop(database);
    check_database(to);
}

fn check_database(path: &Path) {
    let database = Connection::open(path).unwrap();
    let said: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(said, "ok", "{}", path.display());
}

/// The helper that compares is not blind.
#[test]
fn planting_twice_makes_the_same() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let plant_and_record = |root: &Path| -> Tree {
        plant_links(&root.join("links"));
        plant_names(&root.join("names"));
        plant_times(&root.join("times"));
        record(&root.join("times"))
    };
    let (one, two) = (plant_and_record(one.path()), plant_and_record(two.path()));
    assert_same("planted twice", &one, &two);
}
