//! File data: every way to read, write, map, cut, punch and copy.

use crate::support::{Mounted, errno, errno_of, is_root, read_write};
use rustix::fs::{FallocateFlags, SeekFrom, copy_file_range, fallocate, seek};
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use vfs::WriteAt;

const BLOCK: usize = 4096;

/// Bytes that differ everywhere, so that nothing misplaced goes unnoticed.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ seed).collect()
}

#[test]
fn large_and_odd_sized_data_survives() {
    let fs = Mounted::new();
    for (name, len) in [("empty", 0), ("one", 1), ("odd", 1_234_567), ("big", 5 << 20)] {
        let data = pattern(len, 3);
        fs::write(fs.at(name), &data).unwrap();
        assert!(fs::read(fs.at(name)).unwrap() == data, "{name}");
        assert_eq!(fs.at(name).metadata().unwrap().len(), len as u64);
    }
    // Requests are as large as agreed.
    let file = File::create(fs.at("requests")).unwrap();
    let writes = fs.probe.count("write");
    file.write_all_at(&pattern(4 << 20, 1), 0).unwrap();
    assert_eq!(fs.probe.count("write") - writes, 4, "1 MiB each");
}

#[test]
fn holes_read_as_zeros_and_files_can_be_cut() {
    let fs = Mounted::new();
    let file = fs.file("f", b"start");
    file.write_all_at(b"end", 1 << 30).unwrap();
    assert_eq!(file.metadata().unwrap().len(), (1 << 30) + 3);
    assert!(file.metadata().unwrap().blocks() < 64, "the hole takes no room");
    let mut middle = [1; 9];
    file.read_exact_at(&mut middle, 1 << 20).unwrap();
    assert_eq!(middle, [0; 9]);
    file.set_len(3).unwrap();
    file.set_len(8).unwrap();
    assert_eq!(fs::read(fs.at("f")).unwrap(), b"sta\0\0\0\0\0");
    crate::support::sh("truncate -s 1 \"$1\"", &[&fs.at("f")]);
    assert_eq!(fs::read(fs.at("f")).unwrap(), b"s");
    File::create(fs.at("f")).unwrap();
    assert_eq!(fs.at("f").metadata().unwrap().len(), 0);
}

#[test]
fn appends_go_to_the_end_wherever_it_is() {
    let fs = Mounted::new();
    fs::write(fs.at("log"), "").unwrap();
    let log = || File::options().append(true).open(fs.at("log")).unwrap();
    let (mut one, mut two) = (log(), log());
    one.write_all(b"1").unwrap();
    two.write_all(b"2").unwrap();
    one.write_all(b"3").unwrap();
    assert!(matches!(fs.probe.last_write(), Some((_, WriteAt::End, 1))));
    assert_eq!(fs::read(fs.at("log")).unwrap(), b"123");
    // O_APPEND set later counts too.
    let late = read_write().open(fs.at("log")).unwrap();
    rustix::fs::fcntl_setfl(&late, rustix::fs::OFlags::APPEND).unwrap();
    (&late).write_all(b"4").unwrap();
    assert_eq!(fs::read(fs.at("log")).unwrap(), b"1234");

    // Four processes' worth of appends: every line whole, none lost.
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let mut log = log();
            scope.spawn(move || {
                for line in 0..200 {
                    log.write_all(format!("{worker} {line:04}\n").as_bytes()).unwrap();
                }
            });
        }
    });
    let text = fs::read_to_string(fs.at("log")).unwrap();
    let lines: std::collections::BTreeSet<&str> = text[4..].lines().collect();
    assert_eq!(lines.len(), 800);
    assert!(lines.iter().all(|line| line.len() == 6));
}

#[test]
fn direct_requests_pass_the_page_cache_by_and_agree_with_it() {
    let fs = Mounted::new();
    let data = pattern(4 * BLOCK, 9);
    fs::write(fs.at("f"), &data).unwrap();
    let direct = read_write().custom_flags(libc::O_DIRECT).open(fs.at("f")).unwrap();
    let cached = read_write().open(fs.at("f")).unwrap();
    let mut buffer = vec![0; 2 * BLOCK];
    for _ in 0..3 {
        let reads = fs.probe.count("read");
        direct.read_exact_at(&mut buffer, BLOCK as u64).unwrap();
        assert!(buffer == data[BLOCK..3 * BLOCK]);
        assert!(fs.probe.count("read") > reads, "every direct read is a request");
    }
    direct.write_all_at(&vec![0xdd; BLOCK], 0).unwrap();
    cached.read_exact_at(&mut buffer[..BLOCK], 0).unwrap();
    assert!(buffer[..BLOCK] == vec![0xdd; BLOCK]);
    cached.write_all_at(&vec![0xcc; BLOCK], 0).unwrap();
    direct.read_exact_at(&mut buffer[..BLOCK], 0).unwrap();
    assert!(buffer[..BLOCK] == vec![0xcc; BLOCK]);
}

