//! What goes wrong for people: each failure has its exit code and says what and where
//! and what to do, and with the right inputs everything is there again.

use super::support::{Machine, World, is_root, mounts_below, noise, run, text, wait_until};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A vault with a file in it, all of it in the store; nothing is mounted.
fn with_a_file(world: &World) -> Machine<'_> {
    let machine = world.first_machine();
    let mount = machine.mount("mount");
    fs::write(mount.join("file"), "precious").unwrap();
    machine.sync();
    machine.unmount(&mount);
    machine
}

/// Nothing is lost: the file is there when everything is right again.
#[track_caller]
fn assert_file(machine: &Machine<'_>) {
    let mount = machine.mount("mount");
    assert_eq!(fs::read_to_string(mount.join("file")).unwrap(), "precious");
    machine.unmount(&mount);
}

/// Objects the store has gained, the largest first.
fn gained(world: &World, before: &std::collections::BTreeMap<PathBuf, u64>) -> Vec<PathBuf> {
    let mut new: Vec<_> =
        world.objects().into_iter().filter(|(path, _)| !before.contains_key(path)).collect();
    new.sort_by_key(|(_, len)| std::cmp::Reverse(*len));
    new.into_iter().map(|(path, _)| path).collect()
}

/// Cuts a file in half; gives what it was.
fn cut(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    bytes
}

#[test]
fn a_wrong_password_is_4() {
    let world = World::new();
    let machine = with_a_file(&world);
    let wrong = world.private_file("wrong", "incorrect horse\n");
    let point = world.dir("mount");
    for arguments in [
        &["mount", text(&point)][..],
        &["mount", "-f", text(&point)],
        &["sync"],
        &["fsck"],
        &["passwd", "--new-password-file", text(&world.password())],
        &["key", "list"],
        &["init", "--store", &machine.url()],
    ] {
        machine.run_with(&wrong, arguments).failed(4, &["try again"]);
    }
    assert!(mounts_below(&point).is_empty());
    let new = world.machine("new-home");
    new.run_with(&wrong, &["mount", text(&point)]).failed(4, &["try again"]);
    assert_file(&machine);
    assert_file(&new);
}

#[test]
fn another_vault_in_the_store_is_6() {
    let world = World::new();
    let machine = with_a_file(&world);
    let away = world.path("away");
    fs::rename(world.store(), &away).unwrap();
    // Even if it has the same password.
    world.machine("stranger").init();
    let point = world.dir("mount");
    for arguments in [&["mount", text(&point)][..], &["sync"], &["fsck"], &["key", "list"]] {
        machine.run(arguments).failed(6, &["make sure that this is the right store"]);
    }
    machine.run(&["init", "--store", &machine.url()]).failed(6, &[text(&world.store())]);
    let new = world.private_file("new", "another password\n");
    machine.run(&["passwd", "--new-password-file", text(&new)]).failed(6, &["right store"]);
    fs::remove_dir_all(world.store()).unwrap();
    fs::rename(&away, world.store()).unwrap();
    assert_file(&machine);
}

#[test]
fn an_older_header_is_6() {
    let world = World::new();
    let machine = with_a_file(&world);
    let new = world.private_file("new", "another password\n");
    machine.run(&["passwd", "--new-password-file", text(&new)]).succeeded();
    let point = world.dir("mount");
    let newest = world.store().join("vault.2");
    let bytes = fs::read(&newest).unwrap();
    fs::remove_file(&newest).unwrap();
    // The old password must not open what was rolled back.
    machine.run(&["mount", text(&point)]).failed(6, &["right store"]);
    fs::write(&newest, bytes).unwrap();
    machine.run_with(&new, &["mount", text(&point)]).succeeded();
    assert_eq!(fs::read_to_string(point.join("file")).unwrap(), "precious");
    machine.unmount(&point);
}

