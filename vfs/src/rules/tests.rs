use super::*;
use crate::{
    Access, Attr, Cred, Dac, Error, Groups, Ino, Kind, OpenFlags, RenameMode, SetAttr, SetTime,
    Timestamp, XattrMode,
};

fn attr(ino: u64, kind: Kind, mode: u16, uid: u32, gid: u32) -> Attr {
    let time = Timestamp { seconds: 100, nanoseconds: 0 };
    Attr {
        ino: Ino::new(ino).unwrap(),
        kind,
        mode,
        nlink: if kind == Kind::Directory { 2 } else { 1 },
        uid,
        gid,
        size: 0,
        used: 0,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
        change: 1,
    }
}

fn file(mode: u16) -> Attr {
    attr(9, Kind::Regular, mode, 10, 20)
}

fn dir(mode: u16) -> Attr {
    attr(2, Kind::Directory, mode, 10, 20)
}

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().as_ref().map(Error::kind)
}

fn member(uid: u32, gid: u32, more: u32) -> Cred {
    Cred { uid, gid: Some(gid), groups: Groups::Known(Box::new([more])) }
}

#[test]
fn the_first_class_that_fits_decides() {
    let file = file(0o047);
    assert_eq!(granted(&Cred::user(10, 20), &file), Access(0));
    assert_eq!(granted(&Cred::user(11, 20), &file), Access(4));
    assert_eq!(granted(&member(11, 5, 20), &file), Access(4));
    assert_eq!(granted(&Cred::user(11, 21), &file), Access(7));
}

#[test]
fn root_runs_only_what_somebody_may_run() {
    assert_eq!(granted(&Cred::root(), &file(0)), Access(6));
    assert_eq!(granted(&Cred::root(), &file(0o001)), Access(7));
    assert_eq!(granted(&Cred::root(), &dir(0)), Access(7));
}

#[test]
fn an_nfs_owner_keeps_reading_and_writing() {
    let (owner, other) = (Cred::user(10, 20), Cred::user(11, 21));
    let dac = Dac::EnforceExceptOwner;
    assert!(permits(&owner, &file(0), Access(6), dac));
    assert!(!permits(&owner, &file(0), Access::EXECUTE, dac));
    assert!(!permits(&owner, &file(0), Access::READ, Dac::Enforce));
    assert!(!permits(&owner, &dir(0), Access::WRITE, dac), "directories follow their bits");
    assert!(!permits(&other, &file(0o600), Access::READ, dac));
    assert!(permits(&other, &file(0o711), Access::READ, dac), "running is reading");
    assert!(!permits(&other, &file(0o711), Access::WRITE, dac));
    assert!(permits(&other, &file(0), Access(7), Dac::Delegated));
}

#[test]
fn only_files_and_directories_open_and_directories_only_for_reading() {
    let root = Cred::root();
    let opened = |attr: &Attr, flags| kind(may_open(&root, attr, flags, Dac::Enforce));
    assert_eq!(opened(&dir(0o755), OpenFlags::READ), None);
    assert_eq!(opened(&dir(0o755), OpenFlags::READ_WRITE), Some(ErrorKind::IsDirectory));
    let fifo = attr(3, Kind::Fifo, 0o666, 0, 0);
    assert_eq!(opened(&fifo, OpenFlags::READ), Some(ErrorKind::Invalid));
    let cut = OpenFlags { truncate: true, ..OpenFlags::READ };
    let reader = Cred::user(11, 21);
    let refused = kind(may_open(&reader, &file(0o644), cut, Dac::Enforce));
    assert_eq!(refused, Some(ErrorKind::Access), "cutting is writing");
}

#[test]
fn a_sticky_directory_protects_other_peoples_entries() {
    let sticky = attr(2, Kind::Directory, 0o1777, 10, 20);
    let victim = attr(9, Kind::Regular, 0o666, 11, 21);
    let removed = |uid, dac| kind(unlink(&Cred::user(uid, 99), &sticky, &victim, dac));
    assert_eq!(removed(10, Dac::Enforce), None, "the directory's owner may");
    assert_eq!(removed(11, Dac::Enforce), None, "the file's owner may");
    assert_eq!(removed(0, Dac::Enforce), None);
    assert_eq!(removed(12, Dac::Enforce), Some(ErrorKind::Permission));
    assert_eq!(removed(12, Dac::Delegated), None, "the kernel has checked");
    let closed = attr(2, Kind::Directory, 0o1555, 11, 21);
    let refused = kind(unlink(&Cred::user(12, 99), &closed, &victim, Dac::Enforce));
    assert_eq!(refused, Some(ErrorKind::Access), "permission comes before the sticky bit");
}

