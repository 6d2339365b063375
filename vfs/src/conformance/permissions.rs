//! Who may do what, when the file system decides.

use super::Profile;
use super::fixture::{Fixture, Verdict, fails, name, same, with_mode, with_size};
use crate::{
    Access, At, Context, Cred, Dac, ErrorKind, Groups, IfExists, Ino, Kind, Make, OpenFlags,
    RenameMode, Result, Segments, SetAttr, SetTime, Stability, Timestamp, Vfs, WriteAt,
};
use bytes::Bytes;

const ENFORCES: fn(&Profile) -> bool = |profile| profile.enforces_dac;
const CHOOSES: fn(&Profile) -> bool = |profile| profile.enforces_dac && profile.chooses_dac;

super::list! { "permissions":
    looking_up_needs_search_permission if ENFORCES,
    changing_a_directory_needs_write_permission if ENFORCES,
    listing_needs_read_permission if ENFORCES,
    data_needs_read_and_write_permission if ENFORCES,
    holes_and_copies_need_write_permission if ENFORCES,
    the_first_class_that_fits_decides if ENFORCES,
    supplementary_groups_count if ENFORCES,
    root_overrides if ENFORCES,
    a_taken_name_is_reported_before_missing_permission if ENFORCES,
    sticky_directories_protect_entries if ENFORCES,
    sticky_directories_protect_entries_from_exchanges if ENFORCES,
    moving_needs_permission_at_both_ends if ENFORCES,
    a_moved_directory_must_be_writable if ENFORCES,
    only_root_gives_files_away if ENFORCES,
    owners_choose_among_their_groups if ENFORCES,
    only_owners_change_modes if ENFORCES,
    set_group_id_needs_the_group if ENFORCES,
    chown_drops_set_id_bits if ENFORCES,
    writing_drops_set_id_bits if ENFORCES,
    root_writes_and_keeps_set_id_bits if ENFORCES,
    set_group_id_directories_pass_their_group_on,
    new_files_are_their_creators if ENFORCES,
    times_are_set_by_owners_and_touched_by_writers if ENFORCES,
    lengths_need_write_permission if ENFORCES,
    creating_over_a_file_cuts_it_only_with_permission if ENFORCES,
    access_reports_what_is_granted if ENFORCES,
    devices_are_roots_to_make if ENFORCES,
    an_nfs_owner_always_reads_and_writes if CHOOSES,
    delegated_means_that_the_kernel_has_checked if CHOOSES,
}

fn alice() -> Cred {
    Cred::user(1000, 1000)
}

/// In group 1000 besides his own.
fn bob() -> Cred {
    Cred { uid: 1001, gid: Some(1001), groups: Groups::Known(Box::new([1000, 2000])) }
}

fn eve() -> Cred {
    Cred::user(1002, 1002)
}

async fn create<V: Vfs>(t: &Fixture<V>, cred: &Cred, dir: Ino, text: &str) -> Result<Ino> {
    let (cx, attr) = (t.as_user(cred), with_mode(0o644));
    let made = t.fs.create(cx, dir, name(text), &attr, IfExists::Fail, None).await?;
    Ok(made.entry.attr.ino)
}

async fn set<V: Vfs>(t: &Fixture<V>, cred: &Cred, ino: Ino, set: &SetAttr) -> Result<u16> {
    Ok(t.fs.setattr(t.as_user(cred), At::Ino(ino), set).await?.after.mode)
}

async fn write<V: Vfs>(t: &Fixture<V>, cx: Context<'_>, ino: Ino) -> Result<u16> {
    let data = Segments::from(Bytes::from_static(b"x"));
    let place = WriteAt::Offset(0);
    let written = t.fs.write(cx, At::Ino(ino), place, data, Stability::Buffered).await?;
    Ok(written.wcc.after.mode)
}

async fn read<V: Vfs>(t: &Fixture<V>, cx: Context<'_>, ino: Ino) -> Result<()> {
    t.fs.read(cx, At::Ino(ino), 0, 1).await.map(drop)
}