#[test]
fn no_vault_and_no_store_are_told_apart() {
    let world = World::new();
    let machine = with_a_file(&world);
    let point = world.dir("mount");
    let away = world.path("away");
    fs::rename(world.store(), &away).unwrap();
    machine.run(&["mount", text(&point)]).failed(7, &["reachable", text(&world.store())]);
    world.dir("store");
    machine.run(&["mount", text(&point)]).failed(12, &["bring back", text(&world.store())]);
    world.machine("new-home").run(&["mount", text(&point)]).failed(12, &["init"]);
    fs::remove_dir_all(world.store()).unwrap();
    fs::rename(&away, world.store()).unwrap();
    assert_file(&machine);
}

#[test]
fn a_truncated_header_is_8() {
    let world = World::new();
    let machine = with_a_file(&world);
    let header = world.store().join("vault.1");
    let bytes = cut(&header);
    let point = world.dir("mount");
    for machine in [&machine, &world.machine("new-home")] {
        machine.run(&["mount", text(&point)]).failed(8, &["restore the vault header"]);
        machine.run(&["init", "--store", &machine.url()]).failed(8, &["vault header"]);
    }
    fs::write(&header, bytes).unwrap();
    assert_file(&machine);
}

#[test]
fn a_truncated_pack_harms_only_its_files() {
    let world = World::new();
    let machine = with_a_file(&world);
    let mount = machine.mount("mount");
    fs::write(mount.join("sound"), noise(500_000, 1)).unwrap();
    machine.sync();
    let before = world.objects();
    fs::create_dir(mount.join("dir")).unwrap();
    fs::write(mount.join("dir/harmed"), noise(3_000_000, 2)).unwrap();
    machine.sync();
    machine.unmount(&mount);
    let pack = gained(&world, &before).remove(0);
    let bytes = cut(&pack);
    let name = pack.file_name().unwrap().to_str().unwrap();

    let new = world.machine("new-home");
    let finished = new.run(&["fsck", "--json"]).failed(8, &["restore the store from a copy"]);
    let problems = finished.json()["problems"].as_array().unwrap().clone();
    assert!(!problems.is_empty());
    let problems: Vec<&str> = problems.iter().map(|problem| problem.as_str().unwrap()).collect();
    assert!(problems.iter().any(|problem| problem.contains(name)), "{problems:#?}");
    for problem in &problems {
        let is_about_it = problem.starts_with("/dir/harmed") || problem.contains(name);
        assert!(is_about_it, "{problem}");
    }
    let mount = new.mount("new-mount");
    let error = fs::read(mount.join("dir/harmed")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}");
    assert_eq!(fs::read(mount.join("sound")).unwrap(), noise(500_000, 1));
    assert_eq!(fs::read_to_string(mount.join("file")).unwrap(), "precious");
    fs::write(mount.join("more"), "work goes on").unwrap();
    new.sync();

    fs::write(&pack, bytes).unwrap();
    // It learns of the pack when it looks at everything.
    new.run(&["fsck"]).succeeded();
    assert!(fs::read(mount.join("dir/harmed")).unwrap() == noise(3_000_000, 2));
    new.unmount(&mount);
}

#[test]
fn a_truncated_segment_is_8_on_a_new_machine() {
    let world = World::new();
    let machine = with_a_file(&world);
    let mount = machine.mount("mount");
    let before = world.objects();
    fs::write(mount.join("later"), noise(500_000, 1)).unwrap();
    machine.sync();
    machine.unmount(&mount);
    // The pack is the largest; what announces it is smaller.
    for segment in gained(&world, &before).split_off(1) {
        let bytes = cut(&segment);
        let name = segment.file_name().unwrap().to_str().unwrap();
        let new = world.machine("new-home");
        let point = world.dir("new-mount");
        let finished = new.run(&["mount", text(&point)]);
        println!("{name}: {finished:?}");
        if finished.code == 0 {
            // Then it is something that others say too, and nothing may be missing.
            assert!(fs::read(point.join("later")).unwrap() == noise(500_000, 1), "{name}");
            new.unmount(&point);
        } else {
            finished.failed(8, &["restore the store from a copy", name]);
        }
        fs::write(&segment, bytes).unwrap();
    }
    let new = world.machine("new-home");
    assert_file(&new);
    new.fsck();
}