#[test]
fn kinds_are_checked_after_permission() {
    let user = Cred::user(12, 99);
    let victim = attr(9, Kind::Directory, 0o755, 12, 99);
    let refused = kind(unlink(&user, &dir(0o755), &victim, Dac::Enforce));
    assert_eq!(refused, Some(ErrorKind::Access));
    let open = dir(0o777);
    assert_eq!(kind(unlink(&user, &open, &victim, Dac::Enforce)), Some(ErrorKind::IsDirectory));
    assert_eq!(
        kind(rmdir(&user, &open, &file(0o644), true, Dac::Enforce)),
        Some(ErrorKind::NotDirectory)
    );
    assert_eq!(
        kind(rmdir(&user, &open, &victim, false, Dac::Delegated)),
        Some(ErrorKind::NotEmpty)
    );
}

#[test]
fn links_are_limited_and_never_to_directories() {
    let root = Cred::root();
    let linked = |inode: &Attr| kind(link(&root, inode, &dir(0o755), 3, Dac::Enforce));
    assert_eq!(linked(&dir(0o755)), Some(ErrorKind::Permission));
    assert_eq!(linked(&Attr { nlink: 2, ..file(0o644) }), None);
    assert_eq!(linked(&Attr { nlink: 3, ..file(0o644) }), Some(ErrorKind::TooManyLinks));
    assert_eq!(linked(&Attr { nlink: 0, ..file(0o644) }), Some(ErrorKind::NotFound));
}

#[test]
fn devices_are_roots_to_make() {
    let made = |uid, node, dac| kind(may_make_node(&Cred::user(uid, 1), node, dac));
    let device = Kind::CharDevice { major: 1, minor: 3 };
    assert_eq!(made(0, device, Dac::Enforce), None);
    assert_eq!(made(5, device, Dac::Enforce), Some(ErrorKind::Permission));
    assert_eq!(made(5, device, Dac::Delegated), None);
    assert_eq!(made(5, Kind::Fifo, Dac::Enforce), None);
    assert_eq!(made(0, Kind::Directory, Dac::Delegated), Some(ErrorKind::Invalid));
}

#[test]
fn a_rename_is_judged_by_both_ends() {
    let (here, there) = (attr(2, Kind::Directory, 0o755, 0, 0), dir(0o755));
    let there = Attr { ino: Ino::new(3).unwrap(), ..there };
    let (plain, folder) = (file(0o644), attr(8, Kind::Directory, 0o755, 0, 0));
    let facts = RenameFacts {
        from_dir: &here,
        source: &plain,
        to_dir: &there,
        target: None,
        source_holds_to_dir: false,
        target_holds_from_dir: false,
        target_is_empty: true,
    };
    let root = Cred::root();
    let decide = |facts, mode| rename(&root, facts, mode, Dac::Enforce).map_err(|e| e.kind());
    use RenameMode::{Exchange, NoReplace, Replace};
    assert_eq!(decide(facts, Replace), Ok(RenamePlan::Move));
    assert_eq!(decide(facts, NoReplace), Ok(RenamePlan::Move));
    assert_eq!(decide(facts, Exchange), Err(ErrorKind::NotFound));
    let onto_itself = RenameFacts { target: Some(&plain), ..facts };
    assert_eq!(decide(onto_itself, Replace), Ok(RenamePlan::Nothing));
    assert_eq!(decide(onto_itself, NoReplace), Err(ErrorKind::Exists));
    let onto_folder = RenameFacts { target: Some(&folder), ..facts };
    assert_eq!(decide(onto_folder, Replace), Err(ErrorKind::IsDirectory));
    assert_eq!(decide(onto_folder, Exchange), Ok(RenamePlan::Exchange));
    let folder_onto_file = RenameFacts { source: &folder, target: Some(&plain), ..facts };
    assert_eq!(decide(folder_onto_file, Replace), Err(ErrorKind::NotDirectory));
    let other = Attr { ino: Ino::new(99).unwrap(), ..folder.clone() };
    let full =
        RenameFacts { source: &folder, target: Some(&other), target_is_empty: false, ..facts };
    assert_eq!(decide(full, Replace), Err(ErrorKind::NotEmpty));
    assert_eq!(decide(full, Exchange), Ok(RenamePlan::Exchange));
    let into_itself = RenameFacts { source_holds_to_dir: true, source: &folder, ..facts };
    assert_eq!(decide(into_itself, Replace), Err(ErrorKind::Invalid));
    let onto_ancestor = RenameFacts { target_holds_from_dir: true, target: Some(&folder), ..facts };
    assert_eq!(decide(onto_ancestor, Replace), Err(ErrorKind::NotEmpty));
    assert_eq!(decide(onto_ancestor, Exchange), Err(ErrorKind::Invalid));
}

