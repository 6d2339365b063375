//! Names, data and attributes.

use crate::p9::client::{
    Change, EACCES, EBADF, EBUSY, EEXIST, EINVAL, EISDIR, EMFILE, ENOENT, ENOTDIR, EOPNOTSUPP,
    ESTALE, NO_FID, NO_ID, O_APPEND, O_DIRECTORY, O_EXCL, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY, Put,
    T_AUTH, T_FSYNC, T_LINK, T_MKNOD, T_READLINK, T_REMOVE, T_RENAME, T_STATFS, T_SYMLINK, Take,
};
use crate::p9::support::{MSIZE, ROOT, Served, ready, trusting, wait_until};
use tgcryptfs_p9::{Bounds, Export};
use vfs::{Stability, WriteAt};

#[test]
fn a_message_size_and_a_version_are_agreed_on() {
    let served = Served::new();
    let mut client = served.connect();
    let known = |msize: u32| (msize, b"9P2000.L".to_vec());
    assert_eq!(client.version(4096, "9P2000.L"), known(4096));
    assert_eq!(client.version(70_000, "9P2000.L"), known(70_000));
    assert_eq!(client.version(u32::MAX, "9P2000.L"), known(1 << 20));
    client.attach(ROOT, 0).unwrap();
    for (msize, version) in [(8192, "9P2000"), (8192, "9P2000.u"), (4095, "9P2000.L"), (0, "")] {
        let (_, answered) = client.version(msize, version);
        assert_eq!(answered, b"unknown", "{version} with {msize}");
        assert_eq!(client.attach(ROOT, 0), Err(EINVAL), "no session");
    }
    let mut client = ready(client);
    assert_eq!(client.call(T_AUTH, &Put::default().u32(1).s("").s("").u32(0)), Err(EOPNOTSUPP));
}

#[test]
fn a_new_version_begins_anew() {
    let served = Served::new();
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"data");
    assert_eq!(client.lock(fid, 1, (0, 0), (1, "m")).unwrap(), 0);
    client.version(MSIZE, "9P2000.L");
    assert_eq!(client.stat(fid), Err(EBADF));
    client.attach(ROOT, 0).unwrap();
    let again = client.walked(ROOT, &["f"]).unwrap();
    client.open(again, O_RDWR).unwrap();
    assert_eq!(client.lock(again, 1, (0, 0), (2, "m")).unwrap(), 0, "locks went too");
}

#[test]
fn walks_go_as_far_as_they_can() {
    let served = Served::new();
    let mut client = served.client();
    client.make_dir(ROOT, "a", 0o755).unwrap();
    let a = client.walked(ROOT, &["a"]).unwrap();
    client.make_dir(a, "b", 0o755).unwrap();
    let qids = client.walk(ROOT, 50, &["a", "b", "..", ".."]).unwrap();
    assert_eq!(qids.iter().map(|qid| qid.kind).collect::<Vec<_>>(), [0x80; 4]);
    assert_eq!((qids[0], qids[3].path), (qids[2], 1));
    assert!(qids.iter().all(|qid| qid.version == 0));
    let up = client.walk(ROOT, 51, &["..", "..", "a"]).unwrap();
    assert_eq!(up.last(), Some(&qids[0]), "above the root is the root");

    assert_eq!(client.walk(ROOT, 52, &["x", "b"]), Err(ENOENT), "the first");
    let part = client.walk(ROOT, 52, &["a", "b", "x", "y"]).unwrap();
    assert_eq!(part, qids[..2]);
    assert_eq!(client.stat(52), Err(EBADF), "a part of the way makes no fid");

    assert_eq!(client.walk(ROOT, 50, &["a"]), Err(EBADF), "a number that is taken");
    assert_eq!(client.walk(99, 60, &["a"]), Err(EBADF));
    let none: [&str; 0] = [];
    assert_eq!(client.walk(a, a, &none), Ok(vec![]));
    assert_eq!(client.walk(a, a, &["b"]).unwrap(), qids[1..2]);
    assert_eq!(client.stat(a).unwrap().qid, qids[1], "walked in place");
    assert_eq!(client.walk(a, a, &["x"]), Err(ENOENT));
    assert_eq!(client.stat(a).unwrap().qid, qids[1], "still there");
    for name in ["", ".", "a/b", "a\0"] {
        assert_eq!(client.walk(ROOT, 53, &[name]), Err(EINVAL), "{name:?}");
    }
    assert_eq!(client.walk(ROOT, 53, &["a"; 17]), Err(EINVAL), "too far");
}