/// In a process of its own: a mapping that is written back while it is taken down
/// holds the lock of its process's memory, and the file system is in this one.
#[test]
fn shared_mappings_write_through() {
    let fs = Mounted::new();
    fs.file("f", &pattern(3 * BLOCK, 1));
    let script = "\
import mmap, os, sys
path, block, flags = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
file = os.open(path, os.O_RDWR | flags)
plain = os.open(path, os.O_RDWR)
with mmap.mmap(file, 3 * block) as mapped:
    os.pwrite(plain, b'written', 10)
    assert mapped[10:17] == b'written', 'a write shows in the mapping'
    mapped[block:block + 6] = b'mapped'
    assert os.pread(plain, 6, block) == b'mapped', 'and the other way round'
    mapped.flush()
";
    for flags in [0, libc::O_DIRECT] {
        let mut python = std::process::Command::new("python3");
        python.args(["-c", script]).arg(fs.at("f"));
        python.args([BLOCK.to_string(), flags.to_string()]);
        let output = python.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (uid, place, size) = fs.probe.last_write().unwrap();
        assert_eq!((uid, place, size), (0, WriteAt::Offset(BLOCK as u64), BLOCK));
        let file = read_write().open(fs.at("f")).unwrap();
        file.write_all_at(&[b'-'; 6], BLOCK as u64).unwrap();
    }
}

#[test]
fn reserve_punch_zero_and_the_flags_that_are_not_there() {
    let fs = Mounted::new();
    let data = pattern(4 * BLOCK, 5);
    let file = fs.file("f", &data);
    let (block, len) = (BLOCK as u64, || file.metadata().unwrap().len());
    let keep = FallocateFlags::KEEP_SIZE;
    fallocate(&file, keep | FallocateFlags::PUNCH_HOLE, block, block).unwrap();
    let mut expected = data.clone();
    expected[BLOCK..2 * BLOCK].fill(0);
    assert!(fs::read(fs.at("f")).unwrap() == expected);
    assert_eq!(seek(&file, SeekFrom::Hole(0)).unwrap(), block);
    assert_eq!(seek(&file, SeekFrom::Data(block)).unwrap(), 2 * block);
    assert_eq!(seek(&file, SeekFrom::Hole(2 * block)).unwrap(), 4 * block, "the end is a hole");
    assert_eq!(errno_of(seek(&file, SeekFrom::Data(4 * block))), libc::ENXIO);
    assert_eq!(errno_of(seek(&file, SeekFrom::Hole(5 * block))), libc::ENXIO);

    fallocate(&file, FallocateFlags::ZERO_RANGE, 3 * block + 10, 2 * block).unwrap();
    expected.truncate(3 * BLOCK + 10);
    expected.resize(5 * BLOCK + 10, 0);
    assert!(fs::read(fs.at("f")).unwrap() == expected);
    fallocate(&file, keep, 0, 100 * block).unwrap();
    fallocate(&file, keep | FallocateFlags::ZERO_RANGE, 0, 100 * block).unwrap();
    assert_eq!(len(), 5 * block + 10);
    fallocate(&file, FallocateFlags::empty(), 0, 6 * block).unwrap();
    assert_eq!(len(), 6 * block);
    let collapse = fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, block);
    assert_eq!(errno_of(collapse), libc::EOPNOTSUPP);
}

#[test]
fn copies_stay_inside_the_file_system() {
    let fs = Mounted::new();
    let data = pattern(3 << 20, 8);
    let source = fs.file("source", &data);
    let target = fs.file("target", &[1; 100]);
    // The kernel must have forgotten nothing it cached of the target.
    assert_eq!(fs::read(fs.at("target")).unwrap(), [1; 100]);
    let (reads, writes) = (fs.probe.count("read"), fs.probe.count("write"));
    let (mut from, mut to, mut left) = (0, 50, data.len());
    while left > 0 {
        left -= copy_file_range(&source, Some(&mut from), &target, Some(&mut to), left).unwrap();
    }
    assert!(fs.probe.count("copy") > 0);
    assert_eq!((reads, writes), (fs.probe.count("read"), fs.probe.count("write")));
    let copied = fs::read(fs.at("target")).unwrap();
    assert!(copied[..50] == [1; 50] && copied[50..] == data);
    let past = copy_file_range(&source, Some(&mut (9 << 20)), &target, Some(&mut 0), 10);
    assert_eq!(past.unwrap(), 0);
    crate::support::sh(
        "cp \"$1\" \"$2\" && cmp \"$1\" \"$2\"",
        &[&fs.at("source"), &fs.at("third")],
    );
}

