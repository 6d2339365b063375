//! Single promises of `docs/SEMANTICS.md` that nothing else shows.

use super::support::{World, cx, name, noise, read, run};
use bytes::Bytes;
use std::sync::Arc;
use tgcryptfs::engine::{Engine, Handle, Silent};
use tgcryptfs::store::{self, FaultStore, MemoryStore};
use vfs::{
    At, ErrorKind, IfExists, Ino, OpenFlags, Result, Scope, SetAttr, Stability, Vfs, WriteAt,
};

async fn create(engine: &Engine, file: &str) -> Result<Handle> {
    let flags = Some(OpenFlags::READ_WRITE);
    let attr = SetAttr::default();
    let made = engine.create(cx(), Ino::ROOT, name(file), &attr, IfExists::Fail, flags).await?;
    Ok(made.handle.unwrap())
}

async fn append(engine: &Engine, file: &Handle, data: Vec<u8>, wanted: Stability) -> Result<()> {
    let (at, data) = (At::Open(file), Bytes::from(data).into());
    engine.write(cx(), at, WriteAt::End, data, wanted).await.map(drop)
}

async fn file(engine: &Engine, file: &str, data: Vec<u8>, wanted: Stability) -> Handle {
    let handle = create(engine, file).await.unwrap();
    append(engine, &handle, data, wanted).await.unwrap();
    handle
}

#[test]
fn times_set_beside_new_content_reach_other_machines() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        let time = |seconds| vfs::Timestamp { seconds, nanoseconds: 5 };
        let sets = |seconds| SetAttr {
            mtime: Some(vfs::SetTime::To(time(seconds))),
            ..SetAttr::default()
        };
        let fsync = async |file: &Handle| {
            let scope = Scope::Range { file: At::Open(file), offset: 0, len: 0, data_only: false };
            Vfs::sync(&engine, cx(), scope, Stability::Journaled).await.unwrap();
        };
        // Of one the time is set while its content is new, of the others beside small writes
        // that are saved already, and while nothing waits to be told.
        let names = ["new", "patched", "closed", "told"];
        let mut files = Vec::new();
        for (seed, name) in names.iter().enumerate() {
            files.push(file(&engine, name, noise(300_000, seed as u64), Stability::Buffered).await);
        }
        engine.sync().await.unwrap();
        for file in &files[..3] {
            append(&engine, file, b"more".to_vec(), Stability::Buffered).await.unwrap();
        }
        for file in &files[1..3] {
            fsync(file).await;
        }
        let closed = files.remove(2);
        let ino = engine.lookup(cx(), Ino::ROOT, name("closed")).await.unwrap().attr.ino;
        drop(closed);
        append(&engine, &files[0], b"and more".to_vec(), Stability::Buffered).await.unwrap();
        for (seconds, file) in (100..).zip(&files) {
            engine.setattr(cx(), At::Open(file), &sets(seconds)).await.unwrap();
        }
        engine.setattr(cx(), At::Ino(ino), &sets(200)).await.unwrap();
        engine.sync().await.unwrap();
        let other = world.open("b").await;
        for (name_of, seconds) in [("new", 100), ("patched", 101), ("told", 102), ("closed", 200)] {
            let seen = other.lookup(cx(), Ino::ROOT, name(name_of)).await.unwrap().attr;
            let here = engine.lookup(cx(), Ino::ROOT, name(name_of)).await.unwrap().attr;
            assert_eq!((seen.mtime, seen.ctime), (time(seconds), here.ctime), "{name_of}");
        }
    });
}

#[test]
fn an_fsync_keeps_all_that_was_done_before_it() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        for i in 0..100 {
            file(&engine, &format!("{i}"), noise(5000, i), Stability::Buffered).await;
        }
        let last = create(&engine, "last").await.unwrap();
        let scope = Scope::Range { file: At::Open(&last), offset: 0, len: 0, data_only: true };
        Vfs::sync(&engine, cx(), scope, Stability::Journaled).await.unwrap();
        for i in 100..200 {
            file(&engine, &format!("{i}"), noise(5000, i), Stability::Buffered).await;
        }
        let after = world.crash("a", "b").await;
        for i in 0..100 {
            assert_eq!(read(&after, &format!("{i}")).await.unwrap(), noise(5000, i));
        }
        assert_eq!(read(&after, "last").await.unwrap(), b"");
        assert_eq!(after.status().inodes, 102, "the root, a hundred files, the last, no more");
    });
}

