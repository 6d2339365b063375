//! What people do with a vault over its life: other secrets, a lost database, a mount
//! that ends in whatever way, a first look without writing, the tour.

use super::support::{
    Finished, Machine, World, is_root, kill, mounts_below, noise, processes_below, text, wait_until,
};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

/// The configuration blocks of the specification, to the letter.
const SPECIFIED: [(&str, &str); 4] = [
    (
        "config.json",
        r#"{
  "telegram": {
    "api_id": 12345678,
    "api_hash": "your_api_hash",
    "session_file": "/path/to/session",
    "max_concurrent_uploads": 3,
    "max_concurrent_downloads": 5
  },
  "encryption": {
    "argon2_memory_kib": 65536,
    "argon2_iterations": 3,
    "argon2_parallelism": 4
  },
  "cache": {
    "max_size": 10737418240,
    "cache_dir": "/var/cache/tgcryptfs",
    "prefetch_enabled": true,
    "prefetch_count": 3
  },
  "chunk": {
    "chunk_size": 52428800,
    "compression_enabled": true,
    "dedup_enabled": true
  },
  "versioning": {
    "enabled": true,
    "max_versions": 10
  }
}
"#,
    ),
    ("config.yaml", "distribution:\n  mode: standalone\n"),
    (
        "config.yaml",
        r#"distribution:
  mode: master-replica
  cluster_id: "my-cluster"
  master_replica:
    role: master  # or: replica
    master_id: "main-server"
    sync_interval_secs: 60
"#,
    ),
    (
        "config.yml",
        r#"distribution:
  mode: distributed
  cluster_id: "home-cluster"
  distributed:
    sync_interval_ms: 1000
    conflict_resolution: last-write-wins
"#,
    ),
];

#[test]
fn the_configurations_of_the_specification_work_as_they_are() {
    let world = World::new();
    let machine = world.machine("home");
    machine.init();
    let dir = machine.home.join(".config/tgcryptfs");
    for (name, block) in SPECIFIED {
        fs::remove_dir_all(&dir).unwrap();
        fs::create_dir(&dir).unwrap();
        let file = dir.join(name);
        fs::write(&file, block).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        machine.bare(&["config", "check"]).succeeded();
        // The cache of the example lies outside every home directory.
        let cache = format!("cache.cache_dir={}", world.path("cache").display());
        let mount = machine.mount_with("mount", &["--set", &cache]);
        fs::write(mount.join("file"), block).unwrap();
        machine.unmount(&mount);
        let mount = machine.mount_with("mount", &["--set", &cache]);
        assert_eq!(fs::read_to_string(mount.join("file")).unwrap(), block);
        machine.unmount(&mount);
    }
}

#[test]
fn status_tells_what_is_not_uploaded_yet() {
    let world = World::new();
    let machine = world.first_machine();
    let mount = machine.mount("mount");
    fs::write(mount.join("file"), noise(5 << 20, 1)).unwrap();
    File::open(mount.join("file")).unwrap().sync_all().unwrap();
    let dirty = machine.status("dirty_bytes");
    assert!((5 << 20..6 << 20).contains(&dirty), "{dirty}");
    assert_eq!(machine.status("unsaved_bytes"), 0);
    assert_eq!(machine.status("used_bytes"), 5 << 20);
    // The root and the file.
    assert_eq!(machine.status("inodes"), 2);
    machine.sync();
    assert_eq!(machine.status("dirty_bytes"), 0);
    assert_eq!(machine.status("upload_queue"), 0);
    let stored: u64 = world.objects().values().sum();
    assert!(stored >= 5 << 20, "{stored}");

    let mounted = machine.mounted();
    assert_eq!(mounted["mount_point"], text(&mount));
    assert_eq!(mounted["store"], machine.url());
    assert_eq!(mounted["is_read_only"], false);
    assert_eq!(mounted["vault"]["health"], "ok");
    let log = mounted["log"].as_str().unwrap();
    assert!(fs::read_to_string(log).unwrap().contains("mounted at"));
    assert!(processes_below(&world.path("")).contains(&machine.pid()));

    machine.unmount(&mount);
    assert!(machine.bare(&["status"]).succeeded().stdout.contains("mounts: none"));
    let closed = machine.run(&["status", "--json"]).succeeded().json();
    assert_eq!(closed["vault"]["used_bytes"], 5 << 20, "{closed:#}");
    assert_eq!(closed["vault"]["dirty_bytes"], 0, "{closed:#}");
}

