//! What is too much to be in memory at once: it is uploaded, taken in and merged in
//! pieces, and goes on where it was cut off.

use super::support::{World, cx, name, noise, read, run, write};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::sync::Arc;
use tgcryptfs::engine::{Engine, Error};
use tgcryptfs::store::{ErrorKind, Fault, FaultOp, FaultRule, FaultStore, MemoryStore};
use vfs::Stability::{Buffered, Journaled};
use vfs::{At, IfExists, Ino, OpenFlags, SetAttr, Vfs, WriteAt};

/// Files whose ops come to several pieces, and how long each is: its bytes are part of
/// the op.
const FILES: u64 = 1500;
const FILE_LEN: usize = 3000;

async fn write_many(engine: &Engine, seed: u64) {
    for file in 0..FILES {
        let data = noise(FILE_LEN, seed + file);
        write(engine, &format!("file {file}"), data, Buffered).await.unwrap();
    }
}

/// A number that the database of a machine answers, asked past the engine.
fn ask(world: &World, machine: &str, sql: &str) -> i64 {
    let db = Connection::open(world.settings(machine).state_dir.join("state.db")).unwrap();
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn an_upload_that_was_cut_off_between_pieces_is_brought_to_its_end() {
    run(async {
        let world = World::new().await;
        let a = world.open("a").await;
        write(&a, "first", b"there".to_vec(), Buffered).await.unwrap();
        a.sync().await.unwrap();
        let before = a.state_digest().unwrap();
        write_many(&a, 0).await;
        a.commit().await.unwrap();
        // The last row cannot be read: the pieces before it are signed already.
        let db = Connection::open(world.settings("a").state_dir.join("state.db")).unwrap();
        let last = "SELECT k, v FROM outbox ORDER BY k DESC LIMIT 1";
        let read_row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get(1)?));
        let (key, value): (i64, Vec<u8>) = db.query_row(last, [], read_row).unwrap();
        let put = "UPDATE outbox SET v = ?2 WHERE k = ?1";
        db.execute(put, rusqlite::params![key, vec![0_u8; value.len()]]).unwrap();
        a.sync().await.unwrap_err();
        let signed = ask(&world, "a", "SELECT count(*) FROM sending");
        let left = ask(&world, "a", "SELECT count(*) FROM outbox");
        assert!(signed > 0 && left > 0, "{signed} segments, {left} rows");
        assert_eq!(world.open("early").await.state_digest().unwrap(), before);
        db.execute(put, rusqlite::params![key, value]).unwrap();
        drop((a, db));
        let a = world.crash("a", "a again").await;
        write(&a, "last", b"there too".to_vec(), Buffered).await.unwrap();
        a.sync().await.unwrap();
        assert_eq!(ask(&world, "a again", "SELECT count(*) FROM sending"), 0);
        for machine in ["early", "late"] {
            let other = world.open(machine).await;
            assert_eq!(other.state_digest().unwrap(), a.state_digest().unwrap(), "{machine}");
            assert_eq!(read(&other, "file 1234").await.unwrap(), noise(FILE_LEN, 1234));
            assert_eq!(read(&other, "last").await.unwrap(), b"there too");
        }
    });
}

