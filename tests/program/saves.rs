//! How programs save what must not be lost, and `kill -9` of the daemon right behind
//! them or in their midst: the old or the new is there, whole, and what was fsynced is.
//!
//! Programs that Debian has are run; of others the system calls are made as their
//! sources have them.

use super::round_trip::git;
use super::support::{Machine, Numbers, World, kill, noise, pause, run_command, text};
use rustix::fs::{CWD, Mode, OFlags, symlinkat};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const FILE: &str = "document.odt";

/// A way to save `data` as [`FILE`] of a directory.
struct Way {
    name: &'static str,
    save: fn(&Path, &[u8]) -> io::Result<()>,
    /// Whether the file has been fsynced under its name when it returns.
    is_safe: bool,
    /// Where else it may be if it was interrupted.
    backup: Option<&'static str>,
}

const WAYS: [Way; 7] = [
    Way { name: "vim", save: by_vim, is_safe: true, backup: Some("document.odt~") },
    Way { name: "plain vim", save: by_plain_vim, is_safe: true, backup: Some("document.odt~") },
    Way { name: "Emacs", save: as_emacs, is_safe: true, backup: Some("document.odt~") },
    Way { name: "LibreOffice", save: as_libreoffice, is_safe: false, backup: None },
    Way { name: "rsync", save: by_rsync, is_safe: false, backup: None },
    Way { name: "rsync --delay-updates", save: by_late_rsync, is_safe: false, backup: None },
    Way { name: "rsync --inplace", save: by_rsync_in_place, is_safe: true, backup: None },
];

fn write_new(path: &Path, data: &[u8], mode: u32) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(data)?;
    Ok(file)
}

fn program(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))))
}

/// The real one: the old file is renamed to its backup, the new one written and fsynced.
fn by_vim(dir: &Path, data: &[u8]) -> io::Result<()> {
    vim(dir, data, "set backup backupskip= backupcopy=no fsync noswapfile")
}

/// As it is without any settings: with a swap file, and a backup until the new file is
/// written. But for `backupskip`, by which it makes none in `/tmp`, where this runs.
fn by_plain_vim(dir: &Path, data: &[u8]) -> io::Result<()> {
    vim(dir, data, "set backupskip=")
}

fn vim(dir: &Path, data: &[u8], options: &str) -> io::Result<()> {
    let source = dir.with_extension("source");
    fs::write(&source, data)?;
    let read = format!("read {}", text(&source));
    let mut vim = Command::new("vim.tiny");
    // Nobody's settings, Vim's own defaults instead of Vi's, no memory of other files.
    vim.args(["-u", "NONE", "-N", "-i", "NONE", "-es"]);
    vim.args(["-c", options, "-c", "%d", "-c", &read, "-c", "x"]);
    program(vim.arg(dir.join(FILE)))
}

/// `lock_file` in src/filelock.c, `backup-buffer` and `basic-save-buffer-2` in
/// lisp/files.el, `write_region` in src/fileio.c, with their defaults.
fn as_emacs(dir: &Path, data: &[u8]) -> io::Result<()> {
    let (path, lock) = (dir.join(FILE), dir.join(format!(".#{FILE}")));
    // One of a process that is gone is broken.
    fs::remove_file(&lock).or_else(unless_missing)?;
    symlinkat("user@host.4711:1700000000", CWD, &lock)?;
    fs::rename(&path, dir.join(format!("{FILE}~"))).or_else(unless_missing)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o666))?;
    let mut file = File::from(file);
    file.write_all(data)?;
    file.sync_all()?;
    drop(file);
    fs::metadata(&path)?;
    fs::remove_file(&lock)
}

fn unless_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// `LockFileCommon` in svl/source/misc, then `SfxMedium::TransferTempFile` in
/// sfx2/source/doc/docfile.cxx: written beside the document and moved over it, without
/// an fsync.
fn as_libreoffice(dir: &Path, data: &[u8]) -> io::Result<()> {
    let lock = dir.join(format!(".~lock.{FILE}#"));
    fs::remove_file(&lock).or_else(unless_missing)?;
    drop(write_new(&lock, b",user,host,01.01.2025 12:00,file:///home/user;", 0o666)?);
    let temporary = dir.join("lu4711abcd.tmp");
    fs::remove_file(&temporary).or_else(unless_missing)?;
    drop(write_new(&temporary, data, 0o600)?);
    fs::rename(&temporary, dir.join(FILE))?;
    fs::remove_file(&lock)
}