#[test]
fn a_subtree_is_attached_by_its_path() {
    let served = Served::new();
    let mut client = served.client();
    client.make_dir(ROOT, "a", 0o755).unwrap();
    let a = client.walked(ROOT, &["a"]).unwrap();
    let inside = client.make_dir(a, "b", 0o755).unwrap();
    client.file(a, "f", b"");
    assert_eq!(client.attach_as(40, "", "/a//b/", 0).unwrap(), inside);
    assert_eq!(client.walk(40, 41, &["..", ".."]).unwrap(), [inside; 2]);
    assert_eq!(client.attach_as(42, "", "a/f", 0), Err(ENOTDIR));
    assert_eq!(client.attach_as(42, "", "a/x", 0), Err(ENOENT));
    assert_eq!(client.attach_as(42, "", "..", 0), Err(EINVAL));
    assert_eq!(client.attach(40, 0), Err(EBADF), "a number that is taken");
    let with_auth = Put::default().u32(43).u32(1).s("").s("").u32(0);
    assert_eq!(client.call(104, &with_auth), Err(EBADF));
    // Its `..` in a listing is itself.
    client.open(40, O_RDONLY).unwrap();
    let listed = client.list(40, 0, 1000).unwrap();
    assert_eq!(listed.iter().map(|entry| entry.qid.path).collect::<Vec<_>>(), [inside.path; 2]);
}

#[test]
fn what_was_removed_while_open_lives_on() {
    let served = Served::new();
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"data");
    let clone = client.walked(ROOT, &["f"]).unwrap();
    client.unlink(ROOT, "f", 0).unwrap();
    let stat = client.stat(fid).unwrap();
    assert_eq!((stat.nlink, stat.size), (0, 4));
    assert_eq!(client.stat(clone).unwrap(), stat, "by a fid that is not open");
    client.write(fid, 4, b" and more").unwrap();
    assert_eq!(client.read(fid, 0, 100).unwrap(), b"data and more");
    client.change(fid, &Change { valid: 8, size: 2, ..Change::default() }).unwrap();
    let copy = client.fid();
    let none: [&str; 0] = [];
    client.walk(fid, copy, &none).unwrap();
    client.open(copy, O_RDONLY).unwrap();
    client.clunk(fid).unwrap();
    assert_eq!(client.read(copy, 0, 100).unwrap(), b"da");
    client.clunk(copy).unwrap();
    assert_eq!(client.stat(clone), Err(ESTALE));
}

#[test]
fn fids_follow_their_files() {
    let served = Served::new();
    let mut client = served.client();
    client.make_dir(ROOT, "a", 0o755).unwrap();
    client.make_dir(ROOT, "b", 0o755).unwrap();
    let (a, b) = (client.walked(ROOT, &["a"]).unwrap(), client.walked(ROOT, &["b"]).unwrap());
    let file = client.file(a, "f", b"one");
    let named = client.walked(a, &["f"]).unwrap();
    client.rename((a, "f"), (b, "g")).unwrap();
    client.rename((ROOT, "b"), (a, "c")).unwrap();
    client.file(a, "f", b"other");
    assert_eq!(client.read(file, 0, 10).unwrap(), b"one");
    assert_eq!(client.stat(named).unwrap().size, 3);
    client.open(named, O_RDONLY).unwrap();
    assert_eq!(client.read(named, 0, 10).unwrap(), b"one");
    assert_eq!(client.walk(ROOT, 50, &["a", "c", "g"]).unwrap().len(), 3);
    assert_eq!(client.stat(50).unwrap().qid, client.stat(file).unwrap().qid);
}