#[test]
fn removed_files_live_on_while_they_are_open() {
    let fs = Mounted::new();
    let file = fs.file("f", b"still here");
    fs::remove_file(fs.at("f")).unwrap();
    assert_eq!(errno(fs.at("f").metadata()), libc::ENOENT);
    let seen = file.metadata().unwrap();
    assert_eq!((seen.nlink(), seen.len()), (0, 10));
    file.write_all_at(b"and writable", 6).unwrap();
    file.set_permissions(Permissions::from_mode(0o600)).unwrap();
    let mut all = String::new();
    (&file).read_to_string(&mut all).unwrap();
    assert_eq!(all, "still and writable");
    file.sync_all().unwrap();
    // Replacing a name does the same to what it named.
    let old = fs.file("old", b"old");
    fs::write(fs.at("new"), b"new").unwrap();
    fs::rename(fs.at("new"), fs.at("old")).unwrap();
    let mut all = String::new();
    (&old).read_to_string(&mut all).unwrap();
    assert_eq!((all.as_str(), fs::read(fs.at("old")).unwrap()), ("old", b"new".to_vec()));
}

#[test]
fn handles_keep_what_they_were_opened_for() {
    let fs = Mounted::new();
    let file = fs.file("f", b"content");
    fs::set_permissions(fs.at("f"), Permissions::from_mode(0o0)).unwrap();
    file.write_all_at(b"C", 0).unwrap();
    if is_root() {
        assert_eq!(fs::read(fs.at("f")).unwrap(), b"Content");
    } else {
        assert_eq!(errno(File::open(fs.at("f"))), libc::EACCES);
    }
    // Created without any permission, and still usable by its creator.
    let mut mine = read_write().create_new(true).mode(0o0).open(fs.at("mine")).unwrap();
    mine.write_all(b"x").unwrap();
}

#[test]
fn syncing_says_what_and_how() {
    let fs = Mounted::with(|options| options.fsync = vfs::Stability::Uploaded);
    let file = fs.file("f", b"x");
    file.sync_all().unwrap();
    file.sync_data().unwrap();
    File::open(fs.root()).unwrap().sync_all().unwrap();
    let counts = ["sync file", "sync data", "sync directory"].map(|what| fs.probe.count(what));
    assert_eq!(counts, [1, 1, 1]);
    assert_eq!(fs.probe.last_sync(), Some(vfs::Stability::Uploaded));
    let synced = read_write().custom_flags(libc::O_DSYNC).open(fs.at("f")).unwrap();
    synced.write_all_at(b"y", 0).unwrap();
    assert!(fs.probe.count("sync data") + fs.probe.count("sync file") > 2, "O_DSYNC syncs");
    drop(synced);
    // What the documentation says about syncfs(2): it does not arrive.
    rustix::fs::syncfs(&file).unwrap();
    assert_eq!(fs.probe.count("sync volume"), 0);
}

#[test]
fn closing_hands_over_what_is_written_and_saves_nothing() {
    for writeback_cache in [false, true] {
        let fs = Mounted::with(|options| options.writeback_cache = writeback_cache);
        drop(fs.file("f", &pattern(3 * BLOCK, 2)));
        assert!(fs.probe.count("write") > 0, "written back at the latest when it is closed");
        let whats = ["sync file", "sync data", "sync directory", "sync volume"];
        assert_eq!(whats.map(|what| fs.probe.count(what)), [0; 4]);
    }
}

#[test]
fn the_write_back_cache_loses_nothing() {
    let fs = Mounted::with(|options| options.writeback_cache = true);
    // A write-only handle and half a page: the kernel has to read the rest.
    fs::write(fs.at("f"), pattern(3 * BLOCK, 2)).unwrap();
    crate::support::sh("echo 3 > /proc/sys/vm/drop_caches || true", &[]);
    let writer = File::options().write(true).open(fs.at("f")).unwrap();
    writer.write_all_at(b"middle", BLOCK as u64 + 100).unwrap();
    writer.sync_all().unwrap();
    let mut expected = pattern(3 * BLOCK, 2);
    expected[BLOCK + 100..BLOCK + 106].copy_from_slice(b"middle");
    assert!(fs::read(fs.at("f")).unwrap() == expected);
    // Small writes are gathered, and appends land where the kernel says.
    let writes = fs.probe.count("write");
    let mut log = File::options().append(true).create(true).open(fs.at("log")).unwrap();
    for line in 0..1000 {
        writeln!(log, "{line:07}").unwrap();
    }
    // Unwritten pages are data, whatever the file system thinks.
    assert_eq!(seek(&log, SeekFrom::Data(0)).unwrap(), 0);
    assert_eq!(seek(&log, SeekFrom::Hole(0)).unwrap(), 8000);
    log.sync_all().unwrap();
    assert!(fs.probe.count("write") - writes < 100);
    assert!(matches!(fs.probe.last_write(), Some((0, WriteAt::Late(_), _))));
    let text = fs::read_to_string(fs.at("log")).unwrap();
    assert_eq!((text.len(), text.lines().nth(999)), (8000, Some("0000999")));
}
