//! The local database: sealed rows, and its files with anything changed in them. A row
//! that opens is the one that was put at its place.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::fs;
use std::sync::LazyLock;
use tgcryptfs::codec::Reader;
use tgcryptfs::crypto::Key32;
use tgcryptfs::env::Env;
use tgcryptfs::meta::db::{self, Db, Key, RowSeal, Table};
use tgcryptfs_fuzz::scratch_dir;

/// Rows of each table in the database that is changed.
const ROWS: i64 = 3;
/// The block that each patch is filed under.
const BLOCK: u64 = 5;

static KEY: LazyLock<Key32> = LazyLock::new(|| Key32::copy_of(&[1; 32]));
/// The seals of two sessions, of which the later knows the earlier.
static SEALS: LazyLock<[RowSeal; 2]> = LazyLock::new(|| {
    let sessions = [(1, vec![7; 16]), (2, vec![9; 16])];
    [1, 2].map(|session| RowSeal::new(&KEY, &sessions, session, Env::simulated(6).0))
});

fn key_of(table: Table, number: i64) -> Vec<u8> {
    match is_numbered(table) {
        true => number.to_be_bytes().to_vec(),
        false => vec![number as u8; 24],
    }
}

fn is_numbered(table: Table) -> bool {
    use Table::{Ino, OpenDir, Orphan, Outbox, Sending, Single};
    matches!(table, Single | Ino | Outbox | Sending | OpenDir | Orphan)
}

fn value_of(table: Table, number: i64) -> Vec<u8> {
    format!("{} {number}", table.name()).into_bytes()
}

/// The files of a database.
struct Files {
    /// The database when it is closed: there is no log.
    closed: Vec<u8>,
    /// What it is, and its log, as long as it is open.
    open: (Vec<u8>, Vec<u8>),
}

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let dir = scratch_dir();
    let db = Db::open(dir.path(), &KEY, Env::simulated(6).0).expect("a new database");
    db.write(fill).expect("a new database");
    let read = |name: &str| fs::read(dir.path().join(name)).expect("it was just written");
    let open = (read("state.db"), read("state.db-wal"));
    drop(db);
    Files { closed: read("state.db"), open }
});

fn fill(txn: &db::Txn<'_>) -> db::Result<()> {
    for number in 1..=ROWS {
        for table in Table::ALL.into_iter().filter(|table| *table != Table::Patch) {
            let (key, value) = (key_of(table, number), value_of(table, number));
            match is_numbered(table) {
                true => txn.put(table, Key::Int(number), &value)?,
                false => txn.put(table, Key::Bytes(&key), &value)?,
            }
        }
        txn.add_patch(number as u64, BLOCK, &value_of(Table::Patch, number))?;
    }
    Ok(())
}

/// Puts bytes in other places: place, length, bytes, and so on.
fn change(file: &mut [u8], input: &[u8]) {
    let mut r = Reader::new(input);
    while let (Ok(place), Ok(len)) = (r.u32("place"), r.u8("length")) {
        let Ok(bytes) = r.raw("bytes", usize::from(len).min(r.left())) else { return };
        let place = place as usize % file.len();
        let end = file.len().min(place + bytes.len());
        file[place..end].copy_from_slice(&bytes[..end - place]);
    }
}

/// Whether `row` is what was put at `key`.
fn is_ours(table: Table, key: &[u8], row: &[u8]) -> bool {
    (1..=ROWS).any(|number| key_of(table, number) == key && value_of(table, number) == row)
}

/// Reads everything there is; an error may end it anywhere.
fn read_all(db: &Db) -> db::Result<()> {
    let reader = db.reader()?;
    for table in Table::ALL.into_iter().filter(|table| *table != Table::Patch) {
        let (first, last) = (key_of(table, 0), [0xff; 24]);
        let rows = match is_numbered(table) {
            true => reader.range(table, Key::Int(i64::MIN), Key::Int(i64::MAX), 10),
            false => reader.range(table, Key::Bytes(&first[..1]), Key::Bytes(&last), 10),
        };
        let rows = rows.unwrap_or_default();
        assert!(rows.iter().all(|(key, row)| is_ours(table, key, row)));
        let scanned = reader.scan::<db::Error>(table, |key, row| {
            assert!(is_ours(table, key, row));
            Ok(())
        });
        let piece = is_numbered(table).then(|| reader.piece(table, (0, ROWS), 20));
        let numbers = (reader.count(table), reader.bytes_in(table), scanned.is_ok());
        if let (Some(Ok(piece)), (Ok(count), Ok(_), true)) = (piece, numbers) {
            assert!(piece.len() as u64 <= count);
        }
        let found = match is_numbered(table) {
            true => reader.get(table, Key::Int(1)),
            false => reader.get(table, Key::Bytes(&key_of(table, 1))),
        };
        if let Ok(Some(row)) = found {
            assert_eq!(row, value_of(table, 1));
        }
    }
    for ino in 1..=ROWS as u64 {
        let patches = reader.patches(ino).unwrap_or_default();
        let value = value_of(Table::Patch, ino as i64);
        assert!(patches.iter().all(|(_, block, row)| *block == BLOCK && *row == value));
    }
    drop((reader.patched_inodes(), reader.last_key(Table::Ino), reader.check_file()));
    reader.snapshot(|reader| reader.get(Table::Ino, Key::ino(2)).map(drop))
}

fn files(file: &[u8], log: Option<&[u8]>) {
    let dir = scratch_dir();
    fs::write(dir.path().join("state.db"), file).expect("room in memory");
    if let Some(log) = log {
        fs::write(dir.path().join("state.db-wal"), log).expect("room in memory");
    }
    let Ok(db) = Db::open(dir.path(), &KEY, Env::simulated(7).0) else { return };
    let read = read_all(&db);
    let written = db.write(fill).and_then(|()| db.clear());
    if let Err(error) = read.and(written) {
        assert!(!error.is_full() && !error.to_string().is_empty());
    }
}

fn sealed(table: Table, input: &[u8]) {
    let Some((place, row)) = input.split_first_chunk::<8>() else { return };
    let key = Key::Bytes(place);
    assert!(SEALS[1].open(table, key, row).is_err());
    for seal in &*SEALS {
        let sealed = seal.seal(table, key, row);
        assert_eq!(SEALS[1].open(table, key, &sealed).ok().as_deref(), Some(row));
        let other = Table::ALL[(table as usize + 1) % Table::ALL.len()];
        assert!(SEALS[1].open(other, key, &sealed).is_err());
        assert!(SEALS[1].open(table, Key::Bytes(row), &sealed).is_err() || row == place);
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&which, input)) = input.split_first() else { return };
    match which {
        0 => {
            let mut file = FILES.closed.clone();
            change(&mut file, input);
            files(&file, None);
        }
        1 => {
            let (file, mut log) = FILES.open.clone();
            change(&mut log, input);
            files(&file, Some(&log));
        }
        // Nothing of ours.
        2 => files(input, None),
        3 => files(&FILES.closed, Some(input)),
        which => sealed(Table::ALL[usize::from(which) % Table::ALL.len()], input),
    }
});