#[test]
fn a_long_batch_is_taken_in_piece_by_piece_and_goes_on_where_that_was_cut_off() {
    run(async {
        let faulty = Arc::new(FaultStore::new(Arc::new(MemoryStore::new()), 1));
        let world = World::on(faulty.clone()).await;
        world.open("b").await.close().await.unwrap();
        let known = world.names().await;
        let a = world.open("a").await;
        write_many(&a, 0).await;
        a.sync().await.unwrap();
        let wanted = a.state_digest().unwrap();
        let len_of_inodes = "SELECT sum(length(v)) FROM ino";
        let nothing = ask(&world, "b", len_of_inodes);
        let everything = ask(&world, "a", len_of_inodes);
        let mut cut_in_the_midst = 0;
        for gets in (0..).step_by(3) {
            let machine = format!("b{gets}");
            world.backup("b", &machine);
            let offline = Fault::Fail(ErrorKind::Offline);
            faulty.add(FaultRule::new(FaultOp::Get, offline).skip(gets));
            let opened = world.try_open(&machine).await;
            faulty.heal();
            if let Ok(b) = opened {
                assert_eq!(b.state_digest().unwrap(), wanted);
                break;
            }
            if (nothing + 1..everything).contains(&ask(&world, &machine, len_of_inodes)) {
                cut_in_the_midst += 1;
                // Half of a batch is not shown to anybody.
                for op in [FaultOp::Get, FaultOp::Size] {
                    let known = known.clone();
                    let is_new = move |name: &_| !known.contains(name);
                    faulty.add(FaultRule::new(op, Fault::Missing).matching(is_new));
                }
                let error = world.try_open(&machine).await.unwrap_err();
                let is_told = matches!(error, Error::Withheld { .. } | Error::Rollback { .. });
                assert!(is_told, "{error}");
                faulty.heal();
            }
            let b = world.open(&machine).await;
            assert_eq!(b.state_digest().unwrap(), wanted, "cut off behind {gets} reads");
        }
        assert!(cut_in_the_midst > 1, "no opening was cut off in the midst of the batch");
    });
}

#[test]
fn small_writes_are_merged_before_they_take_too_much_memory() {
    run(async {
        let world = World::new().await;
        let small = |settings: &mut tgcryptfs::engine::Settings| settings.memory_max = 32 << 20;
        let mut settings = world.settings("a");
        small(&mut settings);
        let patches_max = settings.patches_max();
        let a = world.open_with("a", small).await.unwrap();
        let (attr, flags) = (SetAttr::default(), Some(OpenFlags::READ_WRITE));
        let made = a.create(cx(), Ino::ROOT, name("f"), &attr, IfExists::Fail, flags).await;
        let file = made.unwrap().handle.unwrap();
        let mut model = BTreeMap::new();
        let mut merged = 0;
        for round in 0..30 {
            for piece in 0..100 {
                let number = round * 100 + piece;
                // One of each block, in an order that jumps about.
                let at = number * 7919 % 3000 * (64 << 10) + 100;
                let data = noise(4096, number);
                model.insert(at, data.clone());
                let data = bytes::Bytes::from(data).into();
                let at = WriteAt::Offset(at);
                a.write(cx(), At::Open(&file), at, data, Buffered).await.unwrap();
            }
            a.commit().await.unwrap();
            let kept = ask(&world, "a", "SELECT coalesce(sum(length(v)), 0) FROM patch");
            assert!(kept < (patches_max + (1 << 20)) as i64, "{kept} bytes of patches");
            merged += u32::from(kept == 0);
        }
        assert!(merged > 0, "nothing was merged");
        let a = world.crash("a", "crashed").await;
        let found = a.lookup(cx(), Ino::ROOT, name("f")).await.unwrap();
        let file = a.open(cx(), found.attr.ino, OpenFlags::READ).await.unwrap();
        for (at, data) in model {
            let read = a.read(cx(), At::Open(&file), at, data.len() as u32).await.unwrap();
            assert_eq!(read.data.into_contiguous(), data);
        }
    });
}

#[test]
fn changes_that_nobody_saves_are_saved_before_they_become_too_many() {
    run(async {
        let world = World::new().await;
        let a = world.open("a").await;
        for file in 0..40_000 {
            let attr = SetAttr::default();
            let file = format!("{file}");
            a.create(cx(), Ino::ROOT, name(&file), &attr, IfExists::Fail, None).await.unwrap();
        }
        let saved = ask(&world, "a", "SELECT count(*) FROM ino");
        assert!(saved > 30_000, "{saved} inodes are saved");
        write(&a, "f", b"x".to_vec(), Journaled).await.unwrap();
        let inodes = a.status().inodes;
        let crashed = world.crash("a", "crashed").await;
        assert_eq!(crashed.status().inodes, inodes);
    });
}