#[test]
fn a_cleared_cache_is_fetched_again() {
    let world = World::new();
    let machine = world.first_machine();
    let mount = machine.mount("mount");
    fs::write(mount.join("sent"), noise(3 << 20, 1)).unwrap();
    machine.sync();
    fs::write(mount.join("unsent"), noise(2 << 20, 2)).unwrap();
    File::open(mount.join("unsent")).unwrap().sync_all().unwrap();
    let report = machine.run(&["cache", "--clear", "--json"]).succeeded().json();
    assert_eq!(report["clean_bytes"], 0, "{report:#}");
    assert!(report["pinned_bytes"].as_u64().unwrap() >= 2 << 20, "{report:#}");
    machine.unmount(&mount);
    let mount = machine.mount("mount");
    assert!(fs::read(mount.join("sent")).unwrap() == noise(3 << 20, 1));
    assert!(fs::read(mount.join("unsent")).unwrap() == noise(2 << 20, 2));
    machine.unmount(&mount);
}

#[test]
fn a_rebuilt_state_is_the_same_and_nothing_unsent_is_lost() {
    let world = World::new();
    let machine = world.first_machine();
    let mount = machine.mount("mount");
    fs::create_dir(mount.join("dir")).unwrap();
    fs::write(mount.join("dir/sent"), noise(700_000, 1)).unwrap();
    machine.sync();
    fs::rename(mount.join("dir/sent"), mount.join("moved")).unwrap();
    fs::write(mount.join("dir/unsent"), noise(300_000, 2)).unwrap();
    File::open(mount.join("dir/unsent")).unwrap().sync_all().unwrap();
    // As a crash leaves it.
    machine.kill();
    wait_until("the mount to go", || mounts_below(&mount).is_empty());
    let check = |machine: &Machine<'_>| {
        let mount = machine.mount("mount");
        assert!(fs::read(mount.join("moved")).unwrap() == noise(700_000, 1));
        assert!(fs::read(mount.join("dir/unsent")).unwrap() == noise(300_000, 2));
        assert_eq!(fs::read_dir(mount.join("dir")).unwrap().count(), 1);
        fs::write(mount.join("after"), "after").unwrap();
        machine.sync();
        fs::remove_file(mount.join("after")).unwrap();
        machine.unmount(&mount);
    };
    let finished = machine.run(&["fsck", "--rebuild", "--json"]).succeeded();
    assert_eq!(finished.json()["problems"].as_array().unwrap().len(), 0);
    assert!(finished.stderr.contains("set aside"), "{finished:#?}");
    check(&machine);
    machine.fsck();

    // A database that is damaged beyond opening.
    machine.sync();
    let state = machine.home.join(".local/state/tgcryptfs");
    let state = fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path());
    let state =
        state.filter(|path| path.join("process.lock").exists() && path.extension().is_none());
    let state = state.last().unwrap();
    let databases = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
    let databases: Vec<_> = databases
        .filter(|path| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3")))
        .collect();
    assert!(!databases.is_empty());
    for database in databases {
        fs::write(database, noise(40_960, 9)).unwrap();
    }
    machine.run(&["mount", text(&world.dir("mount"))]).failed(10, &["fsck --rebuild"]);
    machine.run(&["fsck", "--rebuild"]).failed(10, &["--rebuild --force"]);
    machine.run(&["fsck", "--rebuild", "--force"]).succeeded();
    check(&machine);
    let new = world.machine("new-home");
    check(&new);
    new.fsck();
}

#[test]
fn another_password_opens_what_the_old_one_did() {
    let world = World::new();
    let machine = world.first_machine();
    let mount = machine.mount("mount");
    fs::write(mount.join("file"), "precious").unwrap();
    let new = world.private_file("new", "another password\n");
    // Also while it is mounted.
    machine.run(&["passwd", "--new-password-file", text(&new)]).succeeded();
    machine.sync();
    machine.unmount(&mount);
    machine.run(&["mount", text(&mount)]).failed(4, &["try again"]);
    for machine in [&machine, &world.machine("new-home")] {
        machine.run_with(&new, &["mount", text(&mount)]).succeeded();
        assert_eq!(fs::read_to_string(mount.join("file")).unwrap(), "precious");
        machine.unmount(&mount);
    }
}

