//! Creating, finding, linking and removing.

use super::fixture::{DIRECTORY, Fixture, Verdict, fails, holds, name, same, with_mode, with_size};
use crate::{
    At, ErrorKind, IfExists, Ino, Kind, Make, OpenFlags, SetAttr, SetTime, Timestamp, Vfs, WriteAt,
};

super::list! { "tree":
    a_created_file_is_found,
    a_missing_name_is_not_found,
    create_fails_on_a_taken_name_when_told_to,
    create_reuses_a_file_and_leaves_its_mode,
    create_cuts_a_reused_file_when_told_to,
    create_does_not_reuse_a_directory,
    an_exclusive_create_may_be_repeated if |profile| profile.exclusive_create,
    an_exclusive_create_is_exclusive if |profile| profile.exclusive_create,
    create_takes_the_attributes_it_is_given,
    directories_count_their_subdirectories,
    making_needs_a_free_name,
    symbolic_links_keep_their_targets,
    symbolic_link_targets_have_limits,
    nodes_keep_kind_and_numbers,
    nodes_are_neither_files_nor_directories,
    a_link_is_the_same_file,
    links_to_directories_are_refused,
    links_are_limited if |profile| profile.slow,
    unlink_takes_one_name,
    unlink_and_rmdir_mind_the_kind,
    a_full_directory_stays,
    only_directories_have_names,
    the_parent_of_a_directory,
    inode_numbers_are_never_used_again,
    a_gone_inode_is_stale if |profile| profile.by_inode,
    a_removed_directory_takes_no_more_names,
    changes_report_the_directory_around_them,
}

async fn a_created_file_is_found<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let found = t.fs.lookup(t.cx(), t.dir, name("f")).await?.attr;
    same(found.ino, ino, "inode")?;
    same((found.kind, found.mode, found.nlink, found.size), (Kind::Regular, 0o644, 1, 0), "attr")?;
    same((found.uid, found.gid), (0, 0), "owner")
}

async fn a_missing_name_is_not_found<V: Vfs>(t: &Fixture<V>) -> Verdict {
    t.file("f").await?;
    fails(t.find(t.dir, "F").await, ErrorKind::NotFound, "another case is another name")?;
    fails(t.fs.unlink(t.cx(), t.dir, name("g")).await, ErrorKind::NotFound, "unlink")?;
    fails(t.fs.rmdir(t.cx(), t.dir, name("g")).await, ErrorKind::NotFound, "rmdir")
}

async fn create_fails_on_a_taken_name_when_told_to<V: Vfs>(t: &Fixture<V>) -> Verdict {
    t.file_with("f", b"kept").await?;
    fails(t.file("f").await, ErrorKind::Exists, "create on a file")?;
    t.dir("d").await?;
    fails(t.file("d").await, ErrorKind::Exists, "create on a directory")?;
    let ino = t.find(t.dir, "f").await?;
    same(t.read(ino, 0, 10).await?, b"kept", "data of the file that was there")
}

async fn create_reuses_a_file_and_leaves_its_mode<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"kept").await?;
    let dir = t.attr(t.dir).await?;
    let attr = with_mode(0o777);
    let again = t.fs.create(t.cx(), t.dir, name("f"), &attr, IfExists::Reuse, None).await?;
    same(again.entry.attr.ino, ino, "inode")?;
    same(again.entry.attr.mode, 0o644, "mode")?;
    holds(again.handle.is_none(), "no handle unless one is asked for")?;
    same(t.read(ino, 0, 10).await?, b"kept", "data")?;
    same(t.attr(t.dir).await?.mtime, dir.mtime, "modification time of the directory")
}

async fn create_cuts_a_reused_file_when_told_to<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"gone").await?;
    let flags = OpenFlags { truncate: true, ..OpenFlags::READ_WRITE };
    let attr = with_mode(0o644);
    let opened = t.fs.create(t.cx(), t.dir, name("f"), &attr, IfExists::Reuse, Some(flags)).await?;
    same(opened.entry.attr.size, 0, "length in the answer")?;
    same(t.attr(ino).await?.size, 0, "length")?;
    t.write(ino, 0, b"gone again").await?;
    t.fs.create(t.cx(), t.dir, name("f"), &with_size(4), IfExists::Reuse, None).await?;
    same(t.read(ino, 0, 100).await?, b"gone", "cut to the length asked for")
}

async fn create_does_not_reuse_a_directory<V: Vfs>(t: &Fixture<V>) -> Verdict {
    t.dir("d").await?;
    let reused =
        t.fs.create(t.cx(), t.dir, name("d"), &with_mode(0o644), IfExists::Reuse, None).await;
    fails(reused, ErrorKind::IsDirectory, "create")
}