#[test]
fn a_new_machine_sees_what_was_synced_and_nothing_later() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        file(&engine, "synced", noise(300_000, 1), Stability::Buffered).await;
        engine.sync().await.unwrap();
        file(&engine, "later", noise(300_000, 2), Stability::Journaled).await;
        let fresh = world.open("fresh").await;
        assert_eq!(read(&fresh, "synced").await.unwrap(), noise(300_000, 1));
        assert_eq!(read(&fresh, "later").await.unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn with_durability_uploaded_a_sync_reaches_the_store() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        let handle = file(&engine, "f", noise(300_000, 1), Stability::Buffered).await;
        let scope = Scope::Range { file: At::Open(&handle), offset: 0, len: 0, data_only: false };
        Vfs::sync(&engine, cx(), scope, Stability::Uploaded).await.unwrap();
        let fresh = world.open("fresh").await;
        assert_eq!(read(&fresh, "f").await.unwrap(), noise(300_000, 1));
    });
}

#[test]
fn an_open_file_without_a_name_is_gone_after_a_crash() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        let handle = file(&engine, "f", noise(300_000, 1), Stability::Journaled).await;
        engine.unlink(cx(), Ino::ROOT, name("f")).await.unwrap();
        append(&engine, &handle, noise(300_000, 2), Stability::Journaled).await.unwrap();
        let after = world.crash("a", "b").await;
        assert_eq!(read(&after, "f").await.unwrap_err().kind(), ErrorKind::NotFound);
        let gone = after.getattr(cx(), At::Ino(handle.ino())).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::Stale);
        let report = after.fsck(&Silent).await.unwrap();
        assert_eq!(report.problems, [""; 0]);
    });
}

#[test]
fn the_quota_has_an_error_of_its_own_and_removing_makes_room() {
    run(async {
        let world = World::new().await;
        let engine =
            world.open_with("a", |settings| settings.quota_bytes = Some(1 << 20)).await.unwrap();
        let handle = file(&engine, "f", noise(1 << 20, 1), Stability::Journaled).await;
        let more = append(&engine, &handle, vec![1], Stability::Buffered).await;
        assert_eq!(more.unwrap_err().kind(), ErrorKind::Quota);
        let stat = engine.statfs(cx()).await.unwrap();
        assert_eq!((stat.bytes_total, stat.bytes_free), (1 << 20, 0));
        assert_eq!(read(&engine, "f").await.unwrap(), noise(1 << 20, 1));
        drop(handle);
        engine.unlink(cx(), Ino::ROOT, name("f")).await.unwrap();
        engine.commit().await.unwrap();
        file(&engine, "g", noise(1 << 19, 2), Stability::Journaled).await;
        assert_eq!(engine.statfs(cx()).await.unwrap().bytes_free, 1 << 19);
    });
}

#[test]
fn a_read_only_engine_changes_nothing() {
    run(async {
        let world = World::new().await;
        let engine = world.open("a").await;
        file(&engine, "f", b"data".to_vec(), Stability::Buffered).await;
        engine.close().await.unwrap();
        drop(engine);
        let before = world.store.list("").await.unwrap();
        let engine = world.open_with("a", |settings| settings.read_only = true).await.unwrap();
        let ino = engine.lookup(cx(), Ino::ROOT, name("f")).await.unwrap().attr.ino;
        assert_eq!(read(&engine, "f").await.unwrap(), b"data");
        let kinds = [
            create(&engine, "g").await.unwrap_err().kind(),
            engine.open(cx(), ino, OpenFlags::READ_WRITE).await.unwrap_err().kind(),
            engine.unlink(cx(), Ino::ROOT, name("f")).await.unwrap_err().kind(),
            engine.setattr(cx(), At::Ino(ino), &SetAttr::default()).await.unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::ReadOnly; 4]);
        engine.close().await.unwrap();
        assert_eq!(world.store.list("").await.unwrap(), before);
    });
}

#[test]
fn without_the_store_writing_and_fsync_go_on() {
    run(async {
        let faulty = Arc::new(FaultStore::new(Arc::new(MemoryStore::new()), 1));
        let world = World::on(faulty.clone()).await;
        let engine = world.open("a").await;
        file(&engine, "before", noise(300_000, 1), Stability::Buffered).await;
        engine.sync().await.unwrap();
        faulty.set_outage(Some(store::ErrorKind::Offline));
        file(&engine, "during", noise(300_000, 2), Stability::Journaled).await;
        assert_eq!(read(&engine, "before").await.unwrap(), noise(300_000, 1));
        assert_eq!(read(&engine, "during").await.unwrap(), noise(300_000, 2));
        let refused = Vfs::sync(&engine, cx(), Scope::Volume, Stability::Uploaded).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
        let status = engine.status();
        assert!(status.last_error.is_some() && status.dirty_bytes > 0, "{status:?}");
        faulty.set_outage(None);
        Vfs::sync(&engine, cx(), Scope::Volume, Stability::Uploaded).await.unwrap();
        let status = engine.status();
        assert_eq!((status.last_error, status.dirty_bytes), (None, 0));
        let fresh = world.open("fresh").await;
        assert_eq!(read(&fresh, "during").await.unwrap(), noise(300_000, 2));
    });
}
