//! What programs do with files that the suite has no words for: mappings, direct
//! requests, appends from several sides, a database, and the next mount of it all.

use super::support::{Mounted, Vault, sh};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;

const PAGE: usize = 4096;
/// More than one block, and no whole number of them.
const LEN: usize = (3 << 16) + 2 * PAGE + 77;

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ seed).collect()
}

fn read_write() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

/// A file that is there and open.
fn file(fs: &Mounted<'_>, name: &str, content: &[u8]) -> File {
    let file = read_write().create_new(true).open(fs.at(name)).unwrap();
    file.write_all_at(content, 0).unwrap();
    file
}

/// Where mappings are changed: in several blocks and across a border.
fn places(len: usize) -> [usize; 4] {
    [0, (1 << 16) - 10, (2 << 16) + 123, len - 20]
}

/// Changes part of a file through a shared mapping. In a process of its own: a
/// mapping that is written back while it is taken down holds the lock of its
/// process's memory, and the file system is in this one.
fn change_by_mapping(path: &Path, data: &mut [u8], seed: u8, syncs: bool) {
    let script = "\
import mmap, sys
path, part, syncs, places = sys.argv[1], bytes.fromhex(sys.argv[2]), sys.argv[3], sys.argv[4:]
with open(path, 'r+b') as file, mmap.mmap(file.fileno(), 0) as mapped:
    before = file.read()
    assert mapped[:] == before
    for place in map(int, places):
        mapped[place:place + len(part)] = part
    if syncs == 'true':
        mapped.flush()
";
    let part = pattern(20, seed);
    let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(path).args([hex, syncs.to_string()]);
    for start in places(data.len()) {
        python.arg(start.to_string());
        data[start..start + part.len()].copy_from_slice(&part);
    }
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_was_written_through_a_mapping_is_there_after_a_remount() {
    let vault = Vault::new();
    let mut data = pattern(LEN, 1);
    let fs = vault.mount();
    let open = file(&fs, "f", &data);
    change_by_mapping(&fs.at("f"), &mut data, 2, true);
    let mut seen = vec![0; LEN];
    open.read_exact_at(&mut seen, 0).unwrap();
    assert!(seen == data, "read(2) after the mapping");
    // Not even written back when the file is closed.
    change_by_mapping(&fs.at("f"), &mut data, 3, false);
    drop(open);
    fs.end();
    for round in 0..2 {
        let fs = vault.mount();
        assert!(fs::read(fs.at("f")).unwrap() == data, "after remount {round}");
        fs.end();
    }
}

#[test]
fn what_was_synced_through_a_mapping_survives_a_crash() {
    let vault = Vault::new();
    let mut data = pattern(LEN, 1);
    let fs = vault.mount();
    let open = file(&fs, "f", &data);
    change_by_mapping(&fs.at("f"), &mut data, 2, true);
    // The file's name is in its directory by the same sync.
    assert!(vault.after_a_crash(|fs| fs::read(fs.at("f")).unwrap()) == data);
    drop(open);
    fs.end();
}

#[test]
fn direct_requests_agree_with_cached_ones_and_with_the_engine() {
    let vault = Vault::new();
    let fs = vault.mount();
    let mut data = pattern(LEN, 9);
    drop(file(&fs, "f", &data));
    let direct = read_write().custom_flags(libc::O_DIRECT).open(fs.at("f")).unwrap();
    let cached = read_write().open(fs.at("f")).unwrap();
    let mut seen = vec![0; LEN];
    for round in 0..8_usize {
        // Across a border between blocks, each time somewhere else.
        let start = (round % 3 * (1 << 16)) + (15 - round) * PAGE;
        let part = pattern(2 * PAGE, round as u8);
        let writer = if round % 2 == 0 { &direct } else { &cached };
        writer.write_all_at(&part, start as u64).unwrap();
        data[start..start + part.len()].copy_from_slice(&part);
        for reader in [&cached, &direct] {
            reader.read_exact_at(&mut seen, 0).unwrap();
            assert!(seen == data, "round {round}");
        }
    }
    // Appended directly, behind an end that is no whole page.
    let appending = OpenOptions::new().append(true).custom_flags(libc::O_DIRECT).open(fs.at("f"));
    appending.unwrap().write_all(&pattern(PAGE, 77)).unwrap();
    data.extend(pattern(PAGE, 77));
    assert!(fs::read(fs.at("f")).unwrap() == data);
    drop((direct, cached));
    fs.end();
    let fs = vault.mount();
    assert!(fs::read(fs.at("f")).unwrap() == data, "after a remount");
    fs.end();
}

#[test]
fn lines_appended_from_several_sides_are_whole() {
    let vault = Vault::new();
    let fs = vault.mount();
    let log = || OpenOptions::new().append(true).create(true).open(fs.at("log")).unwrap();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let mut log = log();
            scope.spawn(move || {
                for line in 0..500 {
                    let end = "x".repeat(line % 50);
                    log.write_all(format!("{worker} {line:04} {end}\n").as_bytes()).unwrap();
                }
            });
        }
    });
    let check = |text: &str| {
        for worker in 0..4 {
            let own = text.lines().filter(|line| line.starts_with(&format!("{worker} ")));
            let expected =
                (0..500).map(|line| format!("{worker} {line:04} {}", "x".repeat(line % 50)));
            assert!(own.eq(expected), "the lines of worker {worker}, in order");
        }
        assert_eq!(text.lines().count(), 2000);
    };
    check(&fs::read_to_string(fs.at("log")).unwrap());
    fs.end();
    let fs = vault.mount();
    check(&fs::read_to_string(fs.at("log")).unwrap());
    fs.end();
}

