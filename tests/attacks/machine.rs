//! S31, S32 and S39: the program itself on a machine that others look at: its files, its
//! memory, its core dumps, what it prints.

use super::program::{Machine, PROGRAM, World, is_root, noise, processes_below, text, wait_until};
use super::secrets::{Secrets, files_below};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use tgcryptfs::crypto::aead::AeadKey;
use tgcryptfs::crypto::{Key32, MasterKey, SigningKey, kdf};
use tgcryptfs::engine::unlock;
use tgcryptfs::vault::{Credential, MembershipRecord, Passphrase, VaultHeader};

const PASSWORD: &str = "correct horse battery";
/// Bytes of a block if nobody says otherwise.
const BLOCK: usize = 128 << 10;
const NAME: &str = "Steuererklärung-2031.ods";

/// What must not be found on a machine.
fn secrets(recovery: &str) -> Secrets {
    let texts = [PASSWORD, NAME, "Onkologie-Befunde", "shortcut-target", recovery];
    let secrets = texts.into_iter().fold(Secrets::default(), Secrets::text);
    secrets.content(&noise(300_000, 1), BLOCK, NAME).content(&noise(2000, 2), BLOCK, "small")
}

/// Makes a vault; gives its recovery code.
fn init(machine: &Machine<'_>) -> String {
    let made = machine.init();
    let said = format!("{}{}", made.stdout, made.stderr);
    let is_code = |word: &&str| word.split('-').count() == 9;
    said.split_whitespace().find(is_code).expect("the code is shown once").to_owned()
}

fn write_known(mount: &Path) {
    fs::create_dir(mount.join("Onkologie-Befunde")).unwrap();
    fs::write(mount.join("Onkologie-Befunde").join(NAME), noise(300_000, 1)).unwrap();
    fs::write(mount.join("small"), noise(2000, 2)).unwrap();
    std::os::unix::fs::symlink("shortcut-target", mount.join("link")).unwrap();
}

#[test]
fn s31_nothing_is_left_on_the_disk() {
    let world = World::new();
    let machine = world.machine("home");
    let secrets = secrets(&init(&machine));
    let mount = machine.mount_with("mount", &["-vv"]);
    write_known(&mount);
    machine.sync();
    // Saved here only, in the log of the database and in packs that are not closed.
    fs::remove_file(mount.join("small")).unwrap();
    for round in 0..20 {
        let path = mount.join(format!("{round}-{NAME}"));
        fs::write(&path, noise(2000, 2)).unwrap();
        fs::File::open(&path).unwrap().sync_all().unwrap();
    }
    machine.kill();
    let with_keys = |secrets: Secrets| {
        let keys = keys_for_the_disk(&world, &machine);
        keys.iter().fold(secrets, |secrets, (what, key)| secrets.key(key, what))
    };
    let secrets = with_keys(secrets);
    let left = secrets.are_not_below(&machine.home) + secrets.are_not_below(&world.store());
    assert!(left > 700_000, "{left}");
    // And once more after an orderly end, with what a check says in the log.
    let mount = machine.mount_with("mount", &["-vv"]);
    machine.fsck();
    machine.unmount(&mount);
    // The database has been opened again, with a key of its own.
    let secrets = with_keys(secrets);
    secrets.are_not_below(&machine.home);
    secrets.are_not_below(&world.store());
}

/// What runs a program in a shell that allows core dumps.
fn allowed_to_dump(program: &str, arguments: &[&str], cwd: &Path) -> Command {
    let allow = "ulimit -c unlimited 2>/dev/null; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", allow, program]).args(arguments).current_dir(cwd).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    command
}

/// A mount in the foreground, where core dumps are allowed.
fn in_the_foreground(machine: &Machine<'_>, point: &Path, cwd: &Path) -> Child {
    let mut command = allowed_to_dump(PROGRAM, &["mount", "-f", text(point)], cwd);
    command.env("HOME", &machine.home);
    command.env("TGCRYPTFS_PASSWORD_FILE", machine.world.password());
    command.env("TGCRYPTFS_STORE", machine.url()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut said).expect("it says that it is mounted");
    child
}