#[test]
fn messages_that_mean_a_name_find_the_one_it_has_now() {
    let served = Served::new();
    let (mut client, mut other) = (served.client(), served.client());
    client.make_dir(ROOT, "d", 0o755).unwrap();
    let dir = client.walked(ROOT, &["d"]).unwrap();
    client.file(dir, "f", b"");
    let file = client.walked(dir, &["f"]).unwrap();
    let remove = |fid| Put::default().u32(fid);

    // Moved by us, and then within its directory by somebody else.
    client.rename((dir, "f"), (ROOT, "g")).unwrap();
    other.rename((ROOT, "g"), (ROOT, "h")).unwrap();
    let put = Put::default().u32(file).u32(dir).s("i");
    client.call(T_RENAME, &put).unwrap();
    client.walked(dir, &["i"]).unwrap();
    // A directory is found wherever it is.
    let other_dir = other.walked(ROOT, &["d"]).unwrap();
    other.make_dir(ROOT, "e", 0o755).unwrap();
    let other_e = other.walked(ROOT, &["e"]).unwrap();
    other.rename((ROOT, "d"), (other_e, "dd")).unwrap();
    assert_eq!(client.call(T_REMOVE, &remove(dir)), Err(39), "not empty");
    assert_eq!(client.stat(dir), Err(EBADF), "the fid is gone all the same");
    client.call(T_REMOVE, &remove(file)).unwrap();
    other.call(T_REMOVE, &remove(other_dir)).unwrap();
    assert_eq!(client.walked(ROOT, &["e", "dd"]), Err(ENOENT));
    // Taken away altogether.
    client.file(ROOT, "f", b"");
    let file = client.walked(ROOT, &["f"]).unwrap();
    other.unlink(ROOT, "f", 0).unwrap();
    other.file(ROOT, "f", b"another");
    assert_eq!(client.call(T_REMOVE, &remove(file)), Err(ESTALE));
    client.walked(ROOT, &["f"]).unwrap();
}

#[test]
fn open_modes_are_kept() {
    let served = Served::new();
    let mut client = served.client();
    client.file(ROOT, "f", b"data");
    let open = |client: &mut crate::p9::client::Client, flags| {
        let fid = client.walked(ROOT, &["f"]).unwrap();
        client.open(fid, flags).map(|_| fid)
    };
    let reads = open(&mut client, O_RDONLY).unwrap();
    assert_eq!(client.write(reads, 0, b"x"), Err(EBADF));
    assert_eq!(client.open(reads, O_RDONLY), Err(EBADF), "opened twice");
    assert_eq!(client.walk(reads, reads, &["x"]), Err(EBUSY));
    let writes = open(&mut client, O_WRONLY).unwrap();
    assert_eq!(client.read(writes, 0, 1), Err(EBADF));
    let appends = open(&mut client, O_RDWR | O_APPEND).unwrap();
    client.write(appends, 0, b" more").unwrap();
    assert_eq!(client.read(reads, 0, 100).unwrap(), b"data more");
    assert_eq!(served.probe.writes().last().map(|write| write.0), Some(WriteAt::End));
    assert_eq!(open(&mut client, O_RDONLY | O_DIRECTORY), Err(ENOTDIR));
    assert_eq!(open(&mut client, 3), Err(EINVAL));
    let synced = open(&mut client, O_WRONLY | 0o10000).unwrap();
    client.write(synced, 0, b"D").unwrap();
    assert_eq!(served.probe.writes().last().map(|write| write.1), Some(Stability::Journaled));
    open(&mut client, O_WRONLY | O_TRUNC).unwrap();
    assert_eq!(client.stat(reads).unwrap().size, 0);
    // A truncation by name may come through any open fid.
    client.change(reads, &Change { valid: 8, size: 9, ..Change::default() }).unwrap();
    assert_eq!(client.stat(reads).unwrap().size, 9);

    let dir = client.walked(ROOT, &[]).unwrap();
    assert_eq!(client.open(dir, O_RDWR), Err(EISDIR));
    assert_eq!(client.list(dir, 0, 100), Err(EBADF), "not open");
    client.open(dir, O_RDONLY).unwrap();
    assert_eq!(client.read(dir, 0, 100), Err(EISDIR));
    assert_eq!(client.list(reads, 0, 100), Err(ENOTDIR));
    assert_eq!(client.read(ROOT, 0, 100), Err(EBADF), "not open");
}

