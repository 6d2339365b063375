//! A store in a directory that is slow, as one on a network may be, under the real program.

use super::disk::{Disk, Image};
use super::serve::nfs::wire::Out;
use super::serve::nfs::{Client, FILE_SYNC, GETATTR, READ, data, read_at};
use super::support::{Machine, World, is_root, noise};
use std::time::{Duration, Instant};

/// How long it takes to open a file of the store.
const OPENING: Duration = Duration::from_secs(1);
const LEN: usize = 100_000;

#[test]
fn a_slow_directory_does_not_hold_up_what_needs_no_store() {
    if !is_root("a disk of its own") {
        return;
    }
    let world = World::new();
    let disk = Disk::mount(&world.dir("disk"), Image::empty());
    let store = world.path("disk").join("store");
    let machine = Machine { world: &world, home: world.dir("home"), store };
    machine.init();
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