/// How large a process's core dump may be, as Linux says it; only root may look at one
/// that hides from its own user.
fn core_limits(pid: u32) -> Option<[String; 2]> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let fields: Vec<_> = line.split_whitespace().collect();
    Some([fields[4].to_owned(), fields[5].to_owned()])
}

fn abort(mut child: Child) -> ExitStatus {
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), Signal::ABORT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    status
}

#[test]
fn s31_no_core_is_dumped() {
    let world = World::new();
    let machine = world.first_machine();
    let (point, cwd) = (world.dir("mount"), world.dir("cwd"));
    let child = in_the_foreground(&machine, &point, &cwd);
    fs::write(point.join(NAME), noise(2000, 2)).unwrap();
    if let Some(limits) = core_limits(child.id()) {
        assert_eq!(limits, ["0", "0"]);
    }
    assert!(!abort(child).core_dumped());
    assert_eq!(fs::read_dir(&cwd).unwrap().count(), 0);
    // Whatever does nothing against it is dumped, where the machine dumps at all.
    let mut other = allowed_to_dump("sleep", &["60"], &world.dir("other"));
    let other = other.spawn().unwrap();
    let comm = format!("/proc/{}/comm", other.id());
    wait_until("the shell to be replaced", || fs::read(&comm).unwrap() == b"sleep\n");
    let limits = core_limits(other.id()).unwrap();
    let is_dumped = abort(other).core_dumped();
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    println!("beside it: limits {limits:?}, dumped {is_dumped}, core_pattern {pattern:?}");
    if limits[1] != "0" {
        assert_ne!(limits[0], "0");
        // A name, not a program that may want nothing.
        let is_file = pattern.starts_with(|first: char| first.is_ascii_alphanumeric());
        assert!(is_dumped || !is_file, "nothing is dumped here: this shows nothing");
    }
}

/// What is in a process's memory, and whether a core dump would have it.
struct Memory {
    parts: Vec<(Vec<u8>, bool)>,
}

impl Memory {
    /// All that the process can write to and has written to.
    fn of(pid: i32) -> Self {
        let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
        let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let (mut parts, mut mapping) = (Vec::new(), None);
        for line in smaps.lines() {
            let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
            let range = first.split_once('-').and_then(|(a, b)| Some(number(a)?..number(b)?));
            if let Some(range) = range {
                mapping = Some(range).filter(|_| rest.starts_with("rw"));
            } else if first == "VmFlags:"
                && let Some(range) = mapping.take()
            {
                let is_dumped = !rest.split_whitespace().any(|flag| flag == "dd");
                let parts_of_it = written(&memory, range).into_iter();
                parts.extend(parts_of_it.map(|part| (part, is_dumped)));
            }
        }
        Self { parts }
    }

    fn has(&self, wanted: &[u8], in_dump: bool) -> bool {
        let parts = self.parts.iter().filter(|(_, is_dumped)| *is_dumped || !in_dump);
        parts.map(|(part, _)| part).any(|part| {
            let starts = part.iter().enumerate().filter(|(_, byte)| **byte == wanted[0]);
            starts.map(|(at, _)| &part[at..]).any(|rest| rest.starts_with(wanted))
        })
    }
}

/// The stretches of memory that are not all zeros.
fn written(memory: &fs::File, range: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    const PAGE: usize = 4096;
    let (mut stretches, mut page) = (vec![Vec::new()], [0; PAGE]);
    for at in range.step_by(PAGE) {
        let is_written =
            memory.read_exact_at(&mut page, at).is_ok() && page.iter().any(|byte| *byte != 0);
        match stretches.last_mut() {
            Some(stretch) if is_written => stretch.extend_from_slice(&page),
            Some(stretch) if stretch.is_empty() => {}
            _ => stretches.push(Vec::new()),
        }
    }
    stretches
}