fn rsync(dir: &Path, data: &[u8], flag: &str) -> io::Result<()> {
    let source = dir.with_extension("source");
    fs::write(&source, data)?;
    let flags = ["--ignore-times", "--fsync", flag];
    program(Command::new("rsync").args(flags).arg(&source).arg(dir.join(FILE)))
}

fn by_rsync(dir: &Path, data: &[u8]) -> io::Result<()> {
    rsync(dir, data, "--whole-file")
}

fn by_late_rsync(dir: &Path, data: &[u8]) -> io::Result<()> {
    rsync(dir, data, "--delay-updates")
}

fn by_rsync_in_place(dir: &Path, data: &[u8]) -> io::Result<()> {
    rsync(dir, data, "--inplace")
}

/// What is saved the `count`th time: lines, since editors like them, of several blocks.
fn version(count: u64) -> Vec<u8> {
    let noise = noise(150_000, count);
    let lines = noise.chunks(30).map(|line| line.iter().map(|byte| b'a' + byte % 26));
    lines.flat_map(|line| line.chain([b'\n'])).collect()
}

/// A directory of its own for a way to save, empty and safe.
fn make_dir(mount: &Path, name: &str) -> PathBuf {
    let dir = mount.join(name.replace(' ', "-"));
    fs::create_dir(&dir).unwrap();
    File::open(&dir).unwrap().sync_all().unwrap();
    dir
}

/// Kills the daemon and mounts again.
fn crash(machine: &Machine<'_>) {
    machine.kill();
    machine.mount("mount");
}

fn end(machine: &Machine<'_>) {
    machine.fsck();
    machine.unmount(&machine.world.path("mount"));
    machine.fsck();
}

#[test]
fn a_crash_right_behind_a_save_leaves_the_old_or_the_new() {
    let world = World::new();
    let machine = world.first_machine();
    let mount = machine.mount("mount");
    for way in &WAYS {
        let dir = make_dir(&mount, way.name);
        drop(write_new(&dir.join(FILE), &version(0), 0o644).unwrap());
        File::open(dir.join(FILE)).unwrap().sync_all().unwrap();
        (way.save)(&dir, &version(1)).unwrap();
        crash(&machine);
        let found = fs::read(dir.join(FILE)).unwrap();
        let is_new = found == version(1);
        println!("{}: the {}", way.name, if is_new { "new" } else { "old" });
        assert!(is_new || !way.is_safe && found == version(0), "{}: {}", way.name, found.len());
    }
    end(&machine);
}

/// Saves one version after the other until the mount is gone; says the first that is
/// not safe and the first that was not begun.
fn save_until_killed(way: &Way, dir: &Path, machine: &Machine<'_>, after: u64) -> (u64, u64) {
    let pid = machine.pid();
    std::thread::scope(|scope| {
        let saver = scope.spawn(|| {
            let (mut safe, mut count) = (1, 1);
            while (way.save)(dir, &version(count)).is_ok() {
                count += 1;
                if way.is_safe {
                    safe = count;
                }
            }
            (safe, count + 1)
        });
        pause(after);
        kill(pid);
        saver.join().unwrap()
    })
}

#[test]
fn a_crash_in_the_midst_of_saving_leaves_a_whole_version() {
    let seed = Numbers::seed();
    println!("TGCRYPTFS_TEST_SEED={seed}");
    let mut draw = Numbers::new(seed);
    let world = World::new();
    let machine = world.first_machine();
    let mount = machine.mount("mount");
    // In place there is no other version to fall back on.
    for way in WAYS.iter().filter(|way| !way.name.ends_with("--inplace")) {
        let dir = make_dir(&mount, way.name);
        drop(write_new(&dir.join(FILE), &version(0), 0o644).unwrap());
        File::open(dir.join(FILE)).unwrap().sync_all().unwrap();
        let (safe, end) = save_until_killed(way, &dir, &machine, 50 + draw.below(1000));
        machine.mount("mount");
        // The last safe version, or one behind it.
        let is_whole = |name: &str| {
            let found = fs::read(dir.join(name)).unwrap_or_default();
            (safe - 1..end).find(|count| version(*count) == found)
        };
        let found = is_whole(FILE).or_else(|| way.backup.and_then(is_whole));
        println!("{}: {found:?} of {}..{end}", way.name, safe - 1);
        assert!(found.is_some(), "{}: no version from {} to {end}", way.name, safe - 1);
    }
    end(&machine);
}