fn owner(uid: Option<u32>, gid: Option<u32>) -> SetAttr {
    SetAttr { uid, gid, ..SetAttr::default() }
}

async fn looking_up_needs_search_permission<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let dir = t.dir("d").await?;
    let ino = t.file_in(dir, "f").await?;
    t.give(dir, 1000, 1000, 0o766).await?;
    let eve = eve();
    let cx = t.as_user(&eve);
    fails(t.fs.lookup(cx, dir, name("f")).await, ErrorKind::Access, "lookup")?;
    fails(t.fs.lookup(cx, dir, name("g")).await, ErrorKind::Access, "lookup of nothing")?;
    fails(t.fs.parent(cx, dir).await, ErrorKind::Access, "parent")?;
    fails(create(t, &eve, dir, "g").await, ErrorKind::Access, "create")?;
    fails(t.fs.unlink(cx, dir, name("f")).await, ErrorKind::Access, "unlink")?;
    t.set(dir, &with_mode(0o711)).await?;
    same(t.fs.lookup(cx, dir, name("f")).await?.attr.ino, ino, "with permission")
}

async fn changing_a_directory_needs_write_permission<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let dir = t.dir("d").await?;
    let ino = t.file_in(dir, "f").await?;
    // Or Linux keeps others from linking it (`protected_hardlinks`), another rule.
    t.set(ino, &with_mode(0o666)).await?;
    t.dir_in(dir, "sub").await?;
    let eve = eve();
    let cx = t.as_user(&eve);
    let made = t.fs.make(cx, dir, name("x"), Make::Directory, &with_mode(0o755)).await;
    fails(made, ErrorKind::Access, "mkdir")?;
    let link = Make::Symlink { target: b"t" };
    fails(t.fs.make(cx, dir, name("x"), link, &with_mode(0)).await, ErrorKind::Access, "symlink")?;
    fails(create(t, &eve, dir, "x").await, ErrorKind::Access, "create")?;
    fails(t.fs.link(cx, ino, dir, name("x")).await, ErrorKind::Access, "link")?;
    fails(t.fs.unlink(cx, dir, name("f")).await, ErrorKind::Access, "unlink")?;
    fails(t.fs.rmdir(cx, dir, name("sub")).await, ErrorKind::Access, "rmdir")?;
    t.set(dir, &with_mode(0o777)).await?;
    create(t, &eve, dir, "x").await?;
    t.fs.unlink(cx, dir, name("f")).await?;
    same(t.names(dir).await?, ["sub", "x"], "with permission")
}

async fn listing_needs_read_permission<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let dir = t.dir("d").await?;
    t.set(dir, &with_mode(0o711)).await?;
    let eve = eve();
    let budget = crate::Budget { entries: 10, name_bytes: 1000, with_attr: false };
    let after = crate::Cookie::default();
    let listed = t.fs.readdir(t.as_user(&eve), At::Ino(dir), after, budget).await;
    fails(listed, ErrorKind::Access, "readdir")?;
    let opened = t.fs.open(t.as_user(&eve), dir, OpenFlags::READ).await.map(drop);
    fails(opened, ErrorKind::Access, "open")?;
    t.set(dir, &with_mode(0o744)).await?;
    t.fs.readdir(t.as_user(&eve), At::Ino(dir), after, budget).await?;
    Ok(())
}

async fn data_needs_read_and_write_permission<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    let eve = eve();
    let cx = t.as_user(&eve);
    t.set(ino, &with_mode(0o772)).await?;
    fails(read(t, cx, ino).await, ErrorKind::Access, "read")?;
    write(t, cx, ino).await?;
    let opened = t.fs.open(cx, ino, OpenFlags::READ_WRITE).await.map(drop);
    fails(opened, ErrorKind::Access, "open for both")?;
    t.set(ino, &with_mode(0o774)).await?;
    read(t, cx, ino).await?;
    fails(write(t, cx, ino).await, ErrorKind::Access, "write")?;
    same(t.read(ino, 0, 100).await?, b"xata", "data")
}