#[test]
fn an_unusable_cache_or_state_directory_is_10() {
    let world = World::new();
    let machine = with_a_file(&world);
    let point = world.dir("mount");
    let file = world.private_file("no-directory", "a file");
    let mount_with = |set: &str| machine.run(&["mount", text(&point), "--set", set]);
    let cache = format!("cache.cache_dir={}", file.display());
    mount_with(&cache).failed(10, &["no-directory"]);
    let data = format!("data_dir={}", file.display());
    mount_with(&data).failed(10, &["no-directory"]);
    if is_root("a read-only file system for the cache") {
        let dir = world.tmpfs("read-only", 1 << 20);
        run("mount", &["-o", "remount,ro", text(&dir)]);
        let cache = format!("cache.cache_dir={}", dir.display());
        mount_with(&cache).failed(10, &[text(&dir)]);
        let data = format!("data_dir={}", dir.display());
        mount_with(&data).failed(10, &[text(&dir)]);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "a file");
    assert_file(&machine);
}

#[test]
fn a_full_store_delays_uploads_and_loses_nothing() {
    if !is_root("a store on a small file system") {
        return;
    }
    let world = World::new();
    let store = world.tmpfs("small", 8 << 20).join("store");
    let machine = Machine { store, ..world.machine("home") };
    machine.init();
    let mount = machine.mount("mount");
    let data = noise(16 << 20, 7);
    fs::write(mount.join("large"), &data).unwrap();
    File::open(mount.join("large")).unwrap().sync_all().unwrap();
    machine.run(&["sync"]).failed(7, &[text(&machine.store), "space"]);
    assert!(machine.status("dirty_bytes") >= 16 << 20);
    assert_ne!(machine.mounted()["vault"]["health"], "ok");
    // Work goes on meanwhile, also through a restart.
    fs::write(mount.join("more"), "more").unwrap();
    let unmounted = machine.bare(&["unmount", text(&mount)]);
    assert!([0, 7].contains(&unmounted.code), "{unmounted:#?}");
    wait_until("the mount to end", || mounts_below(&mount).is_empty());
    let mount = machine.mount("mount");
    assert!(fs::read(mount.join("large")).unwrap() == data);
    assert_eq!(fs::read_to_string(mount.join("more")).unwrap(), "more");
    run("mount", &["-o", "remount,size=64m", text(&world.path("small"))]);
    machine.sync();
    assert_eq!(machine.status("dirty_bytes"), 0);
    assert_eq!(machine.mounted()["vault"]["health"], "ok");
    machine.unmount(&mount);
    let new = Machine { home: world.dir("new-home"), ..machine.clone() };
    new.fsck();
    let mount = new.mount("new-mount");
    assert!(fs::read(mount.join("large")).unwrap() == data);
    new.unmount(&mount);
}

/// Writes until the disk is full; gives how many bytes were taken and what was said.
fn fill(path: &Path, data: &[u8]) -> (usize, std::io::Error) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    let mut taken = 0;
    for part in data.chunks(1 << 20) {
        let done = file.write_all(part).and_then(|()| file.sync_data());
        match done {
            Ok(()) => taken += part.len(),
            Err(error) => return (taken, error),
        }
    }
    panic!("{} bytes fitted", data.len());
}