/// What opens the vault, and the record that says who is in it.
fn opened(world: &World) -> (MasterKey, MembershipRecord) {
    let header = VaultHeader::parse(&fs::read(world.store().join("vault.1")).unwrap()).unwrap();
    let password = Credential::Passphrase(Passphrase::new(PASSWORD).unwrap());
    let master = unlock(&header, &password).unwrap();
    let ns = master.namespace_id(0);
    let name = tgcryptfs::crypto::names::membership(&master.membership_name_key(ns), ns, 0);
    let object = fs::read(world.store().join(&name[..2]).join(&name)).unwrap();
    let record = MembershipRecord::open_first(&master, 0, &object).unwrap();
    (master, record)
}

/// The keys that lie sealed on a machine's disk, and those by which it is sealed, with
/// all others.
fn keys_for_the_disk(world: &World, machine: &Machine<'_>) -> Vec<(&'static str, [u8; 32])> {
    let (master, record) = opened(world);
    let (ns, epoch) = (record.namespace(), record.epoch_keys());
    let member = &record.body().members[0];
    let machine_key = master.machine_key(member.machine);
    let mut keys = keys_of(world);
    keys.extend([
        ("master", *master.bytes().expose()),
        ("owner's box", *master.owner_box_secret().expose()),
        ("names of records", *master.membership_name_key(ns).expose()),
        ("wraps", *master.epoch_wrap_key(ns, record.epoch()).expose()),
        ("handles", *master.nfs_handle_key(member.machine, ns).expose()),
    ]);
    for block in noise(300_000, 1).chunks(BLOCK).chain([&noise(2000, 2)[..]]) {
        let id = record.namespace_keys().block_id(block);
        keys.push(("a block's", *epoch.block_key(&id).expose()));
    }
    let in_home = |name: &str| {
        let files = files_below(&machine.home);
        files.into_iter().find(|path| path.file_name() == Some(OsStr::new(name)))
    };
    // Behind magic, version, vault and machine.
    let sealed = fs::read(in_home("machine").unwrap()).unwrap();
    let aad = [&b"tgcryptfs/v1/identity"[..], &member.machine.0].concat();
    let seeds = AeadKey::new(&machine_key).open_copy(&aad, &sealed[41..]).unwrap();
    let [signing, own_box] = [&seeds[..32], &seeds[32..]].map(|s| <[u8; 32]>::try_from(s).unwrap());
    let public = *SigningKey::from_seed(Key32::copy_of(&signing)).public();
    assert_eq!(public, member.signing_key);
    keys.extend([("the machine's signature", signing), ("the machine's box", own_box)]);
    // Looked at in a copy, since whoever opens a database changes it.
    let copy = world.dir("rows").join("state.db");
    for suffix in ["", "-wal"] {
        if let Some(path) = in_home(&format!("state.db{suffix}")) {
            fs::copy(path, format!("{}{suffix}", copy.display())).unwrap();
        }
    }
    let db = rusqlite::Connection::open(copy).unwrap();
    let mut salts = db.prepare("SELECT salt FROM session").unwrap();
    let salts = salts.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap().map(Result::unwrap);
    let prk = kdf::extract(b"tgcryptfs/v1/database", machine_key.expose());
    let rows = salts.map(|salt| *kdf::derive(&prk, "database-session", &[&salt[..]]).expose());
    let before = keys.len();
    keys.extend(rows.map(|key| ("rows", key)));
    assert!(keys.len() > before);
    keys
}

/// Keys of the vault, as whoever has the password can derive them.
fn keys_of(world: &World) -> Vec<(&'static str, [u8; 32])> {
    let (master, record) = opened(world);
    let (epoch, fixed) = (record.epoch_keys(), record.namespace_keys());
    let machine = record.body().members[0].machine;
    vec![
        ("owner's signature", *master.owner_signing_key().seed().expose()),
        ("header", *master.vault_mac_key().expose()),
        ("machine", *master.machine_key(machine).expose()),
        ("epoch", *record.epoch_secret().key().expose()),
        ("metadata", *epoch.meta_key().expose()),
        ("data", *epoch.data_key().expose()),
        ("log", *epoch.log_key().expose()),
        ("names", *epoch.name_key().expose()),
        ("namespace", *fixed.secret().expose()),
        ("tree ids", *fixed.tree_key().expose()),
        ("entries", *fixed.dentry_key().expose()),
    ]
}