async fn holes_and_copies_need_write_permission<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    let eve = eve();
    let cx = t.as_user(&eve);
    t.set(ino, &with_mode(0o774)).await?;
    let punched = t.fs.allocate(cx, At::Ino(ino), 0, 1, crate::Allocate::PunchHole).await;
    fails(punched, ErrorKind::Access, "allocate")?;
    let copied = t.fs.copy(cx, (At::Ino(ino), 0), (At::Ino(ino), 100), 1).await;
    fails(copied, ErrorKind::Access, "copy to it")
}

async fn the_first_class_that_fits_decides<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    t.give(ino, 1000, 1000, 0o044).await?;
    let (alice, bob, eve) = (alice(), bob(), eve());
    fails(read(t, t.as_user(&alice), ino).await, ErrorKind::Access, "the owner")?;
    read(t, t.as_user(&bob), ino).await?;
    t.set(ino, &with_mode(0o404)).await?;
    fails(read(t, t.as_user(&bob), ino).await, ErrorKind::Access, "the group")?;
    read(t, t.as_user(&eve), ino).await?;
    Ok(())
}

async fn supplementary_groups_count<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    t.give(ino, 0, 2000, 0o640).await?;
    let (bob, eve) = (bob(), eve());
    read(t, t.as_user(&bob), ino).await?;
    fails(read(t, t.as_user(&eve), ino).await, ErrorKind::Access, "somebody else")
}

async fn root_overrides<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let dir = t.dir("d").await?;
    let ino = t.file_in(dir, "f").await?;
    t.give(ino, 1000, 1000, 0).await?;
    t.give(dir, 1000, 1000, 0).await?;
    t.write(ino, 0, b"data").await?;
    same(t.read(ino, 0, 10).await?, b"data", "data")?;
    t.file_in(dir, "g").await?;
    same(t.names(dir).await?, ["f", "g"], "names")
}

async fn a_taken_name_is_reported_before_missing_permission<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let dir = t.dir("d").await?;
    let ino = t.file_in(dir, "f").await?;
    let eve = eve();
    let cx = t.as_user(&eve);
    fails(create(t, &eve, dir, "f").await, ErrorKind::Exists, "create")?;
    let made = t.fs.make(cx, dir, name("f"), Make::Directory, &with_mode(0o755)).await;
    fails(made, ErrorKind::Exists, "mkdir")?;
    fails(t.fs.link(cx, ino, dir, name("f")).await, ErrorKind::Exists, "link")?;
    fails(t.fs.unlink(cx, dir, name("x")).await, ErrorKind::NotFound, "unlink of nothing")
}

async fn sticky_directories_protect_entries<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (alice, bob, eve) = (alice(), bob(), eve());
    let dir = t.dir("tmp").await?;
    t.give(dir, 1000, 1000, 0o1777).await?;
    for text in ["a", "b"] {
        create(t, &bob, dir, text).await?;
    }
    let cx = t.as_user(&eve);
    fails(t.fs.unlink(cx, dir, name("a")).await, ErrorKind::Permission, "unlink by another")?;
    let moved = t.fs.rename(cx, (dir, name("a")), (t.dir, name("a")), RenameMode::Replace).await;
    fails(moved, ErrorKind::Permission, "rename by another")?;
    create(t, &eve, dir, "e").await?;
    let moved = t.fs.rename(cx, (dir, name("e")), (dir, name("a")), RenameMode::Replace).await;
    fails(moved, ErrorKind::Permission, "rename over another's")?;
    t.fs.unlink(t.as_user(&bob), dir, name("a")).await?;
    t.fs.unlink(t.as_user(&alice), dir, name("b")).await?;
    same(t.names(dir).await?, ["e"], "what is left")
}

async fn sticky_directories_protect_entries_from_exchanges<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (bob, eve) = (bob(), eve());
    let dir = t.dir("tmp").await?;
    t.give(dir, 1000, 1000, 0o1777).await?;
    let theirs = create(t, &bob, dir, "a").await?;
    create(t, &eve, dir, "e").await?;
    let (from, to) = ((dir, name("e")), (dir, name("a")));
    let moved = t.fs.rename(t.as_user(&eve), from, to, RenameMode::Exchange).await;
    fails(moved, ErrorKind::Permission, "exchange with another's")?;
    same(t.find(dir, "a").await?, theirs, "inode")
}

