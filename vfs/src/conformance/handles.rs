//! Opening, and what an open handle is good for.

use super::fixture::{Fixture, Verdict, fails, holds, name, same, with_mode, with_size};
use crate::{At, Cred, ErrorKind, IfExists, Kind, Make, OpenFlags, Vfs, WriteAt};

super::list! { "handles":
    an_unlinked_open_file_lives_on,
    an_unlinked_file_lives_until_the_last_handle,
    an_unlinked_open_file_gets_no_new_name if |profile| profile.by_inode,
    a_handle_reads_or_writes_as_opened,
    a_handle_outlives_a_chmod if |profile| profile.enforces_dac,
    the_creator_may_use_the_handle_whatever_the_mode if |profile| profile.enforces_dac,
    opening_cuts_when_told_to,
    opening_to_cut_needs_write_permission if |profile| profile.enforces_dac,
    directories_open_for_reading_only,
    special_files_do_not_open,
    a_length_is_set_through_a_writing_handle_only,
    a_handle_follows_its_file_through_renames,
    handles_flush,
}

const WRITE: OpenFlags = OpenFlags { read: false, ..OpenFlags::READ_WRITE };

async fn an_unlinked_open_file_lives_on<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    let handle = t.open(ino, OpenFlags::READ_WRITE).await?;
    t.fs.unlink(t.cx(), t.dir, name("f")).await?;
    let at = At::Open(&handle);
    let attr = t.fs.getattr(t.cx(), at).await?.attr;
    same((attr.ino, attr.nlink, attr.size), (ino, 0, 4), "attributes")?;
    t.write_at(at, WriteAt::End, b" and more").await?;
    same(t.read_at(at, 0, 100).await?, b"data and more", "data")?;
    let cut = t.fs.setattr(t.cx(), at, &with_size(2)).await?;
    same(cut.after.size, 2, "length")?;
    // The name is free, and another file may have it.
    let other = t.file_with("f", b"other").await?;
    holds(other != ino, "another inode")?;
    same(t.read_at(at, 0, 100).await?, b"da", "data of the old file")?;
    drop(handle);
    t.is_gone(ino).await?;
    same(t.read(other, 0, 100).await?, b"other", "data of the new file")
}

async fn an_unlinked_file_lives_until_the_last_handle<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    let (one, two) = (t.open(ino, OpenFlags::READ).await?, t.open(ino, OpenFlags::READ).await?);
    t.fs.unlink(t.cx(), t.dir, name("f")).await?;
    drop(one);
    same(t.read_at(At::Open(&two), 0, 100).await?, b"data", "data through the other handle")?;
    if t.profile.by_inode {
        same(t.attr(ino).await?.nlink, 0, "links, by number")?;
        let third = t.open(ino, OpenFlags::READ).await?;
        drop(two);
        same(t.read_at(At::Open(&third), 0, 100).await?, b"data", "data through a third")?;
    }
    Ok(())
}

async fn an_unlinked_open_file_gets_no_new_name<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    let handle = t.open(ino, OpenFlags::READ_WRITE).await?;
    t.fs.unlink(t.cx(), t.dir, name("f")).await?;
    let linked = t.fs.link(t.cx(), ino, t.dir, name("g")).await;
    fails(linked, ErrorKind::NotFound, "a link to what has no name")?;
    same(t.read_at(At::Open(&handle), 0, 10).await?, b"data", "data")?;
    same(t.names(t.dir).await?, Vec::<String>::new(), "names")
}

async fn a_handle_reads_or_writes_as_opened<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    let (reads, writes) = (t.open(ino, OpenFlags::READ).await?, t.open(ino, WRITE).await?);
    let written = t.write_at(At::Open(&reads), WriteAt::Offset(0), b"x").await;
    fails(written, ErrorKind::BadHandle, "writing through a reading handle")?;
    let read = t.read_at(At::Open(&writes), 0, 1).await;
    fails(read, ErrorKind::BadHandle, "reading through a writing handle")?;
    t.write_at(At::Open(&writes), WriteAt::Offset(0), b"D").await?;
    same(t.read_at(At::Open(&reads), 0, 10).await?, b"Data", "data")
}

async fn a_handle_outlives_a_chmod<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let user = Cred::user(1000, 1000);
    let ino = t.file_with("f", b"data").await?;
    t.give(ino, 1000, 1000, 0o600).await?;
    let handle = t.fs.open(t.as_user(&user), ino, OpenFlags::READ_WRITE).await?;
    t.give(ino, 0, 0, 0o000).await?;
    let refused = t.fs.open(t.as_user(&user), ino, OpenFlags::READ).await.map(drop);
    fails(refused, ErrorKind::Access, "opening now")?;
    let read = t.fs.read(t.as_user(&user), At::Open(&handle), 0, 10).await?;
    same(&read.data.into_contiguous()[..], b"data", "data")?;
    let cut = t.fs.setattr(t.as_user(&user), At::Open(&handle), &with_size(1)).await?;
    same(cut.after.size, 1, "length")
}

