//! What clients do while the weather changes.

use super::clients::Client;
use super::vault::noise;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Files that are there from the beginning, of which nothing is on this machine.
pub(crate) const COLD: u64 = 12;
pub(crate) const COLD_LEN: usize = 600_000;
/// Files of one client at a time.
const FILES_MAX: usize = 40;
/// Between two things that a client does.
const PAUSE: Duration = Duration::from_millis(10);

/// What has to be in the files of a client.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// What a client starts with.
pub(crate) fn cold_files(whose: &str) -> Files {
    let name = |number| format!("{whose}-cold-{number}");
    (0..COLD).map(|number| (name(number), noise(COLD_LEN, number))).collect()
}

/// Writes, changes, reads, renames and removes files until it is told to stop; answers
/// what must be there, and how much it did.
pub(crate) fn work(
    client: &mut dyn Client,
    whose: &str,
    seed: u64,
    stop: &AtomicBool,
) -> (Files, u64) {
    let mut files = cold_files(whose);
    let mut next = vfs::model::ops::numbers(seed);
    let mut below = move |end: usize| next() as usize % end;
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let number = below(files.len());
        let name = files.keys().nth(number).unwrap().clone();
        match below(8) {
            0..3 => {
                let (name, content) = (format!("{whose}-{done}"), noise(below(400_000) + 1, done));
                client.write(&name, &content);
                files.insert(name, content);
            }
            3 => {
                let content = files.get_mut(&name).unwrap();
                let offset = below(content.len());
                let bytes = noise(below(content.len() - offset) + 1, done);
                client.patch(&name, offset as u64, &bytes);
                content[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
            4 => {
                let to = format!("{whose}-{done}-moved");
                client.rename(&name, &to);
                let content = files.remove(&name).unwrap();
                files.insert(to, content);
            }
            5 if files.len() > FILES_MAX => {
                client.remove(&name);
                files.remove(&name);
            }
            _ => assert!(client.read(&name) == files[&name], "{name}"),
        }
        done += 1;
        std::thread::sleep(PAUSE);
    }
    (files, done)
}

/// Asks what needs no store, beside reads that do, until it is told to stop; answers how
/// long each took.
pub(crate) fn watch(client: &mut dyn Client, whose: &str, stop: &AtomicBool) -> Vec<Duration> {
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let number = took.len() as u64;
        client.begin_read(&format!("{whose}-watched-{}", number % COLD));
        let start = Instant::now();
        client.glance(&format!("{whose}-missing-{number}"));
        took.push(start.elapsed());
        std::thread::sleep(PAUSE);
    }
    took.sort_unstable();
    took
}