async fn moving_needs_permission_at_both_ends<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let eve = eve();
    let (mine, other) = (t.dir("mine").await?, t.dir("other").await?);
    t.give(mine, 1002, 1002, 0o755).await?;
    t.file_in(mine, "f").await?;
    t.file_in(other, "g").await?;
    let mv = async |from, to| {
        t.fs.rename(t.as_user(&eve), from, to, RenameMode::Replace).await.map(drop)
    };
    fails(mv((mine, name("f")), (other, name("f"))).await, ErrorKind::Access, "to")?;
    fails(mv((other, name("g")), (mine, name("g"))).await, ErrorKind::Access, "from")?;
    mv((mine, name("f")), (mine, name("h"))).await?;
    Ok(())
}

async fn a_moved_directory_must_be_writable<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let eve = eve();
    let other = t.dir("other").await?;
    t.set(other, &with_mode(0o777)).await?;
    t.dir("foreign").await?;
    let from = (t.dir, name("foreign"));
    let cx = t.as_user(&eve);
    let moved = t.fs.rename(cx, from, (other, name("x")), RenameMode::Replace).await;
    fails(moved, ErrorKind::Access, "to another parent")?;
    t.fs.rename(cx, from, (t.dir, name("renamed")), RenameMode::Replace).await?;
    Ok(())
}

async fn only_root_gives_files_away<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (alice, eve) = (alice(), eve());
    let ino = create(t, &alice, t.dir, "f").await?;
    let give = owner(Some(1002), None);
    fails(set(t, &alice, ino, &give).await, ErrorKind::Permission, "by the owner")?;
    fails(set(t, &eve, ino, &give).await, ErrorKind::Permission, "by another")?;
    set(t, &alice, ino, &owner(Some(1000), None)).await?;
    let to_herself = owner(Some(1000), None);
    fails(set(t, &eve, ino, &to_herself).await, ErrorKind::Permission, "to who has it already")
}

async fn owners_choose_among_their_groups<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (bob, eve) = (bob(), eve());
    let ino = create(t, &bob, t.dir, "f").await?;
    set(t, &bob, ino, &owner(None, Some(2000))).await?;
    set(t, &bob, ino, &owner(Some(1001), Some(1000))).await?;
    let foreign = set(t, &bob, ino, &owner(None, Some(3000))).await;
    fails(foreign, ErrorKind::Permission, "a group of others")?;
    let by_another = set(t, &eve, ino, &owner(None, Some(1002))).await;
    fails(by_another, ErrorKind::Permission, "by another")?;
    same(t.attr(ino).await?.gid, 1000, "group")
}

async fn only_owners_change_modes<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (alice, bob) = (alice(), bob());
    let ino = create(t, &alice, t.dir, "f").await?;
    t.set(ino, &with_mode(0o777)).await?;
    let changed = set(t, &bob, ino, &with_mode(0o700)).await;
    fails(changed, ErrorKind::Permission, "by a member of the group")?;
    same(set(t, &alice, ino, &with_mode(0o700)).await?, 0o700, "by the owner")
}

async fn set_group_id_needs_the_group<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let alice = alice();
    let ino = create(t, &alice, t.dir, "f").await?;
    same(set(t, &alice, ino, &with_mode(0o2755)).await?, 0o2755, "of her own group")?;
    t.give(ino, 1000, 2000, 0o755).await?;
    same(set(t, &alice, ino, &with_mode(0o2755)).await?, 0o755, "of a group she is not in")
}

async fn chown_drops_set_id_bits<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let bob = bob();
    let ino = create(t, &bob, t.dir, "f").await?;
    for (mode, left) in [(0o6755, 0o755), (0o4644, 0o644), (0o2644, 0o2644)] {
        t.give(ino, 1001, 1001, mode).await?;
        let changed = set(t, &bob, ino, &owner(None, Some(2000))).await?;
        same(changed, left, &format!("what is left of {mode:o}"))?;
    }
    Ok(())
}

