//! A store in a directory that is slow, or away for a while, as one on a network may be,
//! under the real program.

use super::disk::{Disk, Fault, Image, Of};
use super::serve::nfs::wire::Out;
use super::serve::nfs::{Client, FILE_SYNC, GETATTR, READ, data, read_at};
use super::support::{Machine, World, is_root, noise, pause, wait_until};
use fuser::Errno;
use std::fs::{self, File};
use std::time::{Duration, Instant};

/// How long it takes to open a file of the store.
const OPENING: Duration = Duration::from_secs(1);
const LEN: usize = 100_000;
/// What is told of a file system whose machine is not there.
const NOT_THERE: Errno = Errno::EHOSTDOWN;

/// A machine with a new vault, whose store alone is on a disk of its own.
fn far_away(world: &World) -> (Disk, Machine<'_>) {
    let disk = Disk::mount(&world.dir("disk"), Image::empty());
    let store = world.path("disk").join("store");
    let machine = Machine { world, home: world.dir("home"), store };
    machine.init();
    (disk, machine)
}

#[test]
fn a_slow_directory_does_not_hold_up_what_needs_no_store() {
    if !is_root("a disk of its own") {
        return;
    }
    let world = World::new();
    let (disk, machine) = far_away(&world);
    let addr = machine.serve_nfs();
    let mut client = Client::new(addr);
    let mut files = Vec::new();
    for number in 0..8 {
        let file = client.create(&format!("file-{number}"), 0o644).unwrap();
        client.write(&file, &noise(LEN, number), FILE_SYNC).unwrap();
        files.push(file);
    }
    machine.sync();
    machine.run(&["cache", "--clear"]).succeeded();
    disk.slow(OPENING);
    // It has to be found out first.
    let start = Instant::now();
    assert!(client.read(&files[0]).unwrap() == noise(LEN, 0));
    assert!(start.elapsed() > OPENING, "it is in the store and nowhere else");
    let root = Out::default().opaque(&client.root);
    let (mut waiting, mut worst) = (Vec::new(), Duration::ZERO);
    for (number, file) in (1..).zip(&files[1..]) {
        waiting.push((client.send(READ, &read_at(file, 0, LEN as u32)), number));
        // Calls that come together are known to be for different threads.
        pause(20);
        let start = Instant::now();
        let asked = client.send(GETATTR, &root);
        loop {
            let (xid, told) = client.receive();
            let told = told.unwrap();
            if xid == asked {
                break;
            }
            let place = waiting.iter().position(|(waiting, _)| *waiting == xid).unwrap();
            assert!(data(&told) == noise(LEN, waiting.swap_remove(place).1));
        }
        worst = worst.max(start.elapsed());
    }
    println!("{} reads under way, an answer beside them took {worst:?}", waiting.len());
    assert!(waiting.len() > 3 && worst < OPENING / 2, "{worst:?}");
    while !waiting.is_empty() {
        let (xid, told) = client.receive();
        let place = waiting.iter().position(|(waiting, _)| *waiting == xid).unwrap();
        assert!(data(&told.unwrap()) == noise(LEN, waiting.swap_remove(place).1));
    }
    disk.slow(Duration::ZERO);
    machine.bare(&["unmount", &addr.to_string()]).succeeded();
    machine.fsck();
    disk.unmount();
}

#[test]
fn a_directory_that_is_away_for_a_while_gives_nobody_an_error() {
    if !is_root("a disk of its own") {
        return;
    }
    let world = World::new();
    let (disk, machine) = far_away(&world);
    let mount = machine.mount("mount");
    fs::write(mount.join("cold"), noise(300_000, 1)).unwrap();
    machine.unmount(&mount);
    // Nothing of it is in the kernel any more, nor on this machine.
    machine.mount("mount");
    machine.run(&["cache", "--clear"]).succeeded();
    disk.take_away(Some(NOT_THERE));
    let (cold, outage) = (mount.join("cold"), Duration::from_secs(8));
    let reader = std::thread::spawn(move || fs::read(cold).unwrap());
    let start = Instant::now();
    for number in 0..20 {
        let path = mount.join(format!("new-{number}"));
        fs::write(&path, noise(LEN, 100 + number)).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        assert!(fs::read(&path).unwrap() == noise(LEN, 100 + number));
        pause(100);
    }
    machine.bare(&["sync"]).failed(7, &["reachable"]);
    pause(outage.saturating_sub(start.elapsed()).as_millis() as u64);
    assert!(!reader.is_finished(), "it waits");
    disk.take_away(None);
    assert!(reader.join().unwrap() == noise(300_000, 1));
    wait_until("an upload", || machine.bare(&["sync"]).code == 0);
    let new = Machine { home: world.dir("new-home"), ..machine.clone() };
    let new_mount = new.mount("new-mount");
    for number in 0..20 {
        let data = fs::read(new_mount.join(format!("new-{number}"))).unwrap();
        assert!(data == noise(LEN, 100 + number), "new-{number}");
    }
    new.unmount(&new_mount);
    machine.unmount(&mount);
    machine.fsck();
    disk.unmount();
}

/// One sync after the other, of files and of directories, while the machine is not there.
#[test]
fn a_directory_that_was_away_during_a_sync_is_used_again() {
    if !is_root("a disk of its own") {
        return;
    }
    let world = World::new();
    let (disk, machine) = far_away(&world);
    let mount = machine.mount("mount");
    let mut failed = 0;
    for number in 0..8 {
        let path = mount.join(format!("file-{number}"));
        fs::write(&path, noise(LEN, number)).unwrap();
        let changes = number..number + 1;
        disk.fail(Some(Fault { changes, of: Of::Syncs, error: NOT_THERE }));
        failed += u64::from(machine.bare(&["sync"]).code != 0);
        disk.fail(None);
        machine.sync();
    }
    assert!(failed > 3, "{failed} uploads failed");
    machine.unmount(&mount);
    let new = Machine { home: world.dir("new-home"), ..machine.clone() };
    let mount = new.mount("new-mount");
    for number in 0..8 {
        let data = fs::read(mount.join(format!("file-{number}"))).unwrap();
        assert!(data == noise(LEN, number), "file-{number}");
    }
    new.unmount(&mount);
    machine.fsck();
    disk.unmount();
}