#[test]
fn creating_opens_and_may_insist() {
    let served = Served::new();
    let mut client = served.client();
    let fid = client.walked(ROOT, &[]).unwrap();
    let qid = client.create(fid, b"b\xffd", O_RDWR, 0o600, 7).unwrap();
    assert_eq!(client.create(fid, "x", O_RDWR, 0o600, 7), Err(EBADF), "no directory any more");
    client.write(fid, 0, b"data").unwrap();
    let stat = client.stat(fid).unwrap();
    assert_eq!((stat.qid, stat.mode, stat.gid), (qid, 0o100_600, 7));
    let again = client.walked(ROOT, &[]).unwrap();
    assert_eq!(client.create(again, b"b\xffd", O_RDWR | O_EXCL, 0o600, 7), Err(EEXIST));
    assert_eq!(client.create(again, b"b\xffd", O_RDONLY, 0o644, 9), Ok(qid), "what is there");
    assert_eq!(client.read(again, 0, 10).unwrap(), b"data");
    let again = client.walked(ROOT, &[]).unwrap();
    client.create(again, b"b\xffd", O_RDWR | O_TRUNC, 0o600, 7).unwrap();
    assert_eq!(client.stat(fid).unwrap().size, 0);
}

#[test]
fn everything_else_is_made_too() {
    let served = Served::new();
    let mut client = served.client();
    let link = Put::default().u32(ROOT).s("l").s("a/../zz").u32(3);
    assert_eq!(Take(&client.call(T_SYMLINK, &link).unwrap()).qid().kind, 2);
    let at = client.walked(ROOT, &["l"]).unwrap();
    let target = client.call(T_READLINK, &Put::default().u32(at)).unwrap();
    assert_eq!(Take(&target).s(), b"a/../zz");
    assert_eq!(client.stat(at).unwrap().gid, 3);
    assert_eq!(client.open(at, O_RDONLY), Err(EINVAL));
    assert_eq!(client.call(T_READLINK, &Put::default().u32(ROOT)), Err(EINVAL));

    let node = |name: &str, mode: u32| {
        Put::default().u32(ROOT).s(name).u32(mode).u32(0x123).u32(0x45).u32(4)
    };
    for (name, mode, rdev) in [
        ("fifo", 0o010_640, 0),
        ("null", 0o020_666, 0x1_2345),
        ("plain", 0o100_600, 0),
        ("sock", 0o140_600, 0),
    ] {
        client.call(T_MKNOD, &node(name, mode)).unwrap();
        let at = client.walked(ROOT, &[name]).unwrap();
        let stat = client.stat(at).unwrap();
        assert_eq!((stat.mode, stat.rdev, stat.gid), (mode, rdev, 4), "{name}");
    }
    assert_eq!(client.call(T_MKNOD, &node("d", 0o040_755)), Err(EINVAL));

    let file = client.walked(ROOT, &["plain"]).unwrap();
    let put = |name: &str| Put::default().u32(ROOT).u32(file).s(name);
    client.call(T_LINK, &put("hard")).unwrap();
    assert_eq!(client.call(T_LINK, &put("hard")), Err(EEXIST));
    assert_eq!(client.stat(file).unwrap().nlink, 2);
    client.make_dir(ROOT, "d", 0o700).unwrap();
    assert_eq!(client.unlink(ROOT, "d", 0), Err(EISDIR));
    assert_eq!(client.unlink(ROOT, "hard", 0x200), Err(ENOTDIR));
    assert_eq!(client.unlink(ROOT, "hard", 1), Err(EINVAL));
    client.unlink(ROOT, "d", 0x200).unwrap();
    client.unlink(ROOT, "hard", 0).unwrap();
}

