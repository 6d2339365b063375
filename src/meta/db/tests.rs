//! Patches and their order: whoever has the file changes it, and what older builds wrote.

use super::{Db, Error, Key, Result, Table};
use crate::crypto::Key32;
use crate::env::Env;
use rusqlite::Connection;
use std::path::Path;

const INO: u64 = 7;
const BLOCK: u64 = 3;

fn open(dir: &Path) -> Result<Db> {
    Db::open(dir, &Key32::copy_of(&[1; 32]), Env::real())
}

/// The file as whoever has the disk sees it.
fn raw(dir: &Path) -> Connection {
    Connection::open(dir.join("state.db")).unwrap()
}

fn version(dir: &Path) -> i64 {
    raw(dir).pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

fn sealed(dir: &Path) -> Vec<(i64, Vec<u8>)> {
    let db = raw(dir);
    let mut select = db.prepare("SELECT id, v FROM patch ORDER BY id").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(std::result::Result::unwrap).collect()
}

fn patches(dir: &Path, ino: u64) -> Result<Vec<(i64, u64, Vec<u8>)>> {
    open(dir)?.reader()?.patches(ino)
}

fn expected(id: i64, block: u64, value: &str) -> (i64, u64, Vec<u8>) {
    (id, block, value.as_bytes().to_vec())
}

#[track_caller]
fn assert_refused<T>(result: Result<T>, what: &str) {
    let error = result.map(drop).unwrap_err();
    assert!(matches!(error, Error::Seal { table: "patch" }), "{what}: {error}");
    assert!(error.is_damaged(), "{what}: {error}");
}

/// Two patches of one block.
fn two_patches(dir: &Path) {
    let db = open(dir).unwrap();
    db.write(|txn| {
        assert_eq!(txn.add_patch(INO, BLOCK, b"earlier")?, 1);
        assert_eq!(txn.add_patch(INO, BLOCK, b"later")?, 2);
        Ok(())
    })
    .unwrap();
}

const EXCHANGE: &str = "CREATE TEMP TABLE held AS SELECT id, v FROM patch;
    UPDATE patch SET v = (SELECT held.v FROM held WHERE held.id <> patch.id);";

#[test]
fn patches_that_changed_places_are_refused() {
    let attacks = [
        EXCHANGE,
        "UPDATE patch SET id = 9 WHERE id = 1",
        "UPDATE patch SET id = 0 WHERE id = 2",
        "INSERT INTO patch (id, ino, block, v) SELECT 3, ino, block, v FROM patch WHERE id = 1",
        "UPDATE patch SET block = 4 WHERE id = 2",
    ];
    for attack in attacks {
        let dir = tempfile::tempdir().unwrap();
        two_patches(dir.path());
        let both = [expected(1, BLOCK, "earlier"), expected(2, BLOCK, "later")];
        assert_eq!(patches(dir.path(), INO).unwrap(), both);
        raw(dir.path()).execute_batch(attack).unwrap();
        assert_refused(patches(dir.path(), INO), attack);
    }
}

#[test]
fn rows_of_patches_go_on_behind_the_last() {
    let dir = tempfile::tempdir().unwrap();
    two_patches(dir.path());
    let db = open(dir.path()).unwrap();
    db.write(|txn| {
        txn.delete_patch(1)?;
        assert_eq!(txn.add_patch(INO + 1, 0, b"another")?, 3);
        Ok(())
    })
    .unwrap();
    drop(db);
    assert_eq!(patches(dir.path(), INO).unwrap(), [expected(2, BLOCK, "later")]);
    assert_eq!(patches(dir.path(), INO + 1).unwrap(), [expected(3, 0, "another")]);
    // SQLite would choose any number that is free: no order at all.
    let last = format!("UPDATE patch SET id = {} WHERE id = 3", i64::MAX);
    raw(dir.path()).execute_batch(&last).unwrap();
    let db = open(dir.path()).unwrap();
    assert_refused(db.write(|txn| txn.add_patch(INO, BLOCK, b"anywhere")), "no number left");
}

/// Makes a database of the first version, whose patches were bound to file and block only.
fn first_version(dir: &Path, patches: &[(i64, u64, u64, &str)]) {
    let db = open(dir).unwrap();
    db.write(|txn| {
        for (id, ino, block, value) in patches {
            let place = [ino.to_be_bytes(), block.to_be_bytes()].concat();
            let sealed = txn.seal.seal(Table::Patch, Key::Bytes(&place), value.as_bytes());
            let insert = "INSERT INTO patch (id, ino, block, v) VALUES (?1, ?2, ?3, ?4)";
            let (ino, block) = (*ino as i64, *block as i64);
            let done = txn.connection.execute(insert, rusqlite::params![id, ino, block, sealed]);
            assert_eq!(done.unwrap(), 1);
        }
        txn.put(Table::Ino, Key::ino(INO), b"an inode")
    })
    .unwrap();
    drop(db);
    raw(dir).pragma_update(None, "user_version", 1).unwrap();
}

#[test]
fn a_database_of_the_first_version_is_brought_up() {
    let dir = tempfile::tempdir().unwrap();
    let older = [(3, INO, 0, "earlier"), (4, 8, 2, "elsewhere"), (9, INO, 0, "later")];
    first_version(dir.path(), &older);
    let before = sealed(dir.path());
    // The second time it is of this version.
    for _ in 0..2 {
        let db = open(dir.path()).unwrap();
        let reader = db.reader().unwrap();
        let both = [expected(3, 0, "earlier"), expected(9, 0, "later")];
        assert_eq!(reader.patches(INO).unwrap(), both);
        assert_eq!(reader.patches(8).unwrap(), [expected(4, 2, "elsewhere")]);
        let inode = reader.get(Table::Ino, Key::ino(INO)).unwrap();
        assert_eq!(inode.as_deref(), Some(&b"an inode"[..]));
        assert_eq!(version(dir.path()), 2);
    }
    for ((id, old), (_, new)) in before.iter().zip(sealed(dir.path())) {
        assert!(*old != new, "row {id} was left as it was");
    }
    let move_behind = "UPDATE patch SET id = 10 WHERE id = 3";
    raw(dir.path()).execute_batch(move_behind).unwrap();
    assert_refused(patches(dir.path(), INO), move_behind);
}

#[test]
fn an_older_database_with_a_damaged_patch_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    first_version(dir.path(), &[(1, INO, 0, "one"), (2, INO, 0, "two")]);
    let damage = "UPDATE patch SET v = zeroblob(length(v)) WHERE id = 2";
    raw(dir.path()).execute_batch(damage).unwrap();
    let before = sealed(dir.path());
    for _ in 0..2 {
        assert_refused(open(dir.path()), damage);
        assert_eq!(version(dir.path()), 1);
        assert!(sealed(dir.path()) == before);
    }
}

#[test]
fn a_database_does_not_pass_for_an_older_one() {
    for said in [1, 0, -1] {
        for attack in ["", EXCHANGE] {
            let dir = tempfile::tempdir().unwrap();
            two_patches(dir.path());
            let db = raw(dir.path());
            db.execute_batch(attack).unwrap();
            db.pragma_update(None, "user_version", said).unwrap();
            drop(db);
            assert_refused(open(dir.path()), attack);
        }
    }
}