async fn writing_drops_set_id_bits<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let eve = eve();
    let ino = t.file_with("f", b"data").await?;
    let cx = t.as_user(&eve);
    t.set(ino, &with_mode(0o6777)).await?;
    same(write(t, cx, ino).await?, 0o777, "after a write")?;
    same(t.attr(ino).await?.mode, 0o777, "after a write, asked again")?;
    t.set(ino, &with_mode(0o6777)).await?;
    same(set(t, &eve, ino, &with_size(0)).await?, 0o777, "after a cut")?;
    t.set(ino, &with_mode(0o4666)).await?;
    t.fs.open(cx, ino, OpenFlags { truncate: true, ..OpenFlags::READ_WRITE }).await?;
    same(t.attr(ino).await?.mode, 0o666, "after opening to cut")
}

async fn root_writes_and_keeps_set_id_bits<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    t.give(ino, 1000, 1000, 0o6777).await?;
    t.write(ino, 0, b"data").await?;
    t.set(ino, &with_size(1)).await?;
    same(t.attr(ino).await?.mode, 0o6777, "mode")
}

async fn set_group_id_directories_pass_their_group_on<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let dir = t.dir("d").await?;
    t.give(dir, 0, 2000, 0o2777).await?;
    let file = t.attr(t.file_in(dir, "f").await?).await?;
    same((file.gid, file.mode), (2000, 0o644), "a file")?;
    let sub = t.attr(t.dir_in(dir, "sub").await?).await?;
    same((sub.gid, sub.mode), (2000, 0o2755), "a directory")?;
    let link = t.made(dir, "l", Make::Symlink { target: b"t" }, 0o777).await?;
    same(t.attr(link).await?.gid, 2000, "a link")?;
    let plain = t.attr(t.dir("plain").await?).await?;
    same((plain.gid, plain.mode), (0, 0o755), "elsewhere")
}

async fn new_files_are_their_creators<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let bob = bob();
    let attr = t.attr(create(t, &bob, t.dir, "f").await?).await?;
    same((attr.uid, attr.gid), (1001, 1001), "owner")?;
    let attr = SetAttr { uid: Some(1000), ..with_mode(0o644) };
    let cx = t.as_user(&bob);
    let given = t.fs.create(cx, t.dir, name("g"), &attr, IfExists::Fail, None).await;
    fails(given, ErrorKind::Permission, "creating for somebody else")?;
    fails(t.find(t.dir, "g").await, ErrorKind::NotFound, "what was not created")
}

async fn times_are_set_by_owners_and_touched_by_writers<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (alice, eve) = (alice(), eve());
    let ino = create(t, &alice, t.dir, "f").await?;
    let time = Some(SetTime::To(Timestamp { seconds: 5, nanoseconds: 5 }));
    let now = Some(SetTime::Now);
    let chosen = SetAttr { atime: time, mtime: time, ..SetAttr::default() };
    let touched = SetAttr { atime: now, mtime: now, ..SetAttr::default() };
    fails(set(t, &eve, ino, &touched).await, ErrorKind::Access, "touched without permission")?;
    t.set(ino, &with_mode(0o666)).await?;
    set(t, &eve, ino, &touched).await?;
    fails(set(t, &eve, ino, &chosen).await, ErrorKind::Permission, "chosen by a writer")?;
    t.set(ino, &with_mode(0)).await?;
    set(t, &alice, ino, &chosen).await?;
    set(t, &alice, ino, &touched).await?;
    Ok(())
}

async fn lengths_need_write_permission<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let eve = eve();
    let ino = t.file_with("f", b"data").await?;
    fails(set(t, &eve, ino, &with_size(0)).await, ErrorKind::Access, "without")?;
    same(t.attr(ino).await?.size, 4, "length")?;
    t.set(ino, &with_mode(0o646)).await?;
    set(t, &eve, ino, &with_size(0)).await?;
    same(t.attr(ino).await?.size, 0, "length with permission")
}