#[test]
fn attributes_are_told_and_changed() {
    let served = Served::new();
    let mut client = served.client();
    let fid = client.file(ROOT, "f", &[1; 5000]);
    let stat = client.stat(fid).unwrap();
    assert_eq!((stat.valid, stat.mode, stat.size), (0x3fff, 0o100_644, 5000));
    assert_eq!((stat.nlink, stat.blksize, stat.generation), (1, 128 << 10, 0));
    assert!(stat.blocks >= 10 && stat.times[3].0 >= 1_800_000_000);
    let change = Change { valid: 1 | 2 | 4, mode: 0o640, uid: 5, gid: 6, ..Change::default() };
    client.change(fid, &change).unwrap();
    let past = (-7_i64).cast_unsigned();
    let times = Change { valid: 0x1f0, atime: (past, 8), mtime: (9, 999_999_999), ..change };
    client.change(fid, &times).unwrap();
    let changed = client.stat(fid).unwrap();
    assert_eq!((changed.mode, changed.uid, changed.gid), (0o100_640, 5, 6));
    assert_eq!(changed.times[..2], [(past, 8), (9, 999_999_999)]);
    assert!(changed.data_version > stat.data_version, "every change counts");
    // Without a value it is now.
    client.change(fid, &Change { valid: 0x30, ..times }).unwrap();
    assert!(client.stat(fid).unwrap().times[1].0 >= 1_800_000_000);
    let wrong = Change { valid: 0x90, atime: (0, 1_000_000_000), ..Change::default() };
    assert_eq!(client.change(fid, &wrong), Err(EINVAL));

    let nobody = Change { valid: 2, uid: NO_ID, ..Change::default() };
    assert_eq!(client.change(fid, &nobody), Err(EINVAL));

    let volume = client.call(T_STATFS, &Put::default().u32(ROOT)).unwrap();
    let mut take = Take(&volume);
    assert_eq!((take.u32(), take.u32(), take.u64()), (0x0102_1997, 4096, (1 << 50) / 4096));
    assert_eq!(volume.len(), 60);
    assert_eq!(Take(&volume[56..]).u32(), 255);
}

#[test]
fn data_comes_in_the_size_of_messages() {
    let served = Served::new();
    let mut client = served.connect();
    client.version(1 << 20, "9P2000.L");
    client.attach(ROOT, 0).unwrap();
    let fid = client.walked(ROOT, &[]).unwrap();
    let put = Put::default().u32(fid).s("f").u32(O_RDWR).u32(0o644).u32(0);
    let answer = client.call(14, &put).unwrap();
    assert_eq!(Take(&answer[13..]).u32(), 7 * (128 << 10), "whole blocks of the file system");
    let data: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 7) as u8).collect();
    for (index, part) in data.chunks(1_000_000).enumerate() {
        client.write(fid, index as u64 * 1_000_000, part).unwrap();
    }
    assert!(served.probe.writes().iter().all(|write| write.2 == 1), "in one piece");
    let first = client.read(fid, 0, u32::MAX).unwrap();
    assert_eq!(first.len(), (1 << 20) - 11, "as much as fits in a message");
    assert!(first == data[..first.len()]);
    assert!(client.read(fid, 2_999_000, 5000).unwrap() == data[2_999_000..]);
    assert_eq!(client.read(fid, u64::MAX, 5000).unwrap(), []);
    client.clunk(fid).unwrap();
    assert_eq!(served.probe.count("flush"), 0, "nothing is told that nobody would hear");
}

#[test]
fn syncing_is_real() {
    let served = Served::with(Export { fsync: Stability::Uploaded, ..trusting() });
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"data");
    client.call(T_FSYNC, &Put::default().u32(fid).u32(0)).unwrap();
    client.call(T_FSYNC, &Put::default().u32(fid).u32(1)).unwrap();
    client.call(T_FSYNC, &Put::default().u32(ROOT).u32(0)).unwrap();
    let syncs = ["file", "data", "directory"].map(|what| (what, Stability::Uploaded));
    assert_eq!(served.probe.syncs(), syncs);
    drop(client);
    drop(served);

    let served = Served::new();
    let mut client = served.client();
    let fid = client.file(ROOT, "f", b"data");
    client.call(T_FSYNC, &Put::default().u32(fid).u32(0)).unwrap();
    assert_eq!(served.probe.syncs(), [("file", Stability::Journaled)]);
}