#[test]
fn a_mail_that_was_delivered_survives_a_crash() {
    // Delivered as maildir(5) says: written and fsynced in tmp, moved to new; the
    // library does not sync the directory, a delivery agent does.
    let script = "\
import mailbox, os, sys
box = mailbox.Maildir(sys.argv[1])
for number in range(20):
    box.add('Subject: %d\\n\\n%s' % (number, 'text ' * 5000))
    if sys.argv[2] == 'sync':
        directory = os.open(sys.argv[1] + '/new', os.O_RDONLY)
        os.fsync(directory)
";
    let world = World::new();
    let machine = world.first_machine();
    let mount = machine.mount("mount");
    for mode in ["sync", "no"] {
        let dir = mount.join(format!("mail-{mode}"));
        run_command(Command::new("python3").args(["-c", script]).arg(&dir).arg(mode));
        crash(&machine);
        let mails = fs::read_dir(dir.join("new")).unwrap().map(|entry| entry.unwrap().path());
        let mut numbers: Vec<u32> = mails
            .map(|mail| {
                let mail = fs::read_to_string(mail).unwrap();
                let number = mail.strip_prefix("Subject: ").unwrap().split_once('\n').unwrap().0;
                assert_eq!(mail.matches("text ").count(), 5000, "mail {number}");
                number.parse().unwrap()
            })
            .collect();
        numbers.sort_unstable();
        // An fsync of one mail keeps the names of all before it.
        let all: Vec<u32> = (0..20).collect();
        let is_all = numbers == all || mode == "no" && numbers == all[..19];
        assert!(is_all, "{mode}: {numbers:?}");
    }
    end(&machine);
}

#[test]
fn a_repository_is_whole_after_a_crash() {
    // The last thing git does is to rename the branch's lock file, which it fsynced.
    let durable = ["-c", "core.fsync=all", "-c", "core.fsyncMethod=fsync"];
    crash_behind_commits(&durable);
}

/// By default git syncs packs and not what it commits: a commit may be lost, which costs
/// nothing before it and leaves nothing by half. What is packed is there.
#[test]
fn a_repository_is_whole_after_a_crash_if_git_syncs_what_it_does_by_default() {
    crash_behind_commits(&[]);
}

/// Commits, and packs every other time, with a crash behind each; the last commit is
/// there or the one before, and the last if it was packed.
fn crash_behind_commits(settings: &[&str]) {
    let world = World::new();
    let machine = world.first_machine();
    let mount = machine.mount("mount");
    let dir = mount.join("repository");
    fs::create_dir(&dir).unwrap();
    let home = world.path("");
    let git =
        |arguments: &[&str]| git(&home, &dir, &[settings, arguments].concat()).trim().to_owned();
    git(&["init", "--quiet"]);
    // Which keeps everything that was done so far.
    File::open(&dir).unwrap().sync_all().unwrap();
    let mut before = String::new();
    for step in 0..6 {
        for number in 0..20 {
            fs::write(dir.join(format!("file-{number}")), noise(1000, step * 20 + number)).unwrap();
        }
        git(&["add", "--all"]);
        git(&["commit", "--quiet", "--message", "a step"]);
        let now = git(&["rev-parse", "HEAD"]);
        let is_packed = step % 2 == 1;
        if is_packed {
            git(&["gc", "--quiet", "--prune=now"]);
        }
        crash(&machine);
        remove_locks(&dir.join(".git"));
        git(&["fsck", "--full", "--strict"]);
        // Nothing if there is no commit yet.
        let head = git(&["rev-list", "--all", "--max-count=1"]);
        println!("{settings:?}, step {step}: the {}", if head == now { "new" } else { "old" });
        let is_right = head == now || head == before && !is_packed;
        assert!(is_right, "step {step}: {head:?}, not {before:?} or {now}");
        // What was not committed durably is committed by the next step.
        git(&["reset", "--quiet"]);
        before = head;
    }
    end(&machine);
}

