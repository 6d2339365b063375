//! What is promised about written data, and about the whole.

use super::fixture::{Fixture, Verdict, fails, holds, name, same};
use crate::{At, ErrorKind, OpenFlags, Scope, Segments, Stability, Vfs, WriteAt};
use bytes::Bytes;

super::list! { "stability":
    a_write_is_at_least_as_safe_as_asked,
    one_verifier_for_writes_and_syncs,
    every_scope_syncs,
    syncing_changes_nothing_to_be_seen,
    syncing_what_is_gone if |profile| profile.by_inode,
    an_unlinked_open_file_syncs,
    limits_make_sense,
    room_is_reported,
}

async fn a_write_is_at_least_as_safe_as_asked<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    for asked in [Stability::Buffered, Stability::Journaled] {
        let data = Segments::from(Bytes::from_static(b"data"));
        let written = t.fs.write(t.cx(), At::Ino(ino), WriteAt::End, data, asked).await?;
        holds(written.stability >= asked, &format!("{:?}, asked {asked:?}", written.stability))?;
    }
    same(t.read(ino, 0, 100).await?, b"datadata", "data")
}

async fn one_verifier_for_writes_and_syncs<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let first = t.write(ino, 0, b"data").await?.verifier;
    let second = t.write(ino, 4, b"data").await?.verifier;
    let scope = Scope::Range { file: At::Ino(ino), offset: 0, len: 0, data_only: false };
    let synced = t.fs.sync(t.cx(), scope, Stability::Journaled).await?;
    let volume = t.fs.sync(t.cx(), Scope::Volume, Stability::Journaled).await?;
    same([second, synced, volume], [first; 3], "verifiers")
}

async fn every_scope_syncs<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    let handle = t.open(ino, OpenFlags::READ).await?;
    let range = |file, offset, len, data_only| Scope::Range { file, offset, len, data_only };
    for scope in [
        range(At::Ino(ino), 0, 0, false),
        range(At::Ino(ino), 2, 1000, true),
        range(At::Open(&handle), 0, 0, true),
        range(At::Ino(t.dir), 0, 0, false),
        Scope::Directory(t.dir),
        Scope::Volume,
    ] {
        t.fs.sync(t.cx(), scope, Stability::Journaled).await?;
    }
    let scope = Scope::Directory(ino);
    let synced = t.fs.sync(t.cx(), scope, Stability::Journaled).await;
    fails(synced, ErrorKind::NotDirectory, "a file as a directory")
}

async fn syncing_changes_nothing_to_be_seen<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    let before = t.attr(ino).await?;
    t.fs.sync(t.cx(), Scope::Volume, Stability::Journaled).await?;
    let after = t.attr(ino).await?;
    let times = (after.size, after.mtime, after.ctime, after.change);
    same(times, (4, before.mtime, before.ctime, before.change), "attributes")?;
    same(t.read(ino, 0, 10).await?, b"data", "data")
}

async fn syncing_what_is_gone<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    t.fs.unlink(t.cx(), t.dir, name("f")).await?;
    let scope = Scope::Range { file: At::Ino(ino), offset: 0, len: 0, data_only: false };
    let synced = t.fs.sync(t.cx(), scope, Stability::Journaled).await;
    fails(synced, ErrorKind::Stale, "sync")
}

async fn an_unlinked_open_file_syncs<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let handle = t.open(ino, OpenFlags::READ_WRITE).await?;
    t.fs.unlink(t.cx(), t.dir, name("f")).await?;
    let file = At::Open(&handle);
    t.write_at(file, WriteAt::End, b"data").await?;
    let scope = Scope::Range { file, offset: 0, len: 0, data_only: false };
    t.fs.sync(t.cx(), scope, Stability::Journaled).await?;
    same(t.read_at(file, 0, 10).await?, b"data", "data")
}

async fn limits_make_sense<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let limits = t.fs.limits();
    same(limits.name_max, 255, "longest name")?;
    holds(limits.read_max >= 65_536 && limits.write_max >= 65_536, "transfers of 64 KiB")?;
    holds(limits.preferred > 0 && limits.preferred.is_power_of_two(), "preferred size")?;
    holds(limits.preferred <= limits.write_max, "the preferred size may be written")?;
    holds(limits.link_max >= 1000, "links")?;
    holds(limits.file_size_max >= 1 << 40, "files of a tebibyte")?;
    holds(limits.file_size_max < 1 << 63, "lengths fit in 63 bits")
}

async fn room_is_reported<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let stat = t.fs.statfs(t.cx()).await?;
    holds(stat.bytes_total > 0 && stat.bytes_total < 1 << 63, "bytes in all")?;
    holds(stat.bytes_free <= stat.bytes_total, "bytes free")?;
    holds(stat.inodes_total > 0 && stat.inodes_free <= stat.inodes_total, "inodes")
}