async fn the_creator_may_use_the_handle_whatever_the_mode<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let user = Cred::user(1000, 1000);
    let cx = t.as_user(&user);
    let flags = Some(OpenFlags::READ_WRITE);
    let attr = with_mode(0o000);
    let made = t.fs.create(cx, t.dir, name("f"), &attr, IfExists::Fail, flags).await?;
    same(made.entry.attr.mode, 0, "mode")?;
    holds(made.handle.is_some(), "a handle")?;
    if let Some(handle) = &made.handle {
        t.write_at(At::Open(handle), WriteAt::End, b"data").await?;
        let read = t.fs.read(cx, At::Open(handle), 0, 10).await?;
        same(&read.data.into_contiguous()[..], b"data", "data")?;
    }
    let again = t.fs.open(cx, made.entry.attr.ino, OpenFlags::READ).await.map(drop);
    fails(again, ErrorKind::Access, "opening it again")
}

async fn opening_cuts_when_told_to<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    t.open(ino, OpenFlags::READ_WRITE).await?;
    same(t.attr(ino).await?.size, 4, "length")?;
    let before = t.attr(ino).await?;
    t.open(ino, OpenFlags { truncate: true, ..OpenFlags::READ_WRITE }).await?;
    let after = t.attr(ino).await?;
    same(after.size, 0, "length after a cut")?;
    holds(super::fixture::is_after(&t.profile, after.mtime, before.mtime), "modification time")
}

async fn opening_to_cut_needs_write_permission<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let user = Cred::user(1000, 1000);
    let ino = t.file_with("f", b"data").await?;
    t.give(ino, 0, 0, 0o644).await?;
    let flags = OpenFlags { truncate: true, ..OpenFlags::READ };
    let opened = t.fs.open(t.as_user(&user), ino, flags).await.map(drop);
    fails(opened, ErrorKind::Access, "open")?;
    same(t.attr(ino).await?.size, 4, "length")
}

async fn directories_open_for_reading_only<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let handle = t.open(t.dir, OpenFlags::READ).await?;
    same(t.fs.getattr(t.cx(), At::Open(&handle)).await?.attr.ino, t.dir, "inode")?;
    for flags in [WRITE, OpenFlags::READ_WRITE, OpenFlags { truncate: true, ..OpenFlags::READ }] {
        let opened = t.open(t.dir, flags).await.map(drop);
        fails(opened, ErrorKind::IsDirectory, &format!("{flags:?}"))?;
    }
    let read = t.read_at(At::Open(&handle), 0, 10).await;
    fails(read, ErrorKind::IsDirectory, "reading it as a file")
}

async fn special_files_do_not_open<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let link = t.made(t.dir, "l", Make::Symlink { target: b"f" }, 0o777).await?;
    let fifo = t.made(t.dir, "p", Make::Node(Kind::Fifo), 0o666).await?;
    for ino in [link, fifo] {
        fails(t.open(ino, OpenFlags::READ).await.map(drop), ErrorKind::Invalid, "open")?;
    }
    Ok(())
}

async fn a_length_is_set_through_a_writing_handle_only<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    let handle = t.open(ino, OpenFlags::READ).await?;
    let cut = t.fs.setattr(t.cx(), At::Open(&handle), &with_size(0)).await;
    fails(cut, ErrorKind::Invalid, "through a reading handle")?;
    same(t.attr(ino).await?.size, 4, "length")?;
    let moded = t.fs.setattr(t.cx(), At::Open(&handle), &with_mode(0o600)).await?;
    same(moded.after.mode, 0o600, "mode, through a reading handle")
}

async fn a_handle_follows_its_file_through_renames<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    let handle = t.open(ino, OpenFlags::READ_WRITE).await?;
    let dir = t.dir("d").await?;
    let (from, to) = ((t.dir, name("f")), (dir, name("g")));
    t.fs.rename(t.cx(), from, to, crate::RenameMode::Replace).await?;
    t.write_at(At::Open(&handle), WriteAt::Offset(0), b"D").await?;
    same(t.read(t.find(dir, "g").await?, 0, 10).await?, b"Data", "data under the new name")
}

async fn handles_flush<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let handle = t.open(ino, WRITE).await?;
    t.write_at(At::Open(&handle), WriteAt::End, b"data").await?;
    t.fs.flush(t.cx(), &handle).await?;
    t.fs.flush(t.cx(), &handle).await?;
    t.fs.unlink(t.cx(), t.dir, name("f")).await?;
    t.fs.flush(t.cx(), &handle).await?;
    Ok(())
}