/// Removes what git may have left of what it was about to remove itself.
fn remove_locks(dir: &Path) {
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            remove_locks(&path);
        } else if path.extension().is_some_and(|extension| extension == "lock") {
            fs::remove_file(path).unwrap();
        }
    }
}

/// Adds five rows in each transaction, and says how many once it is committed.
const ADD_ROWS: &str = "\
import os, sqlite3, sys
directory = os.open(os.path.dirname(sys.argv[1]), os.O_RDONLY)
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute('PRAGMA journal_mode = ' + sys.argv[2])
db.execute('PRAGMA synchronous = ' + sys.argv[3])
db.execute('CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, part INTEGER, text TEXT)')
first = db.execute('SELECT count(*) / 5 FROM t').fetchone()[0]
for number in range(first, 100000):
    db.execute('BEGIN')
    for part in range(5):
        db.execute('INSERT INTO t (part, text) VALUES (?, ?)', (number, 'x' * 3000))
    db.execute('COMMIT')
    if sys.argv[3] == 'EXTRA':
        os.fsync(directory)
    print(number + 1, flush=True)
";

/// A kind of journal, how much SQLite syncs, and how many commits a crash may then cost.
///
/// What commits with a rollback journal is its removal, which SQLite syncs with EXTRA
/// alone; until the next sync of anything the journal may come back, and takes the last
/// commit with it. And it takes it for success when it cannot open the directory to sync
/// that, as happens when the mount dies just then (`unixDelete`). So with EXTRA the
/// program syncs the directory as well; all else is left to SQLite.
const JOURNALS: [(&str, &str, u64); 3] =
    [("wal", "FULL", 0), ("delete", "FULL", 1), ("delete", "EXTRA", 0)];

#[test]
fn a_database_keeps_what_it_committed_through_crashes() {
    let seed = Numbers::seed();
    println!("TGCRYPTFS_TEST_SEED={seed}");
    let mut draw = Numbers::new(seed);
    let world = World::new();
    let machine = world.first_machine();
    let mount = machine.mount("mount");
    for (journal, level, lost_max) in JOURNALS {
        let mode = format!("{journal}-{level}");
        let path = mount.join(format!("{mode}.db"));
        let mut committed = 0;
        for round in 0..3 {
            let mut python = Command::new("python3");
            python.args(["-c", ADD_ROWS]).arg(&path).args([journal, level]).stdin(Stdio::null());
            let child = python.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
            let mut child = child.unwrap();
            let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
            let first = said.next().expect("a first commit").unwrap();
            committed = committed.max(first.parse::<u64>().unwrap());
            pause(draw.below(400));
            machine.kill();
            // It ends because its file system is gone.
            for line in said {
                committed = line.unwrap().parse().unwrap();
            }
            child.wait().unwrap();
            machine.mount("mount");
            let check = "PRAGMA integrity_check; SELECT count(*) FROM t; \
                         SELECT count(*) FROM (SELECT part FROM t GROUP BY part HAVING count(*) <> 5)";
            let answer = run_command(Command::new("sqlite3").arg(&path).arg(check));
            let lines: Vec<_> = answer.lines().collect();
            let [sound, rows, halves] = lines[..] else { panic!("{answer}") };
            let rows: u64 = rows.parse().unwrap();
            println!("{mode}, round {round}: {rows} rows of {committed} transactions");
            assert_eq!((sound, halves), ("ok", "0"), "{mode}, round {round}");
            // The commit that was interrupted may have been through.
            let is_right = rows.is_multiple_of(5)
                && (committed - lost_max..=committed + 1).contains(&(rows / 5));
            assert!(is_right, "{mode}, round {round}: {rows} of {committed}");
        }
    }
    end(&machine);
}
