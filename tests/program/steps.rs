//! Commands that take many steps, cut short at each of them: everything that a command
//! does to a disk is recorded, and it ends after any one of these, by `kill -9` or with
//! the power.

mod places;

use super::crash::{self, succeeded};
use super::disk::{Disk, Image, Left, Replay, Step};
use super::support::{Finished, Machine, Numbers, World, is_root, noise, text};
use places::Place;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// How many of a command's steps are tried, unless `TGCRYPTFS_TEST_STEPS` says more.
const TRIED: usize = 8;
/// What a crash may leave of what is not durable.
const LEFTS: [Left; 3] = [Left::All, Left::AnyPart, Left::Nothing];

/// What a command has to leave, whenever it is cut short; it is told whether the command
/// came to its end.
type Check<'a> = &'a dyn Fn(bool) -> Result<(), String>;

/// Runs `command` on a disk with `start` on it, then again and again up to some of its
/// steps: from all over, and always before and behind one step of each of these places,
/// which there must be.
fn cut_short(places: &[Place], world: &World, start: &Image, command: &dyn Fn(), check: Check<'_>) {
    let seed = Numbers::seed();
    let disk = Disk::mount(&world.dir("disk"), start.clone());
    // What is linked elsewhere is copied then.
    disk.refuse_links(seed % 2 == 1);
    command();
    crash::take_down(world);
    let steps = disk.unmount();
    let mut draw = Numbers::new(seed);
    let mut moments = moments(&steps, &mut draw);
    let found = places::find(start, &steps);
    for place in places {
        let there = found.get(place).unwrap_or_else(|| panic!("seed {seed}: no {place:?}"));
        let at = there[draw.below(there.len() as u64) as usize];
        println!("{place:?}: {} times, tried around step {at}", there.len());
        moments.extend([at, at + 1]);
    }
    println!("seed {seed}: {} steps, {} tried", steps.len(), moments.len());
    let mut wrong = Vec::new();
    for at in moments {
        // Only what is durable counts in the end.
        let is_done = at == steps.len();
        let left = if is_done { Left::Nothing } else { LEFTS[draw.below(3) as usize] };
        let mut replay = Replay::new(start.clone(), draw.next());
        steps[..at].iter().for_each(|step| replay.push(step));
        if let Err(said) = crash::look(world, replay.crash(left), || check(is_done)) {
            let last: String = format!("{:?}", steps[..at].last()).chars().take(120).collect();
            wrong.push(format!("seed {seed}, after {at} steps, {last}, {left:?}: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n\n"));
}

/// Moments to be tried: the last one always, others from all over.
fn moments(steps: &[Step], draw: &mut Numbers) -> BTreeSet<usize> {
    let turns = turns(steps);
    let tried = std::env::var("TGCRYPTFS_TEST_STEPS").ok().and_then(|text| text.parse().ok());
    let tried = turns.len().min(tried.unwrap_or(TRIED));
    let moment = |number: usize| {
        let skipped = if number == tried { 0 } else { draw.below((turns.len() / tried) as u64) };
        turns[number * turns.len() / tried - 1 - skipped as usize]
    };
    (1..=tried).map(moment).collect()
}

/// Moments before and after anything but adding to files, and some amid that; the last
/// one is when all is done.
fn turns(steps: &[Step]) -> Vec<usize> {
    let adds = |at: usize| matches!(steps.get(at), Some(Step::Write { .. }));
    let is_turn = |at: &usize| at.is_multiple_of(16) || !adds(*at) || (*at > 0 && !adds(*at - 1));
    (0..=steps.len()).filter(is_turn).collect()
}

/// A disk after `make`, with everything durable.
fn prepared(world: &World, make: impl FnOnce()) -> Image {
    let disk = crash::empty_disk(world);
    make();
    crash::take_down(world);
    let image = disk.image();
    disk.unmount();
    image
}

fn fsync(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

const UPLOADED: &str = "uploaded";
const FSYNCED: &str = "fsynced";

fn content(name: &str) -> Vec<u8> {
    noise(500_000, name.len() as u64)
}

/// A vault with a file that is in the store, and one that is fsynced here.
fn make_vault(machine: &Machine<'_>) {
    machine.init();
    let mount = machine.mount("mount");
    fs::write(mount.join(UPLOADED), content(UPLOADED)).unwrap();
    machine.sync();
    fs::write(mount.join(FSYNCED), content(FSYNCED)).unwrap();
    // Enough to write for the log to be due for a checkpoint.
    for number in 0..20 {
        let path = mount.join(format!("label-{number}"));
        let (label, flags) = (noise(60_000, number), rustix::fs::XattrFlags::empty());
        fs::write(&path, "").unwrap();
        rustix::fs::setxattr(&path, "user.label", &label, flags).unwrap();
    }
    fsync(&mount.join(FSYNCED));
    machine.kill();
}

/// Everything is there: on this machine, and after an upload for any other.
fn check_files(machine: &Machine<'_>) -> Result<(), String> {
    let world = machine.world;
    for (machine, point) in [
        (machine, "mount"),
        (&Machine { home: world.dir("new-home"), ..machine.clone() }, "new-mount"),
    ] {
        let mount = world.dir(point);
        succeeded(machine.run(&["mount", text(&mount)]))?;
        for name in [UPLOADED, FSYNCED] {
            match fs::read(mount.join(name)) {
                Ok(data) if data == content(name) => {}
                other => return Err(format!("{name}: {:?}", other.map(|data| data.len()))),
            }
        }
        succeeded(machine.run(&["sync", "--full"]))?;
        succeeded(machine.run(&["fsck"]))?;
        machine.unmount(&mount);
    }
    fs::remove_dir_all(world.path("new-home")).unwrap();
    Ok(())
}

#[test]
fn init_cut_short_can_be_run_again() {
    if !is_root("a disk of its own") {
        return;
    }
    let world = World::new();
    let start = prepared(&world, || drop(crash::machine(&world, "home")));
    let machine = || crash::machine(&world, "home");
    let init = || drop(machine().init());
    cut_short(&places::OF_INIT, &world, &start, &init, &|is_done| {
        let machine = machine();
        if !is_done {
            succeeded(machine.run(&["init", "--store", &machine.url()]))?;
        }
        let (mount, mut command) = (world.dir("mount"), machine.command(&["mount"]));
        // What init has written down has to be enough.
        command.arg(&mount).env("TGCRYPTFS_PASSWORD_FILE", world.password());
        succeeded(Finished::of(&command.output().unwrap()))?;
        fs::write(mount.join("file"), "precious").unwrap();
        succeeded(machine.run(&["sync", "--full"]))?;
        succeeded(machine.run(&["fsck"])).map(drop)
    });
}

#[test]
fn a_change_of_the_password_cut_short_leaves_the_old_one_or_the_new() {
    if !is_root("a disk of its own") {
        return;
    }
    let world = World::new();
    let machine = || crash::machine(&world, "home");
    let start = prepared(&world, || drop(machine().init()));
    let new = world.private_file("new", "another password\n");
    let passwd = || {
        machine().run(&["passwd", "--new-password-file", text(&new)]).succeeded();
    };
    cut_short(&places::OF_A_HEADER, &world, &start, &passwd, &|is_done| {
        let opens = |password| machine().run_with(password, &["fsck"]);
        let (old, changed) = (opens(&world.password()), opens(&new));
        match (old.code, changed.code) {
            (4, 0) => Ok(()),
            (0, 4) if !is_done => Ok(()),
            _ => Err(format!("{old:#?} {changed:#?}")),
        }
    });
}

/// What the oldest headers were kept for is over then.
#[test]
fn a_change_of_the_password_cut_short_among_many_leaves_the_last_one_or_the_new() {
    if !is_root("a disk of its own") {
        return;
    }
    let world = World::new();
    let machine = || crash::machine(&world, "home");
    let mut passwords = vec![world.password()];
    for number in 1..=4 {
        let text = format!("password number {number}\n");
        passwords.push(world.private_file(&format!("password-{number}"), &text));
    }
    let change = |number: usize| {
        let arguments = ["passwd", "--new-password-file", text(&passwords[number + 1])];
        machine().run_with(&passwords[number], &arguments).succeeded();
    };
    let start = prepared(&world, || {
        machine().init();
        for number in 0..3 {
            change(number);
        }
    });
    let check = |is_done: bool| {
        let opens = |number: usize| machine().run_with(&passwords[number], &["fsck"]).code;
        match [opens(0), opens(2), opens(3), opens(4)] {
            [4, 4, 4, 0] => Ok(()),
            [4, 4, 0, 4] if !is_done => Ok(()),
            codes => Err(format!("done {is_done}: {codes:?}")),
        }
    };
    cut_short(&places::OF_A_LATER_HEADER, &world, &start, &|| change(3), &check);
}

/// Runs a change of the ways into a vault, cut short; the password opens it throughout,
/// and `opens` names files with another that must do so `before`, `after`, or both.
fn cut_short_change_of_keys(
    prepare: &dyn Fn(&Machine<'_>),
    change: &dyn Fn(&Machine<'_>) -> Finished,
    way: (&str, &Path),
    (before, after): (bool, bool),
    world: &World,
) {
    let machine = || crash::machine(world, "home");
    let start = prepared(world, || {
        machine().init();
        prepare(&machine());
    });
    let command = || drop(change(&machine()).succeeded());
    cut_short(&places::OF_A_HEADER, world, &start, &command, &|is_done| {
        succeeded(machine().run(&["fsck"]))?;
        let (flag, file) = way;
        let store = format!("store={}", machine().url());
        let finished = machine().bare(&["fsck", flag, text(file), "--set", &store]);
        match finished.code {
            0 if after || (before && !is_done) => Ok(()),
            4 if !after || (!before && !is_done) => Ok(()),
            _ => Err(format!("done {is_done}: {finished:#?}")),
        }
    });
}

#[test]
fn a_key_that_is_added_or_removed_is_there_or_not_whenever_that_is_cut_short() {
    if !is_root("a disk of its own") {
        return;
    }
    let world = World::new();
    let second = world.private_file("second", "second password\n");
    let way = ("--password-file", second.as_path());
    let add =
        |machine: &Machine<'_>| machine.run(&["key", "add", "--new-password-file", text(&second)]);
    cut_short_change_of_keys(&|_| {}, &add, way, (false, true), &world);
    let slots = |machine: &Machine<'_>| -> Vec<String> {
        let list = machine.run(&["key", "list", "--json"]).succeeded().json();
        let id = |slot: &serde_json::Value| slot["id"].as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(id).collect()
    };
    let (first, added) = (std::cell::OnceCell::new(), std::cell::OnceCell::new());
    let prepare = |machine: &Machine<'_>| {
        first.set(slots(machine)).unwrap();
        add(machine).succeeded();
        let mut slots = slots(machine);
        slots.retain(|slot| !first.get().unwrap().contains(slot));
        added.set(slots.remove(0)).unwrap();
    };
    let remove = |machine: &Machine<'_>| machine.run(&["key", "remove", added.get().unwrap()]);
    cut_short_change_of_keys(&prepare, &remove, way, (true, false), &world);
}

#[test]
fn a_new_recovery_code_cut_short_is_good_or_the_old_one_is() {
    if !is_root("a disk of its own") {
        return;
    }
    let world = World::new();
    let machine = || crash::machine(&world, "home");
    let code = world.path("code");
    let start = prepared(&world, || {
        let (machine, url) = (machine(), machine().url());
        machine.run(&["init", "--store", &url, "--recovery-file", text(&code)]).succeeded();
    });
    // On the disk that is cut short: the code must be there before the old one is not.
    let rotated = || machine().home.join("rotated");
    let rotate = || {
        let file = rotated();
        machine().run(&["recovery", "rotate", "--recovery-file", text(&file)]).succeeded();
    };
    cut_short(&places::OF_A_HEADER, &world, &start, &rotate, &|is_done| {
        succeeded(machine().run(&["fsck"]))?;
        let store = format!("store={}", machine().url());
        let opens = |file: &Path| {
            let code = ["fsck", "--recovery-code-file", text(file), "--set", &store];
            file.exists() && machine().bare(&code).code == 0
        };
        match (opens(&code), opens(&rotated())) {
            (true, false) if !is_done => Ok(()),
            (false, true) => Ok(()),
            found => Err(format!("done {is_done}: the old one and the new one: {found:?}")),
        }
    });
}

#[test]
fn making_room_in_the_cache_can_be_cut_short() {
    if !is_root("a disk of its own") {
        return;
    }
    let world = World::new();
    let machine = || crash::machine(&world, "home");
    let content = |number: u64| noise(1 << 20, 1000 + number);
    let start = prepared(&world, || {
        make_vault(&machine());
        machine().sync();
        let mount = machine().mount("mount");
        for number in 0..80 {
            fs::write(mount.join(format!("more-{number}")), content(number)).unwrap();
        }
        machine().sync();
        machine().unmount(&mount);
    });
    // Less than there is, so that some of it goes.
    let read_all = || {
        let flags = ["--set", "cache.max_size=64MiB", "--set", "chunk.chunk_size=8MiB"];
        let mount = machine().mount_with("mount", &flags);
        fs::write(mount.join("one-more"), content(100)).unwrap();
        machine().sync();
        for number in 0..80 {
            let data = fs::read(mount.join(format!("more-{number}"))).unwrap();
            assert!(data == content(number), "more-{number}");
        }
        machine().unmount(&mount);
    };
    let check = |_: bool| check_files(&machine());
    cut_short(&[Place::PackDroppedFromCache], &world, &start, &read_all, &check);
}

#[test]
fn an_upload_cut_short_loses_nothing_and_is_made_up_for() {
    if !is_root("a disk of its own") {
        return;
    }
    let world = World::new();
    let machine = || crash::machine(&world, "home");
    let start = prepared(&world, || make_vault(&machine()));
    // With what is uploaded removed from the cache in the end.
    let upload = || {
        machine().sync();
        machine().run(&["cache", "--clear"]).succeeded();
    };
    let check = |_: bool| check_files(&machine());
    cut_short(&places::OF_AN_UPLOAD, &world, &start, &upload, &check);
}

#[test]
fn a_write_and_its_fsync_cut_short_lose_nothing_that_was_safe() {
    if !is_root("a disk of its own") {
        return;
    }
    let world = World::new();
    let machine = || crash::machine(&world, "home");
    let start = prepared(&world, || make_vault(&machine()));
    let write = || {
        let mount = machine().mount("mount");
        fs::write(mount.join("more"), noise(400_000, 50)).unwrap();
        fsync(&mount.join("more"));
        machine().kill();
    };
    let check = |is_done: bool| {
        check_files(&machine())?;
        let mount = machine().mount("mount");
        // It was written whole, in several requests.
        match fs::read(mount.join("more")) {
            Ok(data) if data == noise(400_000, 50) => Ok(()),
            Ok(data) if !is_done && noise(400_000, 50).starts_with(&data) => Ok(()),
            Err(_) if !is_done => Ok(()),
            other => Err(format!("done {is_done}: {:?}", other.map(|data| data.len()))),
        }
    };
    cut_short(&places::OF_A_WRITE, &world, &start, &write, &check);
}

#[test]
fn taking_in_what_another_machine_wrote_can_be_cut_short() {
    if !is_root("a disk of its own") {
        return;
    }
    let world = World::new();
    let (one, two) = (|| crash::machine(&world, "home"), || crash::machine(&world, "two"));
    let start = prepared(&world, || {
        make_vault(&one());
        one().sync();
        let mount = two().mount("new-mount");
        for number in 0..300 {
            fs::write(mount.join(format!("other-{number}")), noise(100, number)).unwrap();
        }
        fs::rename(mount.join(FSYNCED), mount.join("renamed")).unwrap();
        fs::rename(mount.join("renamed"), mount.join(FSYNCED)).unwrap();
        two().sync();
        two().unmount(&mount);
    });
    let catch_up = || drop(one().run(&["sync"]).succeeded());
    cut_short(&places::OF_CATCHING_UP, &world, &start, &catch_up, &|_| {
        check_files(&one())?;
        let mount = one().mount("mount");
        let is_there = |number| {
            let name = mount.join(format!("other-{number}"));
            fs::read(name).is_ok_and(|data| data == noise(100, number))
        };
        if (0..300).all(is_there) { Ok(()) } else { Err("not all of the other's files".into()) }
    });
}

#[test]
fn joining_a_vault_can_be_cut_short() {
    if !is_root("a disk of its own") {
        return;
    }
    let world = World::new();
    let (one, two) = (|| crash::machine(&world, "home"), || crash::machine(&world, "two"));
    let start = prepared(&world, || {
        make_vault(&one());
        one().sync();
        two();
    });
    let join = || two().sync();
    cut_short(&places::OF_JOINING, &world, &start, &join, &|_| {
        check_files(&two())?;
        check_files(&one())
    });
}

#[test]
fn naming_a_shared_cache_can_be_cut_short() {
    if !is_root("a disk of its own") {
        return;
    }
    let world = World::new();
    let machine = || crash::machine(&world, "home");
    let start = prepared(&world, || drop(machine().init()));
    // Its directory there is named after a mark that the machine makes for itself.
    let set = format!("cache.cache_dir={}", world.path("disk").join("shared").display());
    let mark = || drop(machine().run(&["sync", "--set", &set]).succeeded());
    cut_short(&[Place::CacheMarkWritten], &world, &start, &mark, &|_| {
        succeeded(machine().run(&["fsck", "--set", &set])).map(drop)
    });
}

/// The directories of what a machine has of a vault, and had before.
fn state_dirs(machine: &Machine<'_>) -> Vec<PathBuf> {
    let states = fs::read_dir(machine.home.join(".local/state/tgcryptfs")).unwrap();
    states.map(|entry| entry.unwrap().path()).collect()
}

/// The file that says who a machine is.
fn identity(machine: &Machine<'_>) -> Option<Vec<u8>> {
    let state = state_dirs(machine).into_iter().find(|path| path.extension().is_none());
    fs::read(state.unwrap().join("machine")).ok()
}

#[test]
fn a_rebuild_cut_short_keeps_who_the_machine_is() {
    if !is_root("a disk of its own") {
        return;
    }
    let world = World::new();
    let machine = || crash::machine(&world, "home");
    let mut before = None;
    let start = prepared(&world, || {
        make_vault(&machine());
        machine().sync();
        before = identity(&machine());
    });
    let rebuild = || drop(machine().run(&["fsck", "--rebuild"]).succeeded());
    cut_short(&places::OF_A_REBUILD, &world, &start, &rebuild, &|_| match identity(&machine()) {
        Some(found) if Some(&found) == before.as_ref() => check_files(&machine()),
        other => Err(format!("the machine is another: {:?}", other.map(|file| file.len()))),
    });
}

/// Every pack that is not in the store, wherever it is kept, with its length.
fn unsent(machine: &Machine<'_>) -> BTreeSet<(OsString, u64)> {
    let dirs = state_dirs(machine).into_iter().map(|dir| dir.join("unsent"));
    let entries = dirs.filter_map(|dir| fs::read_dir(dir).ok()).flatten().map(Result::unwrap);
    entries.map(|entry| (entry.file_name(), entry.metadata().unwrap().len())).collect()
}

#[test]
fn a_forced_rebuild_cut_short_keeps_what_was_not_uploaded() {
    if !is_root("a disk of its own") {
        return;
    }
    let world = World::new();
    let machine = || crash::machine(&world, "home");
    let mut before = BTreeSet::new();
    let start = prepared(&world, || {
        make_vault(&machine());
        before = unsent(&machine());
    });
    assert!(!before.is_empty());
    let rebuild = || drop(machine().run(&["fsck", "--rebuild", "--force"]).succeeded());
    cut_short(&places::OF_A_FORCED_REBUILD, &world, &start, &rebuild, &|_| {
        let mount = world.dir("mount");
        succeeded(machine().run(&["mount", text(&mount)]))?;
        if fs::read(mount.join(UPLOADED)).ok() != Some(content(UPLOADED)) {
            return Err("what was uploaded is lost".into());
        }
        // In the mount, or in what is set aside.
        let is_there = fs::read(mount.join(FSYNCED)).is_ok_and(|data| data == content(FSYNCED));
        if is_there || unsent(&machine()).is_superset(&before) {
            return succeeded(machine().run(&["fsck"])).map(drop);
        }
        Err(format!("of {before:?} there is {:?}", unsent(&machine())))
    });
}