async fn an_exclusive_create_may_be_repeated<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let exclusive = IfExists::SameVerifier(*b"verifier");
    let attr = SetAttr::default();
    let first = t.fs.create(t.cx(), t.dir, name("f"), &attr, exclusive, None).await?;
    let flags = Some(OpenFlags::READ_WRITE);
    let again = t.fs.create(t.cx(), t.dir, name("f"), &attr, exclusive, flags).await?;
    same(again.entry.attr.ino, first.entry.attr.ino, "inode")?;
    let handle = again.handle;
    holds(handle.is_some(), "a handle when one is asked for")?;
    same(t.attr(t.dir).await?.mtime, first.dir.after.mtime, "the repetition changes nothing")
}

async fn an_exclusive_create_is_exclusive<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let exclusive = |verifier: &[u8; 8]| IfExists::SameVerifier(*verifier);
    let attr = SetAttr::default();
    t.fs.create(t.cx(), t.dir, name("f"), &attr, exclusive(b"verifier"), None).await?;
    let other = t.fs.create(t.cx(), t.dir, name("f"), &attr, exclusive(b"another!"), None).await;
    fails(other, ErrorKind::Exists, "another verifier")?;
    t.file("plain").await?;
    let plain =
        t.fs.create(t.cx(), t.dir, name("plain"), &attr, exclusive(b"verifier"), None).await;
    fails(plain, ErrorKind::Exists, "a file that was not made exclusively")
}

async fn create_takes_the_attributes_it_is_given<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let time = Timestamp { seconds: 1234, nanoseconds: 567 };
    let attr = SetAttr {
        mode: Some(0o4750),
        uid: Some(7),
        gid: Some(8),
        size: Some(9),
        atime: Some(SetTime::To(time)),
        mtime: Some(SetTime::To(time)),
        only_if_ctime: None,
    };
    let made = t.fs.create(t.cx(), t.dir, name("f"), &attr, IfExists::Fail, None).await?;
    let attr = t.attr(made.entry.attr.ino).await?;
    same((attr.mode, attr.uid, attr.gid, attr.size), (0o4750, 7, 8, 9), "attributes")?;
    same((attr.atime, attr.mtime), (time, time), "times")?;
    same(t.read(attr.ino, 0, 100).await?, [0; 9], "data")
}

async fn directories_count_their_subdirectories<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let outer = t.dir("outer").await?;
    let attr = t.attr(outer).await?;
    same((attr.kind, attr.nlink, attr.mode), (DIRECTORY, 2, 0o755), "a new directory")?;
    t.dir_in(outer, "one").await?;
    t.dir_in(outer, "two").await?;
    t.file_in(outer, "file").await?;
    same(t.attr(outer).await?.nlink, 4, "links with two subdirectories and a file")?;
    t.fs.rmdir(t.cx(), outer, name("one")).await?;
    same(t.attr(outer).await?.nlink, 3, "links with one subdirectory")
}

async fn making_needs_a_free_name<V: Vfs>(t: &Fixture<V>) -> Verdict {
    t.file("f").await?;
    for what in [Make::Directory, Make::Symlink { target: b"t" }, Make::Node(Kind::Fifo)] {
        let made = t.made(t.dir, "f", what, 0o755).await;
        fails(made, ErrorKind::Exists, &format!("{what:?}"))?;
    }
    let ino = t.file("g").await?;
    fails(t.fs.link(t.cx(), ino, t.dir, name("f")).await, ErrorKind::Exists, "link")
}

async fn symbolic_links_keep_their_targets<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let long = [b'l'; 4095];
    let targets: [(&str, &[u8]); 3] = [("a", b"../x"), ("b", b"\xff \xfe"), ("c", &long)];
    for (at, target) in targets {
        let ino = t.made(t.dir, at, Make::Symlink { target }, 0o600).await?;
        same(&t.fs.readlink(t.cx(), ino).await?[..], target, "target")?;
        let attr = t.attr(ino).await?;
        same((attr.kind, attr.mode), (Kind::Symlink, 0o777), "kind and mode")?;
        same(attr.size, target.len() as u64, "size")?;
    }
    let file = t.file("f").await?;
    fails(t.fs.readlink(t.cx(), file).await, ErrorKind::Invalid, "readlink of a file")
}

async fn symbolic_link_targets_have_limits<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let made = t.made(t.dir, "l", Make::Symlink { target: &[b'l'; 4096] }, 0o777).await;
    fails(made, ErrorKind::NameTooLong, "4096 bytes")?;
    let made = t.made(t.dir, "l", Make::Symlink { target: b"" }, 0o777).await;
    fails(made, ErrorKind::NotFound, "no target")
}