async fn creating_over_a_file_cuts_it_only_with_permission<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let eve = eve();
    let cx = t.as_user(&eve);
    let ino = t.file_with("f", b"data").await?;
    let before = t.attr(ino).await?;
    for (size, open) in [(0, None), (2, None), (9, None), (0, Some(OpenFlags::READ))] {
        let attr = SetAttr { size: Some(size), ..with_mode(0o644) };
        let cut = t.fs.create(cx, t.dir, name("f"), &attr, IfExists::Reuse, open).await.map(drop);
        fails(cut, ErrorKind::Access, &format!("to {size} bytes, {open:?}"))?;
    }
    let after = t.attr(ino).await?;
    same((after.size, after.mtime, after.ctime), (4, before.mtime, before.ctime), "attributes")?;
    same(t.read(ino, 0, 100).await?, b"data", "data")?;
    t.set(ino, &with_mode(0o646)).await?;
    let attr = with_size(2);
    t.fs.create(cx, t.dir, name("f"), &attr, IfExists::Reuse, None).await?;
    same(t.read(ino, 0, 100).await?, b"da", "data, with permission")
}

async fn access_reports_what_is_granted<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    t.give(ino, 1000, 1000, 0o641).await?;
    let all = Access(7);
    for (cred, granted) in [(alice(), 6), (bob(), 4), (eve(), 1), (Cred::root(), 7)] {
        let have = t.fs.access(t.as_user(&cred), ino, all).await?;
        same(have.0, granted, &format!("for {}", cred.uid))?;
    }
    let asked = t.fs.access(t.as_user(&alice()), ino, Access::READ).await?;
    same(asked, Access::READ, "no more than was asked")?;
    t.set(ino, &with_mode(0o600)).await?;
    same(t.fs.access(t.cx(), ino, all).await?.0, 6, "root does not run what nobody may")
}

async fn devices_are_roots_to_make<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let eve = eve();
    let device = Make::Node(Kind::CharDevice { major: 1, minor: 3 });
    let attr = with_mode(0o666);
    let made = t.fs.make(t.as_user(&eve), t.dir, name("null"), device, &attr).await;
    fails(made, ErrorKind::Permission, "a device")?;
    t.fs.make(t.as_user(&eve), t.dir, name("p"), Make::Node(Kind::Fifo), &attr).await?;
    Ok(())
}

async fn an_nfs_owner_always_reads_and_writes<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (alice, eve) = (alice(), eve());
    let nfs = |cred| Context { cred, dac: Dac::EnforceExceptOwner, op: None };
    let ino = create(t, &alice, t.dir, "f").await?;
    t.set(ino, &with_mode(0)).await?;
    write(t, nfs(&alice), ino).await?;
    read(t, nfs(&alice), ino).await?;
    t.fs.setattr(nfs(&alice), At::Ino(ino), &with_size(0)).await?;
    fails(read(t, nfs(&eve), ino).await, ErrorKind::Access, "somebody else")?;
    let access = t.fs.access(nfs(&alice), ino, Access(7)).await?;
    same(access.0, 0, "what access says is what the bits say")?;
    let dir = t.dir("d").await?;
    t.give(dir, 1000, 1000, 0o000).await?;
    let found = t.fs.lookup(nfs(&alice), dir, name("x")).await;
    fails(found, ErrorKind::Access, "her own directory")
}

async fn delegated_means_that_the_kernel_has_checked<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let eve = Cred { groups: Groups::Partial(Box::new([])), ..eve() };
    let fuse = Context { cred: &eve, dac: Dac::Delegated, op: None };
    let ino = t.file_with("f", b"data").await?;
    t.give(ino, 1000, 1000, 0o600).await?;
    read(t, fuse, ino).await?;
    let given = SetAttr { gid: Some(2000), ..with_mode(0o2755) };
    let attr = t.fs.setattr(fuse, At::Ino(ino), &given).await?.after;
    same((attr.gid, attr.mode), (2000, 0o2755), "group and mode")?;
    same(write(t, fuse, ino).await?, 0o755, "a write by other than root still drops bits")
}