#[test]
fn a_directory_that_changes_parents_must_be_writable() {
    let (here, there) = (dir(0o777), Attr { ino: Ino::new(3).unwrap(), ..dir(0o777) });
    let foreign = attr(8, Kind::Directory, 0o755, 0, 0);
    let facts = RenameFacts {
        from_dir: &here,
        source: &foreign,
        to_dir: &there,
        target: None,
        source_holds_to_dir: false,
        target_holds_from_dir: false,
        target_is_empty: true,
    };
    let user = Cred::user(10, 20);
    let decide = |facts| kind(rename(&user, facts, RenameMode::Replace, Dac::Enforce));
    assert_eq!(decide(facts), Some(ErrorKind::Access));
    assert_eq!(decide(RenameFacts { to_dir: &here, ..facts }), None);
}

#[test]
fn a_set_group_id_directory_passes_its_group_on() {
    let user = Cred::user(11, 21);
    let parent = dir(0o2777);
    let asked = SetAttr { mode: Some(0o6755), ..SetAttr::default() };
    let made = |kind, dac| first_attributes(&user, &parent, kind, &asked, dac).unwrap();
    let made_dir = made(Kind::Directory, Dac::Enforce);
    assert_eq!((made_dir.mode, made_dir.uid, made_dir.gid), (0o2755, 11, 20));
    // 11 is not in group 20, so may not make something that lends it.
    assert_eq!(made(Kind::Regular, Dac::Enforce).mode, 0o4755);
    assert_eq!(made(Kind::Regular, Dac::Delegated).mode, 0o6755);
    let plain = first_attributes(&user, &dir(0o777), Kind::Directory, &asked, Dac::Enforce);
    assert_eq!(plain.map_err(|e| e.kind()), Ok(FirstAttributes { mode: 0o755, uid: 11, gid: 21 }));
    let nameless = Cred { gid: None, ..user };
    let made = first_attributes(&nameless, &dir(0o777), Kind::Fifo, &asked, Dac::Enforce);
    assert_eq!(made.unwrap().gid, 20, "without a group of one's own, the directory's");
}

#[test]
fn giving_away_at_creation_needs_the_right_to_chown() {
    let give = SetAttr { uid: Some(12), ..SetAttr::default() };
    let make = |cred: &Cred, asked: &SetAttr, dac| {
        kind(first_attributes(cred, &dir(0o777), Kind::Regular, asked, dac))
    };
    let user = member(11, 21, 22);
    assert_eq!(make(&user, &give, Dac::Enforce), Some(ErrorKind::Permission));
    assert_eq!(make(&user, &give, Dac::Delegated), None);
    assert_eq!(make(&Cred::root(), &give, Dac::Enforce), None);
    let group = |gid| SetAttr { gid: Some(gid), ..SetAttr::default() };
    assert_eq!(make(&user, &group(22), Dac::Enforce), None);
    assert_eq!(make(&user, &group(23), Dac::Enforce), Some(ErrorKind::Permission));
}

fn change(cred: &Cred, attr: &Attr, set: &SetAttr) -> std::result::Result<Changed, ErrorKind> {
    setattr(cred, attr, set, false, 1 << 62, Dac::Enforce).map_err(|error| error.kind())
}

#[test]
fn chown_is_restricted_and_drops_set_id_bits() {
    let owner = member(10, 20, 22);
    let set = |uid, gid| SetAttr { uid, gid, ..SetAttr::default() };
    let suid = file(0o6755);
    assert_eq!(change(&owner, &suid, &set(Some(11), None)), Err(ErrorKind::Permission));
    assert_eq!(change(&owner, &suid, &set(None, Some(23))), Err(ErrorKind::Permission));
    assert_eq!(
        change(&Cred::user(12, 22), &suid, &set(None, Some(22))),
        Err(ErrorKind::Permission)
    );
    assert_eq!(
        change(&owner, &suid, &set(Some(10), Some(22))),
        Ok(Changed { mode: 0o755, uid: 10, gid: 22 })
    );
    assert_eq!(change(&Cred::root(), &suid, &set(Some(5), None)).unwrap().mode, 0o755);
    assert_eq!(change(&Cred::root(), &file(0o2644), &set(Some(5), None)).unwrap().mode, 0o2644);
    assert_eq!(change(&owner, &dir(0o2755), &set(None, Some(22))).unwrap().mode, 0o2755);
    let both = SetAttr { mode: Some(0o4711), ..set(Some(5), None) };
    assert_eq!(change(&Cred::root(), &suid, &both).unwrap().mode, 0o4711);
}