async fn nodes_keep_kind_and_numbers<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let kinds = [
        Kind::Fifo,
        Kind::Socket,
        Kind::CharDevice { major: 1, minor: 3 },
        Kind::BlockDevice { major: 259, minor: 70_000 },
    ];
    for (at, kind) in ["a", "b", "c", "d"].into_iter().zip(kinds) {
        let ino = t.made(t.dir, at, Make::Node(kind), 0o640).await?;
        let attr = t.attr(ino).await?;
        same((attr.kind, attr.mode, attr.nlink, attr.size), (kind, 0o640, 1, 0), "attributes")?;
    }
    Ok(())
}

async fn nodes_are_neither_files_nor_directories<V: Vfs>(t: &Fixture<V>) -> Verdict {
    for kind in [Kind::Regular, Kind::Directory, Kind::Symlink] {
        let made = t.made(t.dir, "n", Make::Node(kind), 0o644).await;
        fails(made, ErrorKind::Invalid, &format!("{kind:?}"))?;
    }
    Ok(())
}

async fn a_link_is_the_same_file<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    let before = t.attr(ino).await?;
    let other = t.dir("d").await?;
    let linked = t.fs.link(t.cx(), ino, other, name("g")).await?;
    same((linked.entry.attr.ino, linked.entry.attr.nlink), (ino, 2), "inode and links")?;
    same(t.find(other, "g").await?, ino, "the new name's inode")?;
    let after = t.attr(ino).await?;
    holds(
        super::fixture::is_after(&t.profile, after.ctime, before.ctime),
        "a link changes the change time",
    )?;
    same(after.mtime, before.mtime, "modification time")
}

async fn links_to_directories_are_refused<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let dir = t.dir("d").await?;
    let linked = t.fs.link(t.cx(), dir, t.dir, name("e")).await;
    fails(linked, ErrorKind::Permission, "link")
}

async fn links_are_limited<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("0").await?;
    let link_max = t.fs.limits().link_max;
    if link_max > 70_000 {
        return Ok(());
    }
    for index in 1..link_max {
        t.fs.link(t.cx(), ino, t.dir, name(&index.to_string())).await?;
    }
    same(t.attr(ino).await?.nlink, link_max, "links")?;
    let one_more = t.fs.link(t.cx(), ino, t.dir, name("more")).await;
    fails(one_more, ErrorKind::TooManyLinks, "one more")?;
    t.fs.unlink(t.cx(), t.dir, name("0")).await?;
    t.fs.link(t.cx(), ino, t.dir, name("more")).await?;
    Ok(())
}

async fn unlink_takes_one_name<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    t.fs.link(t.cx(), ino, t.dir, name("g")).await?;
    let before = t.attr(ino).await?;
    t.fs.unlink(t.cx(), t.dir, name("f")).await?;
    fails(t.find(t.dir, "f").await, ErrorKind::NotFound, "the name that went")?;
    let after = t.attr(t.find(t.dir, "g").await?).await?;
    same((after.ino, after.nlink), (ino, 1), "the name that stayed")?;
    holds(
        super::fixture::is_after(&t.profile, after.ctime, before.ctime),
        "losing a name changes the change time",
    )?;
    same(t.read(ino, 0, 10).await?, b"data", "data")
}

async fn unlink_and_rmdir_mind_the_kind<V: Vfs>(t: &Fixture<V>) -> Verdict {
    t.file("f").await?;
    t.dir("d").await?;
    t.made(t.dir, "l", Make::Symlink { target: b"d" }, 0o777).await?;
    fails(t.fs.unlink(t.cx(), t.dir, name("d")).await, ErrorKind::IsDirectory, "unlink")?;
    fails(t.fs.rmdir(t.cx(), t.dir, name("f")).await, ErrorKind::NotDirectory, "rmdir a file")?;
    fails(t.fs.rmdir(t.cx(), t.dir, name("l")).await, ErrorKind::NotDirectory, "rmdir a link")?;
    t.fs.unlink(t.cx(), t.dir, name("l")).await?;
    same(t.names(t.dir).await?, ["d", "f"], "what is left")
}

async fn a_full_directory_stays<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let dir = t.dir("d").await?;
    t.file_in(dir, "f").await?;
    fails(t.fs.rmdir(t.cx(), t.dir, name("d")).await, ErrorKind::NotEmpty, "rmdir")?;
    t.fs.unlink(t.cx(), dir, name("f")).await?;
    t.fs.rmdir(t.cx(), t.dir, name("d")).await?;
    fails(t.find(t.dir, "d").await, ErrorKind::NotFound, "the directory")
}

async fn only_directories_have_names<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let file = t.file("f").await?;
    fails(t.find(file, "x").await, ErrorKind::NotDirectory, "lookup")?;
    fails(t.file_in(file, "x").await, ErrorKind::NotDirectory, "create")?;
    fails(t.dir_in(file, "x").await, ErrorKind::NotDirectory, "make")?;
    fails(t.fs.unlink(t.cx(), file, name("x")).await, ErrorKind::NotDirectory, "unlink")?;
    fails(t.list(file, 10).await, ErrorKind::NotDirectory, "readdir")?;
    fails(t.fs.parent(t.cx(), file).await, ErrorKind::NotDirectory, "parent")
}