#[test]
fn s31_keys_lie_outside_of_dumps_and_the_password_nowhere() {
    if !is_root("reading the memory of a process that hides it") {
        return;
    }
    let world = World::new();
    let machine = world.first_machine();
    let mount = machine.mount("mount");
    write_known(&mount);
    machine.sync();
    let pid = machine.pid();
    let memory = Memory::of(pid);
    assert!(memory.parts.iter().any(|(_, is_dumped)| !is_dumped), "nothing is left out of dumps");
    // The search itself finds what is there: names are ordinary memory.
    assert!(memory.has(b"Onkologie-Befunde", true));
    assert!(!memory.has(PASSWORD.as_bytes(), false), "the password is kept");
    let keys = keys_of(&world);
    let in_memory = |in_dump| {
        let found = keys.iter().filter(|(_, key)| memory.has(key, in_dump));
        found.map(|(what, _)| *what).collect::<Vec<_>>()
    };
    assert!(in_memory(false).len() >= 4, "keys are not where they should be");
    // What BLAKE3 leaves on the stacks while it computes; see docs/SECURITY.md.
    let hashed = ["names", "entries", "tree ids"];
    let dumped: Vec<_> = in_memory(true).into_iter().filter(|k| !hashed.contains(k)).collect();
    assert_eq!(dumped, [""; 0], "keys in memory that a dump would have");
    machine.unmount(&mount);
    wait_until("the daemon to be gone", || !Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(processes_below(&world.path("")), [0; 0]);
}

#[test]
fn s32_password_files_that_others_could_read_or_replace() {
    let world = World::new();
    let machine = world.first_machine();
    let with = |path: &Path| machine.run_with(path, &["sync"]);
    for mode in [0o644, 0o640, 0o604, 0o660, 0o622, 0o777] {
        let file = world.private_file("shared", "correct horse battery\n");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        with(&file).failed(5, &["shared"]);
    }
    let link = world.path("link");
    std::os::unix::fs::symlink(world.password(), &link).unwrap();
    let fifo = world.path("fifo");
    super::program::run("mkfifo", &["-m", "600", text(&fifo)]);
    let (empty, blank) = (world.private_file("empty", ""), world.private_file("blank", "\n"));
    let binary = world.private_file("binary", "correct\0horse");
    let huge = world.private_file("huge", &"x".repeat(1 << 20));
    let missing = world.path("missing");
    for path in [&link, &fifo, &empty, &blank, &huge, &missing, &world.dir("directory")] {
        with(path).failed(5, &[text(path.file_name().unwrap())]);
    }
    assert!([4, 5].contains(&with(&binary).code));
    for spelling in ["correct horse battery", "correct horse battery\r\n"] {
        with(&world.private_file("good", spelling)).succeeded();
    }
    for spelling in ["correct horse battery \n", "correct horse battery\n\n"] {
        let code = with(&world.private_file("other", spelling)).code;
        assert!([4, 5].contains(&code), "{spelling:?}: {code}");
    }
}

/// Names and paths that would clear the screen, set the title, forge a line, or turn the
/// reading direction around.
const HOSTILE: [&str; 4] =
    ["a\u{1b}[2J\u{1b}]0;b\u{7}", "c\nproblems: none", "d\u{9b}31me\u{7f}\r", "f\u{202e}txt.exe"];

/// What a terminal would obey instead of showing it.
fn is_obeyed(character: char) -> bool {
    let is_direction = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (character.is_control() && character != '\n') || is_direction
}

#[track_caller]
fn assert_harmless(what: &str, output: &str) {
    let obeyed: Vec<char> = output.chars().filter(|character| is_obeyed(*character)).collect();
    assert!(obeyed.is_empty(), "{what}: {obeyed:?} in {output:?}");
    let forged = output.lines().any(|line| line == "problems: none");
    assert!(!forged, "{what}: a forged line in {output:?}");
}

fn logs_of(machine: &Machine<'_>) -> String {
    let logs = files_below(&machine.home);
    let logs = logs.into_iter().filter(|path| path.file_name() == Some(OsStr::new("log")));
    logs.map(|path| fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn s39_names_of_damaged_files_do_not_draw_on_the_terminal() {
    let world = World::new();
    let machine = world.first_machine();
    let mount = machine.mount("mount");
    for (seed, name) in HOSTILE.into_iter().enumerate() {
        fs::write(mount.join(name), noise(100_000, seed as u64)).unwrap();
    }
    machine.unmount(&mount);
    let mut objects: Vec<(PathBuf, u64)> = world.objects().into_iter().collect();
    objects.sort_by_key(|(_, len)| std::cmp::Reverse(*len));
    let pack = &objects[0].0;
    let mut bytes = fs::read(pack).unwrap();
    bytes.iter_mut().skip(1000).step_by(5000).for_each(|byte| *byte ^= 1);
    fs::remove_file(pack).unwrap();
    fs::write(pack, bytes).unwrap();
    let new = world.machine("new-home");
    for arguments in [&["fsck"][..], &["fsck", "--json"], &["sync", "--full"]] {
        let finished = new.run(arguments).failed(8, &["restore"]);
        assert_harmless("stdout", &finished.stdout);
        assert_harmless("stderr", &finished.stderr);
        if arguments.contains(&"--json") {
            let report = finished.json();
            let problems = report["problems"].as_array().unwrap();
            assert!(problems.iter().any(|p| p.as_str().unwrap().contains(r"/a\x1b[2J")));
        }
    }
    let mount = new.mount_with("new-mount", &["-vv"]);
    for name in HOSTILE {
        fs::read(mount.join(name)).unwrap_err();
        fs::remove_file(mount.join(name).join("x")).unwrap_err();
    }
    for arguments in [&["status"][..], &["status", "--json"]] {
        assert_harmless("status", &new.bare(arguments).succeeded().stdout);
    }
    new.unmount(&mount);
    let log = logs_of(&new);
    assert!(!log.is_empty());
    assert_harmless("the log", &log);
}

#[test]
fn s39_paths_do_not_draw_on_the_terminal() {
    let world = World::new();
    let machine = world.first_machine();
    for name in HOSTILE {
        let missing = world.path(name);
        for arguments in [
            &["mount", text(&missing)][..],
            &["mount", "-f", text(&missing)],
            &["unmount", text(&missing)],
            &["--config", text(&missing), "status"],
            &["key", "remove", name],
            &["--set", name, "status"],
            &[name],
        ] {
            let finished = machine.run(arguments);
            assert_ne!(finished.code, 0, "{finished:?}");
            assert_harmless("stdout", &finished.stdout);
            assert_harmless("stderr", &finished.stderr);
        }
        let elsewhere = Machine { store: world.path(name).join("store"), ..machine.clone() };
        assert_harmless("stderr", &elsewhere.run(&["sync"]).stderr);
        let secret = world.private_file("x", "");
        let hostile = world.path(name);
        fs::rename(secret, &hostile).unwrap();
        assert_harmless("stderr", &machine.run_with(&hostile, &["sync"]).failed(5, &[]).stderr);
        fs::remove_file(hostile).unwrap();
        let mount = machine.mount_with(name, &["-vv"]);
        for arguments in [&["status"][..], &["status", "--json"]] {
            assert_harmless("status", &machine.bare(arguments).succeeded().stdout);
        }
        machine.unmount(&mount);
    }
    assert_harmless("the log", &logs_of(&machine));
}

/// Who never saw the new header opens the old one with the old password; the members do
/// know that there was a newer one.
#[test]
fn s12_a_header_from_before_the_last_machine_joined_is_told() {
    let world = World::new();
    let machine = world.first_machine();
    let new = world.private_file("new", "another password\n");
    machine.run(&["passwd", "--new-password-file", text(&new)]).succeeded();
    world.machine("second").run_with(&new, &["sync"]).succeeded();
    fs::remove_file(world.store().join("vault.2")).unwrap();
    machine.run(&["sync"]).failed(6, &["right store"]);
    let third = world.machine("third").run(&["sync"]).succeeded();
    assert!(third.stderr.contains("an old one was put back"), "{}", third.stderr);
}