#[test]
fn a_removed_file_lives_until_it_is_closed_and_then_gives_its_room_back() {
    let vault = Vault::new();
    let fs = vault.mount();
    let data = pattern(2 << 20, 5);
    let open = file(&fs, "f", &data);
    fs::remove_file(fs.at("f")).unwrap();
    assert_eq!(open.metadata().unwrap().nlink(), 0);
    open.write_all_at(b"more", data.len() as u64).unwrap();
    open.sync_all().unwrap();
    let mut seen = vec![0; data.len()];
    open.read_exact_at(&mut seen, 0).unwrap();
    assert!(seen == data);
    open.set_len(10).unwrap();
    assert_eq!(open.metadata().unwrap().len(), 10);
    // Another may have the name meanwhile, and is not the same.
    fs::write(fs.at("f"), "other").unwrap();
    open.read_exact_at(&mut seen[..10], 0).unwrap();
    assert_eq!(seen[..10], data[..10]);
    drop(open);
    fs.end();
    let fs = vault.mount();
    assert_eq!(fs::read(fs.at("f")).unwrap(), b"other");
    assert_eq!(fs::read_dir(fs.root()).unwrap().count(), 1);
    let stat = rustix::fs::statvfs(fs.root()).unwrap();
    let used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize;
    assert!(used < 1 << 20, "{used} bytes are in use");
    fs.check();
    fs.end();
}

#[test]
fn opening_to_cut_cuts_whatever_it_is_opened_for() {
    let vault = Vault::new();
    let fs = vault.mount();
    for flags in [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR] {
        fs::write(fs.at("f"), "data").unwrap();
        let path = std::ffi::CString::new(fs.at("f").into_os_string().into_encoded_bytes());
        let flags = rustix::fs::OFlags::from_bits_retain(flags as u32);
        let cut = flags | rustix::fs::OFlags::TRUNC;
        let open = rustix::fs::open(path.unwrap(), cut, rustix::fs::Mode::empty()).unwrap();
        drop(open);
        assert_eq!(fs.at("f").metadata().unwrap().len(), 0, "{flags:?}");
        // What was cut is gone, not only out of sight.
        read_write().open(fs.at("f")).unwrap().set_len(4).unwrap();
        assert_eq!(fs::read(fs.at("f")).unwrap(), [0; 4], "{flags:?}");
    }
    fs.end();
}

#[test]
fn a_database_works_and_is_whole_after_a_remount() {
    // In a process of its own: SQLite holds a lock of the whole process while it opens a
    // file, and the engine, which has to answer, is a user of SQLite too.
    let fill = "sqlite3 -bail \"$1\" <<'END'
        PRAGMA journal_mode = MODE;
        CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
            INSERT INTO t SELECT i, printf('%.*c', i, 'x') FROM n;
        BEGIN; DELETE FROM t; ROLLBACK;
        UPDATE t SET text = text || 'y' WHERE n % 3 = 0;
END";
    let ask = "sqlite3 -bail \"$1\" \
        'PRAGMA integrity_check; SELECT count(*), sum(length(text)) FROM t'";
    let expected = "ok\n500|125416";
    let vault = Vault::new();
    for mode in ["wal", "delete"] {
        let fs = vault.mount();
        let path = fs.at(format!("{mode}.db"));
        assert_eq!(sh(&fill.replace("MODE", mode), &path), mode);
        assert_eq!(sh(ask, &path), expected, "{mode}");
        fs.end();
        let fs = vault.mount();
        assert_eq!(sh(ask, &path), expected, "{mode}, after a remount");
        fs.end();
    }
}

#[test]
fn df_shows_the_disk_of_the_store() {
    let vault = Vault::new();
    let fs = vault.mount();
    let columns = || -> Vec<u64> {
        let script = "df -B1 --output=size,used,avail \"$1\" | tail -n 1";
        let line = sh(script, fs.root());
        line.split_whitespace().map(|number| number.parse().unwrap()).collect()
    };
    let disk = rustix::fs::statvfs(vault.store_path()).unwrap();
    let before = columns();
    let [size, used, available] = before[..] else { panic!("{before:?}") };
    let expected = disk.f_bavail * disk.f_frsize;
    assert!(available.abs_diff(expected) < expected / 10, "{available} of {expected}");
    assert!(used < 1 << 20 && size >= available, "{before:?}");
    fs::write(fs.at("f"), pattern(8 << 20, 1)).unwrap();
    File::open(fs.at("f")).unwrap().sync_all().unwrap();
    let after = columns();
    assert!((8 << 20..9 << 20).contains(&after[1]), "{after:?}");
    fs.end();
}

#[test]
fn a_sync_of_everything_beside_removals_has_nothing_to_complain_of() {
    let vault = Vault::new();
    let fs = vault.mount_with(|options| options.writeback_cache = true);
    let root = File::open(fs.root()).unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The kernel keeps the time of the last write, and may come to write it back only
        // when the file is gone.
        scope.spawn(|| {
            for round in 0..2000 {
                let name = fs.at(format!("file-{}", round % 8));
                fs::write(&name, "data").unwrap();
                fs::remove_file(&name).unwrap();
            }
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
            rustix::fs::syncfs(&root).unwrap();
        }
    });
    drop(root);
    fs.end();
}