#[test]
fn a_full_local_disk_is_no_space_left_and_loses_nothing() {
    if !is_root("local state on a small file system") {
        return;
    }
    let world = World::new();
    let machine = with_a_file(&world);
    let small = world.tmpfs("small", 24 << 20);
    let set = format!("data_dir={}", small.display());
    let mount = machine.mount_with("mount", &["--set", &set]);
    assert_eq!(fs::read_to_string(mount.join("file")).unwrap(), "precious");
    fs::write(mount.join("safe"), noise(1 << 20, 1)).unwrap();
    File::open(mount.join("safe")).unwrap().sync_all().unwrap();
    let data = noise(64 << 20, 2);
    let (taken, error) = fill(&mount.join("large"), &data);
    println!("{taken} bytes were taken, then: {error}");
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    assert!(fs::read(mount.join("safe")).unwrap() == noise(1 << 20, 1));
    assert!(fs::read(mount.join("large")).unwrap()[..taken] == data[..taken]);
    // Room is made, and everything goes on without a restart.
    run("mount", &["-o", "remount,size=256m", text(&small)]);
    wait_until("writes to be taken again", || {
        let written = File::create(mount.join("after")).and_then(|mut file| {
            file.write_all(b"after")?;
            file.sync_all()
        });
        written.is_ok()
    });
    let state = machine.bare(&["status", "--json", "--set", &set]).succeeded().json();
    println!("{:#}", state["mounts"][0]["vault"]);
    machine.bare(&["sync", "--set", &set]).succeeded();
    machine.bare(&["unmount", text(&mount), "--set", &set]).succeeded();
    let new = world.machine("new-home");
    new.fsck();
    let mount = new.mount("new-mount");
    assert!(fs::read(mount.join("safe")).unwrap() == noise(1 << 20, 1));
    assert!(fs::read(mount.join("large")).unwrap()[..taken] == data[..taken]);
    assert_eq!(fs::read_to_string(mount.join("after")).unwrap(), "after");
    new.unmount(&mount);
}

#[test]
fn a_vault_is_mounted_once_on_a_machine() {
    let world = World::new();
    let machine = with_a_file(&world);
    let mount = machine.mount("mount");
    let (other, pid) = (world.dir("other"), machine.pid());
    machine.run(&["mount", text(&other)]).failed(11, &[text(&mount)]);
    machine.run(&["mount", text(&mount)]).failed(9, &["unmount", text(&mount)]);
    machine.run(&["fsck", "--rebuild"]).failed(11, &[&pid.to_string()]);
    // Another vault does not get the mount point.
    let stranger = Machine { store: world.path("store-2"), ..world.machine("stranger") };
    stranger.init();
    stranger.run(&["mount", text(&mount)]).failed(9, &[text(&mount)]);
    // Another machine may have it meanwhile.
    let second = world.machine("second");
    let point = second.mount("second-mount");
    assert_eq!(fs::read_to_string(point.join("file")).unwrap(), "precious");
    second.unmount(&point);
    machine.unmount(&mount);
    assert_file(&machine);
}

#[test]
fn what_a_mount_hides_comes_back() {
    let world = World::new();
    let machine = with_a_file(&world);
    let point = world.dir("mount");
    fs::write(point.join("hidden"), "below").unwrap();
    let mount = machine.mount("mount");
    assert!(!mount.join("hidden").exists());
    machine.unmount(&mount);
    assert_eq!(fs::read_to_string(point.join("hidden")).unwrap(), "below");
    machine.run(&["mount", text(&point.join("hidden"))]).failed(9, &["choose a directory"]);
    machine.run(&["mount", text(&point.join("missing"))]).failed(9, &["make the directory"]);
    machine.run(&["unmount", text(&point)]).failed(12, &["nothing is mounted", text(&point)]);
    if is_root("somebody else's mount") {
        let other = world.tmpfs("other", 1 << 20);
        machine.run(&["unmount", text(&other)]).failed(9, &["use umount", text(&other)]);
    }
}

#[test]
fn a_mount_in_use_stays_unless_it_is_to_go() {
    let world = World::new();
    let machine = with_a_file(&world);
    let mount = machine.mount("mount");
    let mut file = File::create(mount.join("open")).unwrap();
    machine.bare(&["unmount", text(&mount)]).failed(9, &["close what is open", text(&mount)]);
    file.write_all(b"still here").unwrap();
    drop(file);
    machine.unmount(&mount);
    let mount = machine.mount("mount");
    assert_eq!(fs::read_to_string(mount.join("open")).unwrap(), "still here");
    let file = File::open(mount.join("open")).unwrap();
    let lazy = std::thread::scope(|scope| {
        let lazy = scope.spawn(|| machine.bare(&["unmount", "--lazy", text(&mount)]));
        wait_until("the name to be free", || mounts_below(&mount).is_empty());
        drop(file);
        lazy.join().unwrap()
    });
    lazy.succeeded();
    assert_file(&machine);
}