async fn the_parent_of_a_directory<V: Vfs>(t: &Fixture<V>) -> Verdict {
    same(t.fs.parent(t.cx(), Ino::ROOT).await?.attr.ino, Ino::ROOT, "parent of the root")?;
    same(t.fs.parent(t.cx(), t.dir).await?.attr.ino, Ino::ROOT, "parent below the root")?;
    let outer = t.dir("outer").await?;
    let inner = t.dir_in(outer, "inner").await?;
    same(t.fs.parent(t.cx(), inner).await?.attr.ino, outer, "parent of a nested directory")
}

async fn inode_numbers_are_never_used_again<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let mut seen = Vec::new();
    for _ in 0..20 {
        let ino = t.file("f").await?;
        holds(!seen.contains(&ino), "a new file has a new number")?;
        holds(ino.get() < 1 << 63, "numbers are below 2^63")?;
        seen.push(ino);
        t.fs.unlink(t.cx(), t.dir, name("f")).await?;
    }
    Ok(())
}

async fn a_gone_inode_is_stale<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let file = t.file("f").await?;
    let dir = t.dir("d").await?;
    t.fs.unlink(t.cx(), t.dir, name("f")).await?;
    t.fs.rmdir(t.cx(), t.dir, name("d")).await?;
    t.is_gone(file).await?;
    t.is_gone(dir).await?;
    fails(t.read(file, 0, 1).await, ErrorKind::Stale, "read")?;
    fails(t.write(file, 0, b"x").await, ErrorKind::Stale, "write")?;
    fails(t.set(file, &with_mode(0)).await, ErrorKind::Stale, "setattr")?;
    fails(t.open(file, OpenFlags::READ).await.map(drop), ErrorKind::Stale, "open")?;
    fails(t.fs.link(t.cx(), file, t.dir, name("g")).await, ErrorKind::Stale, "link")?;
    fails(t.fs.xattrs(t.cx(), file).await, ErrorKind::Stale, "xattrs")?;
    fails(t.find(dir, "x").await, ErrorKind::Stale, "lookup")?;
    fails(t.file_in(dir, "x").await, ErrorKind::Stale, "create")?;
    fails(t.list(dir, 10).await, ErrorKind::Stale, "readdir")?;
    let never = Ino::new((1 << 62) + 12_345)?;
    fails(t.attr(never).await, ErrorKind::Stale, "a number that never was")
}

async fn a_removed_directory_takes_no_more_names<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let dir = t.dir("d").await?;
    let handle = t.open(dir, OpenFlags::READ).await?;
    t.fs.rmdir(t.cx(), t.dir, name("d")).await?;
    let attr = t.fs.getattr(t.cx(), At::Open(&handle)).await?.attr;
    same((attr.ino, attr.nlink), (dir, 0), "the directory, still open")?;
    fails(t.file_in(dir, "f").await, ErrorKind::NotFound, "create")?;
    fails(t.dir_in(dir, "d").await, ErrorKind::NotFound, "mkdir")?;
    let file = t.file("f").await?;
    let to = (dir, name("f"));
    let moved = t.fs.rename(t.cx(), (t.dir, name("f")), to, crate::RenameMode::Replace).await;
    fails(moved, ErrorKind::NotFound, "rename into it")?;
    fails(t.fs.link(t.cx(), file, dir, name("g")).await, ErrorKind::NotFound, "link")?;
    drop(handle);
    t.is_gone(dir).await
}

async fn changes_report_the_directory_around_them<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let before = t.attr(t.dir).await?;
    let made =
        t.fs.create(t.cx(), t.dir, name("f"), &with_mode(0o644), IfExists::Fail, None).await?;
    same((made.dir.before_mtime, made.dir.before_ctime), (before.mtime, before.ctime), "before")?;
    same(made.dir.after.ino, t.dir, "which directory")?;
    let now = t.attr(t.dir).await?;
    same((made.dir.after.mtime, made.dir.after.ctime), (now.mtime, now.ctime), "after")?;
    holds(
        super::fixture::is_after(&t.profile, now.mtime, before.mtime),
        "a new name changes the directory",
    )?;
    let ino = made.entry.attr.ino;
    let written = t.write_at(At::Ino(ino), WriteAt::Offset(3), b"abc").await?;
    same((written.wcc.before_size, written.wcc.after.size), (0, 6), "lengths around a write")?;
    let removed = t.fs.unlink(t.cx(), t.dir, name("f")).await?;
    same(removed.before_mtime, now.mtime, "before the unlink")?;
    same(removed.after.mtime, t.attr(t.dir).await?.mtime, "after the unlink")
}