#[test]
fn chmod_is_the_owners_and_does_not_lend_a_foreign_group() {
    let set = SetAttr { mode: Some(0o2755), ..SetAttr::default() };
    assert_eq!(change(&Cred::user(11, 20), &file(0o777), &set), Err(ErrorKind::Permission));
    assert_eq!(change(&Cred::user(10, 20), &file(0o644), &set).unwrap().mode, 0o2755);
    assert_eq!(change(&Cred::user(10, 21), &file(0o644), &set).unwrap().mode, 0o755);
    assert_eq!(change(&Cred::root(), &file(0o644), &set).unwrap().mode, 0o2755);
    let kernel = setattr(&Cred::user(10, 21), &file(0o644), &set, false, 1, Dac::Delegated);
    assert_eq!(kernel.unwrap().mode, 0o2755, "the kernel knows the groups and has decided");
}

#[test]
fn times_of_ones_choice_are_the_owners_and_now_is_every_writers() {
    let writer = Cred::user(11, 21);
    let touch = |atime, mtime| SetAttr { atime, mtime, ..SetAttr::default() };
    let chosen = Some(SetTime::To(Timestamp::default()));
    let now = Some(SetTime::Now);
    assert_eq!(change(&writer, &file(0o666), &touch(now, now)).err(), None);
    assert_eq!(change(&writer, &file(0o664), &touch(now, now)), Err(ErrorKind::Access));
    assert_eq!(change(&writer, &file(0o666), &touch(now, chosen)), Err(ErrorKind::Permission));
    assert_eq!(change(&Cred::user(10, 20), &file(0), &touch(chosen, chosen)).err(), None);
}

#[test]
fn length_needs_write_permission_a_file_and_room() {
    let cut = |size| SetAttr { size: Some(size), ..SetAttr::default() };
    let user = Cred::user(11, 21);
    assert_eq!(change(&user, &file(0o664), &cut(0)), Err(ErrorKind::Access));
    let open = setattr(&user, &file(0o4664), &cut(0), true, 1, Dac::Enforce);
    assert_eq!(open.unwrap().mode, 0o664, "through the handle, and without set-user-id");
    assert_eq!(change(&user, &dir(0o777), &cut(0)), Err(ErrorKind::IsDirectory));
    let fifo = attr(3, Kind::Fifo, 0o666, 0, 0);
    assert_eq!(change(&user, &fifo, &cut(0)), Err(ErrorKind::Invalid));
    let too_long = change(&Cred::root(), &file(0o644), &cut((1 << 62) + 1));
    assert_eq!(too_long, Err(ErrorKind::FileTooBig));
}

#[test]
fn a_guarded_change_fails_when_the_inode_has_moved_on() {
    let guard = |seconds| SetAttr {
        only_if_ctime: Some(Timestamp { seconds, nanoseconds: 0 }),
        ..SetAttr::default()
    };
    assert_eq!(change(&Cred::root(), &file(0o644), &guard(100)).err(), None);
    assert_eq!(change(&Cred::root(), &file(0o644), &guard(99)), Err(ErrorKind::NotSync));
}

#[test]
fn writing_leaves_no_set_id_bit_behind() {
    let after = |cred: &Cred, mode, dac| mode_after_write(cred, &file(mode), dac);
    assert_eq!(after(&Cred::root(), 0o6777, Dac::Enforce), 0o6777);
    assert_eq!(after(&Cred::user(11, 20), 0o6777, Dac::Enforce), 0o777);
    assert_eq!(after(&Cred::user(11, 20), 0o2767, Dac::Enforce), 0o2767);
    assert_eq!(after(&Cred::user(11, 21), 0o2767, Dac::Enforce), 0o767);
    assert_eq!(after(&Cred::user(11, 21), 0o2767, Dac::Delegated), 0o2767);
}

#[test]
fn relatime_refreshes_stale_and_old_access_times() {
    let at = |seconds| Timestamp { seconds, nanoseconds: 0 };
    let mut file = file(0o644);
    assert!(atime_is_due(&file, at(100)), "not newer than the last change");
    file.atime = at(101);
    assert!(!atime_is_due(&file, at(101 + 86_399)));
    assert!(atime_is_due(&file, at(101 + 86_400)));
    file.ctime = at(101);
    assert!(atime_is_due(&file, at(102)));
}

