//! S30 for the cache: on a disk that is full or fails, and as a crash or somebody else
//! may have left it. What is read is right, and the cache is used again when it can be.

use super::*;
use crate::data::parts::PART_LEN;
use rustix::io::Errno;
use std::os::unix::fs::{FileExt, symlink};
use std::sync::atomic::Ordering::Relaxed;

/// What takes no byte, as a full disk and as a broken one. (Nothing is mapped where a
/// process's memory begins.)
const FAILING: [(&str, Errno); 2] = [("/dev/full", Errno::NOSPC), ("/proc/self/mem", Errno::IO)];
/// Blocks of a pack of three parts.
const BLOCKS: u8 = 40;

/// A block in the store, and the pack that it is in.
type Sent = (BlockId, u8, PackId);

/// A machine with four packs in the store and nothing of them here.
async fn with_empty_cache() -> (Machine, Vec<Sent>) {
    let machine = Machine::new();
    let mut sent = Vec::new();
    for seed in 0..4 {
        let id = machine.add(seed);
        let packs = machine.upload().await;
        assert_eq!(packs.len(), 1);
        sent.push((id, seed, packs[0].pack));
    }
    machine.blocks.shrink_cache(0);
    (machine.crash(), sent)
}

async fn assert_reads(machine: &Machine, sent: &[Sent], what: &str) {
    for (id, seed, _) in sent {
        assert!(machine.has(*id, *seed).await, "{what}: block {seed}");
    }
}

fn fetched(machine: &Machine) -> u64 {
    machine.blocks.parts.fetched_bytes.load(Relaxed)
}

fn parts_dir(machine: &Machine) -> PathBuf {
    machine.dir.path().join("cache/parts")
}

#[test]
fn s30_a_cache_in_which_every_write_fails_is_gone_around_and_then_used_again() {
    for (device, errno) in FAILING {
        let file = File::options().write(true).open(device).unwrap();
        let error = file.write_all_at(b"x", 0).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(errno), "{device}");
        for ending in ["parts", "map"] {
            block_on(write_to(device, ending));
        }
    }
}

async fn write_to(device: &str, ending: &str) {
    let what = format!("{ending} on {device}");
    let (machine, sent) = with_empty_cache().await;
    let parts = parts_dir(&machine);
    for (_, _, pack) in &sent {
        symlink(device, parts.join(format!("{pack}.{ending}"))).unwrap();
    }
    assert_reads(&machine, &sent, &what).await;
    assert_eq!(machine.blocks.parts.bytes(), 0, "{what}: nothing is kept, nor said to be");
    assert_eq!(std::fs::read_dir(&parts).unwrap().count(), 0, "{what}: something is left");
    // There is room again.
    machine.blocks.clear_memory();
    assert_reads(&machine, &sent, &what).await;
    assert_eq!(machine.blocks.parts.bytes(), sent.len() as u64 * PART_LEN, "{what}");
    let machine = machine.crash();
    assert_reads(&machine, &sent, &what).await;
    assert_eq!(fetched(&machine), 0, "{what}: what is kept is not fetched");
}

/// A part of a pack cannot be written behind others that were.
#[test]
fn s30_a_cache_that_fills_up_within_a_pack_is_gone_around() {
    block_on(async {
        let (machine, sent) = with_three_parts().await;
        let parts = parts_dir(&machine);
        let first = &sent[..1];
        assert_reads(&machine, first, "the first part").await;
        assert_eq!(machine.blocks.parts.bytes(), PART_LEN);
        let map = parts.join(format!("{}.map", sent[0].2));
        std::fs::remove_file(&map).unwrap();
        symlink("/dev/full", &map).unwrap();
        assert_reads(&machine, &sent, "the others").await;
        machine.blocks.clear_memory();
        assert_reads(&machine, &sent, "again").await;
        assert_eq!(machine.blocks.parts.bytes(), 3 * PART_LEN);
        let machine = machine.crash();
        assert_reads(&machine, &sent, "later").await;
        assert_eq!(fetched(&machine), 0);
    });
}

#[test]
fn s30_a_cache_that_cannot_be_read_does_not_hide_the_store() {
    block_on(async {
        for device in ["/proc/self/mem", "a directory"] {
            let machine = Machine::new();
            let id = machine.add(0);
            let pack = machine.upload().await[0].pack;
            // As a whole, as it was uploaded, and in parts, as it was fetched.
            let whole = format!("packs/{pack}");
            let mut machine = machine.crash();
            for (file, is_whole) in [(whole, true), (format!("parts/{pack}.parts"), false)] {
                let path = machine.dir.path().join("cache").join(file);
                assert_eq!(machine.blocks.cache_stats().packs, u64::from(is_whole));
                std::fs::remove_file(&path).unwrap();
                if device == "a directory" {
                    std::fs::create_dir_all(path.join("in the way")).unwrap();
                } else {
                    symlink(device, &path).unwrap();
                }
                assert!(machine.has(id, 0).await, "{} is {device}", path.display());
                assert_eq!(machine.blocks.cache_stats().packs, 0);
                // So that the next finds it in parts.
                if device == "a directory" {
                    std::fs::remove_dir_all(&path).unwrap();
                }
                machine.blocks.clear_memory();
                assert!(machine.has(id, 0).await);
                assert_eq!(machine.blocks.parts.bytes(), PART_LEN);
                machine = machine.crash();
            }
        }
    });
}