#[test]
fn nothing_is_saved_before_somebody_asks() {
    let served = Served::new();
    let mut client = served.client();
    client.make_dir(ROOT, "d", 0o755).unwrap();
    let fid = client.file(ROOT, "f", b"data");
    client.file(ROOT, "old", b"");
    client.rename((ROOT, "f"), (ROOT, "old")).unwrap();
    client.unlink(ROOT, "d", 0x200).unwrap();
    client.clunk(fid).unwrap();
    assert!(served.probe.syncs().is_empty(), "{:?}", served.probe.syncs());
    client.call(T_FSYNC, &Put::default().u32(ROOT).u32(0)).unwrap();
    assert_eq!(served.probe.syncs(), [("directory", Stability::Journaled)]);
}

#[test]
fn clients_see_at_once_what_others_do() {
    let served = Served::new();
    let (mut one, mut other) = (served.client(), served.client());
    let written = one.file(ROOT, "f", b"first");
    let open = other.walked(ROOT, &["f"]).unwrap();
    other.open(open, O_RDWR).unwrap();
    assert_eq!(other.read(open, 0, 10).unwrap(), b"first");
    // Nobody closes or syncs anything.
    one.write(written, 0, b"second").unwrap();
    assert_eq!(other.read(open, 0, 10).unwrap(), b"second");
    assert_eq!(other.stat(open).unwrap().size, 6);
    other.write(open, 6, b"!").unwrap();
    assert_eq!(one.read(written, 0, 10).unwrap(), b"second!");
    one.rename((ROOT, "f"), (ROOT, "g")).unwrap();
    assert_eq!(other.walked(ROOT, &["f"]), Err(ENOENT));
    other.walked(ROOT, &["g"]).unwrap();
}

#[test]
fn a_large_directory_is_listed_while_others_change_it() {
    let served = Served::new();
    let (mut client, mut other) = (served.client(), served.client());
    client.make_dir(ROOT, "d", 0o755).unwrap();
    let dir = client.walked(ROOT, &["d"]).unwrap();
    let theirs = other.walked(ROOT, &["d"]).unwrap();
    let make = |client: &mut crate::p9::client::Client, dir, name: &str| {
        let put = Put::default().u32(dir).s(name).u32(0o100_644).u32(0).u32(0).u32(NO_ID);
        client.call(T_MKNOD, &put).unwrap();
    };
    for index in 0..4000 {
        make(&mut client, dir, &format!("stays {index:05}"));
    }
    for index in 0..500 {
        make(&mut client, dir, &format!("goes {index}"));
    }
    client.open(dir, O_RDONLY).unwrap();
    let (mut seen, mut after, mut round) = (Vec::new(), 0, 0);
    loop {
        let page = client.list(dir, after, 3000).unwrap();
        let Some(last) = page.last() else { break };
        assert!(last.cookie > after);
        after = last.cookie;
        seen.extend(page.into_iter().map(|entry| (entry.name, entry.kind)));
        if round < 50 {
            other.unlink(theirs, format!("goes {}", round * 10), 0).unwrap();
            make(&mut other, theirs, &format!("comes {round}"));
        }
        round += 1;
    }
    assert!(round > 50, "only {round} pages");
    let dots: Vec<_> = seen[..2].iter().map(|(name, kind)| (&name[..], *kind)).collect();
    assert_eq!(dots, [(&b"."[..], 4), (b"..", 4)]);
    let stayed: Vec<_> = seen.iter().filter(|(name, _)| name.starts_with(b"stays")).collect();
    assert_eq!(stayed.len(), 4000);
    assert!(stayed.iter().zip(0..).all(|((name, kind), index)| {
        *kind == 8 && *name == format!("stays {index:05}").into_bytes()
    }));
    // Too little room for any entry is not the end.
    assert_eq!(client.list(dir, 2, 30), Err(EINVAL));
    assert_eq!(client.list(dir, 0, 0), Err(EINVAL));
    assert_eq!(client.list(dir, after, 30), Ok(vec![]), "the end is");
}