fn slots(finished: &Finished, kind: &str) -> Vec<String> {
    let slots = finished.json();
    let slots = slots.as_array().unwrap().iter().filter(|slot| slot["kind"] == kind);
    slots.map(|slot| slot["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn key_slots_come_and_go() {
    let world = World::new();
    let machine = world.machine("home");
    let (url, code) = (machine.url(), world.path("code"));
    machine.run(&["init", "--store", &url, "--recovery-file", text(&code)]).succeeded();
    let point = world.dir("mount");
    let opens = |flag: &str, file: &Path| {
        let new = world.machine("new-home");
        let finished = new.bare(&[
            "mount",
            text(&point),
            flag,
            text(file),
            "--set",
            &format!("store={}", new.url()),
        ]);
        if finished.code == 0 {
            new.unmount(&point);
        } else {
            assert_eq!(finished.code, 4, "{finished:#?}");
        }
        new.forget();
        finished.code == 0
    };
    let key = world.path("key");
    fs::write(&key, noise(64, 1)).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!opens("--key-file", &key));
    machine.run(&["key", "add", "--new-key-file", text(&key)]).succeeded();
    let second = world.private_file("second", "second password\n");
    machine.run(&["key", "add", "--new-password-file", text(&second)]).succeeded();
    for (flag, file) in [
        ("--key-file", &key),
        ("--password-file", &second),
        ("--password-file", &world.password()),
        ("--recovery-code-file", &code),
    ] {
        assert!(opens(flag, file), "{flag} {}", file.display());
    }

    let list = machine.run(&["key", "list", "--json"]).succeeded();
    assert_eq!(slots(&list, "recovery code").len(), 1, "{list:#?}");
    assert_eq!(list.json().as_array().unwrap().len(), 4, "{list:#?}");
    let of_key = list.json().as_array().unwrap().iter().find_map(|slot| {
        let kind = slot["kind"].as_str().unwrap();
        kind.contains("key").then(|| slot["id"].as_str().unwrap().to_owned())
    });
    machine.run(&["key", "remove", &of_key.unwrap()]).succeeded();
    assert!(!opens("--key-file", &key));
    assert!(opens("--password-file", &second));
    machine.run(&["key", "remove", "0123456789abcdef"]).failed(12, &["key list"]);

    let rotated = world.path("rotated");
    machine.run(&["recovery", "rotate", "--recovery-file", text(&rotated)]).succeeded();
    assert!(opens("--recovery-code-file", &rotated));
    assert!(!opens("--recovery-code-file", &code));
    assert!(opens("--password-file", &world.password()));
}

#[test]
fn a_mount_whose_process_dies_frees_itself() {
    let world = World::new();
    let machine = world.first_machine();
    let mount = machine.mount("mount");
    fs::write(mount.join("file"), "safe").unwrap();
    File::open(mount.join("file")).unwrap().sync_all().unwrap();
    machine.kill();
    wait_until("the mount to go", || mounts_below(&mount).is_empty());
    assert_eq!(fs::read_dir(&mount).unwrap().count(), 0);
    assert!(machine.bare(&["status"]).succeeded().stdout.contains("mounts: none"));
    let mount = machine.mount("mount");
    assert_eq!(fs::read_to_string(mount.join("file")).unwrap(), "safe");
    machine.unmount(&mount);
    // Nothing of it goes on.
    wait_until("every process to end", || processes_below(&world.path("")).is_empty());
}

#[test]
fn a_signal_ends_a_mount_in_the_foreground_in_good_order() {
    let world = World::new();
    let machine = world.first_machine();
    let point = world.dir("mount");
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let mut command = machine.command(&["mount", "-f", text(&point)]);
        command.env("TGCRYPTFS_PASSWORD_FILE", world.password());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("the mount", || {
            let report = machine.bare(&["status", "--json"]).succeeded().json();
            report["mounts"].as_array().is_some_and(|mounts| mounts.len() == 1)
        });
        fs::write(point.join("file"), format!("{signal:?}")).unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, signal).unwrap();
        let finished = Finished::of(&child.wait_with_output().unwrap()).succeeded();
        assert!(finished.stdout.contains("is mounted"), "{finished:#?}");
        assert!(mounts_below(&point).is_empty());
        // A mount that ended well has uploaded everything.
        let new = world.machine("new-home");
        let mount = new.mount("new-mount");
        assert_eq!(fs::read_to_string(mount.join("file")).unwrap(), format!("{signal:?}"));
        new.unmount(&mount);
        new.forget();
    }
}