#[test]
fn change_times_only_rise() {
    let at = |seconds, nanoseconds| Timestamp { seconds, nanoseconds };
    assert_eq!(op_time(at(5, 0), [at(4, 0), at(3, 9)]), at(5, 0));
    assert_eq!(op_time(at(5, 0), [at(5, 0)]), at(5, 1));
    assert_eq!(op_time(at(5, 0), [at(7, 999_999_999), at(1, 0)]), at(8, 0));
}

#[test]
fn xattr_namespaces_are_kept_apart() {
    let user = Cred::user(11, 21);
    let root = Cred::root();
    let write = |cred: &Cred, attr: &Attr, name: &[u8]| {
        kind(may_write_xattr(cred, attr, name, Some(1), Dac::Enforce))
    };
    let read = |cred: &Cred, attr: &Attr, name: &[u8]| {
        kind(may_read_xattr(cred, attr, name, Dac::Enforce))
    };
    let link = attr(3, Kind::Symlink, 0o777, 11, 21);
    assert_eq!(write(&user, &file(0o666), b"user.a"), None);
    assert_eq!(write(&user, &file(0o644), b"user.a"), Some(ErrorKind::Access));
    assert_eq!(write(&root, &link, b"user.a"), Some(ErrorKind::Permission));
    assert_eq!(read(&root, &link, b"user.a"), Some(ErrorKind::NoData));
    assert_eq!(write(&user, &file(0o666), b"trusted.a"), Some(ErrorKind::Permission));
    assert_eq!(read(&user, &file(0o666), b"trusted.a"), Some(ErrorKind::NoData));
    assert_eq!(write(&root, &file(0), b"trusted.a"), None);
    assert!(!xattr_is_listed(&user, b"trusted.a") && xattr_is_listed(&root, b"trusted.a"));
    assert_eq!(write(&user, &file(0o666), b"security.a"), Some(ErrorKind::Permission));
    assert_eq!(read(&user, &file(0), b"security.a"), None);
    assert_eq!(write(&user, &file(0o666), b"system.posix_acl_access"), Some(ErrorKind::Permission));
    assert_eq!(write(&root, &file(0o666), b"system.posix_acl_default"), Some(ErrorKind::Access));
    assert_eq!(write(&root, &file(0), b"com.apple.x"), Some(ErrorKind::NotSupported));
    assert_eq!(write(&root, &file(0), b"user."), Some(ErrorKind::Invalid));
    assert_eq!(write(&root, &file(0), b""), Some(ErrorKind::Range));
    let long = [b"user.".as_slice(), &[b'x'; 251]].concat();
    assert_eq!(write(&root, &file(0), &long), Some(ErrorKind::Range));
    assert_eq!(write(&root, &file(0), &long[..255]), None);
    let sticky = attr(2, Kind::Directory, 0o1777, 10, 20);
    assert_eq!(write(&user, &sticky, b"user.a"), Some(ErrorKind::Permission));
}

#[test]
fn xattr_sizes_and_modes() {
    let root = Cred::root();
    let set = |len| kind(may_write_xattr(&root, &file(0), b"user.a", Some(len), Dac::Enforce));
    assert_eq!(set(65_536), None);
    assert_eq!(set(65_537), Some(ErrorKind::Range));
    assert_eq!(kind(xattr_fits(65_536)), None);
    assert_eq!(kind(xattr_fits(65_537)), Some(ErrorKind::NoSpace));
    assert_eq!(kind(xattr_mode_allows(XattrMode::Create, true)), Some(ErrorKind::Exists));
    assert_eq!(kind(xattr_mode_allows(XattrMode::Replace, false)), Some(ErrorKind::NoData));
    assert_eq!(kind(xattr_mode_allows(XattrMode::Either, false)), None);
}

#[test]
fn targets_and_ranges_have_limits() {
    assert_eq!(kind(symlink_target(b"")), Some(ErrorKind::NotFound));
    assert_eq!(kind(symlink_target(&[b'a'; 4096])), Some(ErrorKind::NameTooLong));
    assert_eq!(kind(symlink_target(&[b'a'; 4095])), None);
    assert_eq!(kind(symlink_target(b"a\0b")), Some(ErrorKind::Invalid));
    assert_eq!(range_end(5, 5, 10).ok(), Some(10));
    assert_eq!(kind(range_end(5, 6, 10)), Some(ErrorKind::FileTooBig));
    assert_eq!(kind(range_end(u64::MAX, 1, u64::MAX)), Some(ErrorKind::FileTooBig));
}