/// What nobody knows, and cannot be removed, keeps nobody from opening the vault.
#[test]
fn a_stranger_in_the_cache_is_no_obstacle() {
    block_on(async {
        let (machine, sent) = with_empty_cache().await;
        let packs = machine.dir.path().join("cache/packs");
        std::fs::create_dir_all(packs.join("ab".repeat(16)).join("in the way")).unwrap();
        std::fs::create_dir(packs.join("not a pack")).unwrap();
        assert_reads(&machine.crash(), &sent, "beside strangers").await;
    });
}

/// A machine with one pack of three parts in the store and nothing of it here.
async fn with_three_parts() -> (Machine, Vec<Sent>) {
    let machine = Machine::with_packs_of(4 * PART_LEN);
    let ids: Vec<_> = (0..BLOCKS).map(|seed| (machine.add(seed), seed)).collect();
    let packs = machine.upload().await;
    assert_eq!((packs.len(), packs[0].size.div_ceil(PART_LEN)), (1, 3));
    machine.blocks.shrink_cache(0);
    let sent = ids.into_iter().map(|(id, seed)| (id, seed, packs[0].pack)).collect();
    (machine.crash(), sent)
}

/// Every way to damage a file that a crash or a disk has, and some of somebody who means it.
fn damaged(good: &[u8], older: &[u8]) -> Vec<(String, Vec<u8>)> {
    let len = good.len();
    let step = (len / 12).max(1);
    let mut all = vec![
        ("older".to_owned(), older.to_vec()),
        ("zeros".to_owned(), vec![0; len]),
        ("ones".to_owned(), vec![1; len]),
        ("ones and more of them".to_owned(), vec![1; len + (1 << 17)]),
        ("longer".to_owned(), [good, &[0; 5000]].concat()),
    ];
    for cut in (0..len).step_by(step).chain([len - 1]) {
        all.push((format!("cut at {cut}"), good[..cut].to_vec()));
        // A disk that kept the length and not what lies there.
        let torn = [&good[..cut], &vec![0; len - cut]].concat();
        all.push((format!("zeros from {cut}"), torn));
        for bit in [0, 7] {
            let mut flipped = good.to_vec();
            flipped[cut] ^= 1 << bit;
            all.push((format!("bit {bit} of byte {cut}"), flipped));
        }
    }
    all
}

#[test]
fn s30_torn_parts_and_maps_are_fetched_again() {
    block_on(async {
        let (mut machine, sent) = with_three_parts().await;
        let paths = ["parts", "map"]
            .map(|ending| parts_dir(&machine).join(format!("{}.{ending}", sent[0].2)));
        let files = || paths.each_ref().map(|path| std::fs::read(path).unwrap());
        // Parts of the middle first, so that there is an older state.
        assert_reads(&machine, &sent[sent.len() / 2..][..1], "one").await;
        let older = files();
        machine.blocks.clear_memory();
        assert_reads(&machine, &sent, "all").await;
        let whole = files();
        assert_eq!((older[1].len(), &whole[1][..]), (2, &[1, 1, 1][..]));
        for attacked in [0, 1] {
            for (what, bytes) in damaged(&whole[attacked], &older[attacked]) {
                let what = format!("{}: {what}", paths[attacked].display());
                for (path, good) in paths.iter().zip(&whole) {
                    std::fs::write(path, good).unwrap();
                }
                std::fs::write(&paths[attacked], bytes).unwrap();
                machine = machine.crash();
                assert_reads(&machine, &sent, &what).await;
                // Also where it was kept again.
                machine.blocks.clear_memory();
                assert_reads(&machine, &sent, &what).await;
            }
        }
    });
}

/// A map that claims to be longer than any: what it says of parts that there are counts.
#[test]
fn a_map_without_end_is_not_read_to_its_end() {
    block_on(async {
        let (machine, sent) = with_empty_cache().await;
        assert_reads(&machine, &sent, "first").await;
        let map = parts_dir(&machine).join(format!("{}.map", sent[0].2));
        File::options().write(true).open(&map).unwrap().set_len(1 << 40).unwrap();
        let machine = machine.crash();
        assert_reads(&machine, &sent, "with a map of a tebibyte").await;
        assert_eq!(fetched(&machine), 0);
    });
}