#[test]
fn fids_are_bounded() {
    let bounds = Bounds { fids_max: 10, ..Bounds::default() };
    let served = Served::with(Export { bounds, ..trusting() });
    let mut client = served.client();
    let fids: Vec<_> = (1..10).map(|_| client.walked(ROOT, &[]).unwrap()).collect();
    assert_eq!(client.walked(ROOT, &[]), Err(EMFILE));
    assert_eq!(client.attach(NO_FID - 1, 0), Err(EMFILE));
    client.clunk(fids[0]).unwrap();
    client.walked(ROOT, &[]).unwrap();
    // Others have room of their own.
    served.client().walked(ROOT, &[]).unwrap();
}

#[test]
fn fids_of_all_clients_are_bounded_together() {
    let bounds = Bounds { fids_max: 4, all_fids_max: 5, ..Bounds::default() };
    let served = Served::with(Export { bounds, ..trusting() });
    let (mut one, mut other) = (served.client(), served.client());
    for _ in 0..3 {
        one.walked(ROOT, &[]).unwrap();
    }
    assert_eq!(other.walked(ROOT, &[]), Err(EMFILE));
    // What a client had is given back when it goes.
    drop(one);
    wait_until("it to be gone", || served.tcp.peers().len() == 1);
    other.walked(ROOT, &[]).unwrap();
}

#[test]
fn open_files_are_bounded() {
    let bounds = Bounds { open_max: 2, all_open_max: 3, ..Bounds::default() };
    let served = Served::with(Export { bounds, ..trusting() });
    let (mut one, mut other) = (served.client(), served.client());
    let first = one.file(ROOT, "f", b"data");
    let second = one.walked(ROOT, &["f"]).unwrap();
    one.open(second, O_RDONLY).unwrap();
    let third = one.walked(ROOT, &["f"]).unwrap();
    assert_eq!(one.open(third, O_RDONLY), Err(EMFILE));
    let dir = one.walked(ROOT, &[]).unwrap();
    assert_eq!(one.create(dir, "g", O_RDWR, 0o600, 0), Err(EMFILE));
    assert_eq!(one.walked(ROOT, &["g"]), Err(ENOENT), "and there is no such file");
    assert_eq!(one.read(second, 0, 10).unwrap(), b"data", "what is open stays so");

    let dir = other.walked(ROOT, &[]).unwrap();
    other.open(dir, O_RDONLY).unwrap();
    let file = other.walked(ROOT, &["f"]).unwrap();
    assert_eq!(other.open(file, O_RDONLY), Err(EMFILE), "of all together");
    one.clunk(first).unwrap();
    other.open(file, O_RDONLY).unwrap();
    assert_eq!(one.open(third, O_RDONLY), Err(EMFILE));
    other.clunk(dir).unwrap();
    one.open(third, O_RDONLY).unwrap();
}

#[test]
fn only_what_may_be_searched_is_walked() {
    let served = Served::new();
    let mut client = served.client();
    client.make_dir(ROOT, "d", 0o700).unwrap();
    let dir = client.walked(ROOT, &["d"]).unwrap();
    client.file(dir, "f", b"");
    client.attach(20, 1000).unwrap();
    assert_eq!(client.walk(20, 21, &["d", "f"]).unwrap().len(), 1);
    client.walk(20, 21, &["d"]).unwrap();
    assert_eq!(client.walk(21, 22, &["f"]), Err(EACCES));
    assert_eq!(client.walk(21, 22, &[".."]), Err(EACCES));
    assert_eq!(client.open(21, O_RDONLY), Err(EACCES));
    assert_eq!(client.create(21, "g", O_RDWR, 0o644, NO_ID), Err(EACCES));
}