#[test]
fn the_foreground_is_killed_like_the_daemon() {
    let world = World::new();
    let machine = world.first_machine();
    let point = world.dir("mount");
    let mut command = machine.command(&["mount", "-f", text(&point)]);
    command.env("TGCRYPTFS_PASSWORD_FILE", world.password());
    let mut child = command.spawn().unwrap();
    wait_until("the mount", || !mounts_below(&point).is_empty());
    kill(i32::try_from(child.id()).unwrap());
    child.wait().unwrap();
    machine.mount("mount");
    machine.unmount(&point);
}

#[test]
fn a_first_look_without_writing_changes_nothing() {
    let world = World::new();
    let machine = world.first_machine();
    let mount = machine.mount("mount");
    fs::write(mount.join("file"), noise(300_000, 1)).unwrap();
    machine.sync();
    machine.unmount(&mount);
    let before = world.objects();

    let new = world.machine("new-home");
    let mount = new.mount_with("new-mount", &["--read-only"]);
    assert_eq!(new.mounted()["is_read_only"], true);
    assert!(fs::read(mount.join("file")).unwrap() == noise(300_000, 1));
    let refused = |outcome: std::io::Result<()>| {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem, "{error}");
    };
    refused(File::create(mount.join("new")).map(drop));
    refused(fs::remove_file(mount.join("file")));
    refused(fs::create_dir(mount.join("dir")));
    refused(fs::rename(mount.join("file"), mount.join("other")));
    refused(File::options().append(true).open(mount.join("file")).map(drop));
    refused(fs::set_permissions(mount.join("file"), fs::Permissions::from_mode(0o600)));
    new.unmount(&mount);
    assert_eq!(world.objects(), before);

    // The same machine may write afterwards.
    let mount = new.mount("new-mount");
    fs::write(mount.join("new"), "new").unwrap();
    new.sync();
    new.unmount(&mount);
    // And the first one sees it, also when it only looks.
    let mount = machine.mount_with("mount", &["--read-only"]);
    assert!(fs::read(mount.join("file")).unwrap() == noise(300_000, 1));
    machine.unmount(&mount);
}

#[test]
fn others_are_let_in_only_if_asked() {
    if !is_root("acting as another user") {
        return;
    }
    let world = World::new();
    fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let machine = world.first_machine();
    let read = |mount: &Path| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "cat"]);
        command.arg(mount.join("file")).stderr(Stdio::null()).output().unwrap().stdout
    };
    let mount = machine.mount("mount");
    fs::write(mount.join("file"), "shared").unwrap();
    fs::set_permissions(&mount, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(read(&mount), b"");
    machine.unmount(&mount);
    let mount = machine.mount_with("mount", &["--allow-other"]);
    assert_eq!(read(&mount), b"shared");
    machine.unmount(&mount);
}

#[test]
fn the_tour_ends_well_and_leaves_nothing() {
    let world = World::new();
    let (machine, temporary) = (world.machine("home"), world.dir("tmp"));
    let from = world.dir("from");
    for number in 0..20_u64 {
        fs::create_dir_all(from.join(format!("{}", number % 3))).unwrap();
        let path = from.join(format!("{}/some file of the tour {number}", number % 3));
        fs::write(path, noise(10_000 * number as usize, number)).unwrap();
    }
    let mut command = machine.command(&["demo", "--from", text(&from)]);
    let mut child = command
        .env("TMPDIR", &temporary)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Nobody is there to answer anything.
    child.stdin.take().unwrap().flush().unwrap();
    let finished = Finished::of(&child.wait_with_output().unwrap()).succeeded();
    for said in ["every byte is the same", "none found", "$ tgcryptfs init --store"] {
        assert!(finished.stdout.contains(said), "{said}: {finished:#?}");
    }
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
    assert_eq!(fs::read_dir(&machine.home).unwrap().count(), 0);
    assert!(mounts_below(&world.path("")).is_empty());
    assert!(processes_below(&world.path("")).is_empty());
}
