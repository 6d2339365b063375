//! Who is let in as whom, and to do what.

use crate::p9::client::{
    Change, Client, EACCES, ENOENT, EPERM, EROFS, NO_ID, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY, Put,
    T_LINK, T_MKDIR, T_MKNOD, T_REMOVE, T_RENAME, T_SYMLINK, T_XATTRCREATE,
};
use crate::p9::support::{MSIZE, ROOT, Served, is_root, ready, trusting};
use rustix::process::{Gid, Uid};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use tgcryptfs_p9::{Export, Squash, TreeName};

/// Does something as somebody else, on a thread of its own.
fn as_user<T: Send>(uid: u32, gid: u32, work: impl FnOnce() -> T + Send) -> T {
    let become_user = || {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::thread::set_thread_groups(&[]).unwrap();
        rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        work()
    };
    std::thread::scope(|scope| scope.spawn(become_user).join().unwrap())
}

/// A connection made by somebody else on this machine.
fn connected_as(served: &Served, uid: u32, gid: u32) -> Client {
    let path = &served.path;
    // Everybody may get at the socket; whom they are taken for is the question.
    for (path, mode) in [(path.parent().unwrap(), 0o755), (path, 0o777)] {
        rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(mode)).unwrap();
    }
    let socket = as_user(uid, gid, || UnixStream::connect(path).unwrap());
    let mut client = Client::over_unix(socket);
    client.version(MSIZE, "9P2000.L");
    client
}

#[test]
fn s33_a_peer_on_a_unix_socket_is_itself() {
    if !is_root() {
        println!("skipped: only root can connect as others");
        return;
    }
    let served = Served::with(Export::default());
    let mut root = ready(served.connect_unix());
    root.attach(1, 1000).unwrap();
    let file = root.walked(1, &[]).unwrap();
    root.create(file, "private", O_RDWR, 0o600, 1000).unwrap();

    let mut user = connected_as(&served, 1000, 1000);
    for uid in [0, 1001] {
        assert_eq!(user.attach(1, uid), Err(EPERM), "as {uid}");
    }
    assert_eq!(user.attach_as(1, "root", "", NO_ID), Err(EPERM));
    user.attach(1, 1000).unwrap();
    user.attach_as(2, "nobody", "", NO_ID).unwrap();
    for root in [1, 2] {
        let file = user.walked(root, &["private"]).unwrap();
        user.open(file, O_RDONLY).unwrap();
    }
    // Nor is a group believed that is not the peer's.
    let file = user.walked(1, &[]).unwrap();
    user.create(file, "mine", O_RDWR, 0o644, 0).unwrap();
    let stat = user.stat(file).unwrap();
    assert_eq!((stat.uid, stat.gid), (1000, 1000));

    let mut other = connected_as(&served, 1001, 1001);
    other.attach_as(1, "", "", NO_ID).unwrap();
    let file = other.walked(1, &["private"]).unwrap();
    assert_eq!(other.open(file, O_RDONLY), Err(EACCES));
}

#[test]
fn what_only_a_group_may_is_refused() {
    let served = Served::new();
    let mut client = served.client();
    client.attach(1, 1000).unwrap();
    let file = client.walked(ROOT, &[]).unwrap();
    client.create(file, "the group's", O_RDWR, 0o660, 2000).unwrap();
    let file = client.walked(1, &["the group's"]).unwrap();
    assert_eq!(client.open(file, O_RDONLY), Err(EACCES));
    // Who creates something is believed to be in the group it is for, and of that alone.
    let file = client.walked(1, &[]).unwrap();
    client.create(file, "mine", O_RDWR, 0o660, 2000).unwrap();
    let stat = client.stat(file).unwrap();
    assert_eq!((stat.uid, stat.gid), (1000, 2000));
}

#[test]
fn s33_over_tcp_a_local_peer_must_own_its_socket() {
    let served = Served::with(Export::default());
    let me = rustix::process::geteuid().as_raw();
    let mut client = served.connect();
    client.version(MSIZE, "9P2000.L");
    client.attach(1, me).unwrap();
    let as_another = client.attach(2, me + 1);
    if is_root() {
        as_another.unwrap();
    } else {
        assert_eq!(as_another, Err(EPERM));
    }
}

#[test]
fn s33_over_tcp_a_neighbour_cannot_claim_to_be_somebody_else() {
    if !is_root() {
        println!("skipped: only root can connect as others");
        return;
    }
    let served = Served::with(Export::default());
    let mut root = ready(served.connect());
    root.attach(1, 1000).unwrap();
    let file = root.walked(1, &[]).unwrap();
    root.create(file, "private", O_RDWR, 0o600, 1000).unwrap();

    let addr = served.addr();
    let socket = as_user(4321, 4321, || TcpStream::connect(addr).unwrap());
    let mut liar = Client::over_tcp(socket);
    liar.version(MSIZE, "9P2000.L");
    for uid in [0, 1000, 4322] {
        assert_eq!(liar.attach(1, uid), Err(EPERM), "as {uid}");
    }
    for user in ["root", "0", "1000"] {
        assert_eq!(liar.attach_as(1, user, "", NO_ID), Err(EPERM), "as {user}");
    }
    liar.attach(1, 4321).unwrap();
    liar.attach_as(2, "nobody", "", NO_ID).unwrap();
    for root in [1, 2] {
        let file = liar.walked(root, &["private"]).unwrap();
        assert_eq!(liar.open(file, O_RDONLY), Err(EACCES));
    }
}

#[test]
fn root_is_squashed() {
    let squash = Squash::Root { uid: 65_534, gid: 65_533 };
    let served = Served::with(Export { squash, ..trusting() });
    let mut client = served.client();
    client.attach(1, 1000).unwrap();
    let owner = |client: &mut Client, root, name: &str| {
        let fid = client.walked(root, &[]).unwrap();
        client.create(fid, name, O_RDWR, 0o600, 7).unwrap();
        let stat = client.stat(fid).unwrap();
        (stat.uid, stat.gid)
    };
    assert_eq!(owner(&mut client, ROOT, "a"), (65_534, 65_533));
    assert_eq!(owner(&mut client, 1, "b"), (1000, 7));
    let file = client.walked(ROOT, &["b"]).unwrap();
    assert_eq!(client.open(file, O_RDONLY), Err(EACCES));

    let squash = Squash::All { uid: 5, gid: 6 };
    let served = Served::with(Export { squash, ..trusting() });
    let mut client = served.client();
    client.attach(1, 1000).unwrap();
    assert_eq!(owner(&mut client, ROOT, "a"), (5, 6));
    assert_eq!(owner(&mut client, 1, "b"), (5, 6));
}

#[test]
fn s33_a_secret_name_has_to_be_known() {
    let name = TreeName::Secret(b"s3cret"[..].into());
    let served = Served::with(Export { name, ..trusting() });
    let mut client = served.connect();
    client.version(MSIZE, "9P2000.L");
    for tree in ["", "/", "s3cre", "s3crets", "S3cret", "x/s3cret", ".."] {
        assert_eq!(client.attach_as(1, "", tree, 0), Err(ENOENT), "{tree:?}");
    }
    client.attach_as(1, "", "/s3cret", 0).unwrap();
    client.make_dir(1, "d", 0o755).unwrap();
    let inside = client.attach_as(2, "", "s3cret/d", 0).unwrap();
    assert_eq!(client.stat(2).unwrap().qid, inside);
}

#[test]
fn s33_who_does_not_attach_is_not_kept() {
    let strangers_wait_max = std::time::Duration::from_millis(300);
    let name = TreeName::Secret(b"s3cret"[..].into());
    let served = Served::with(Export { strangers_wait_max, name, ..trusting() });
    let mut known = served.connect();
    known.version(MSIZE, "9P2000.L");
    known.attach_as(ROOT, "", "s3cret", 0).unwrap();
    let (mut silent, mut half, mut agreed) =
        (served.connect(), served.connect(), served.connect_unix());
    half.send_raw(&[19, 0, 0]);
    agreed.version(MSIZE, "9P2000.L");
    // Guessing is no sign of belonging here.
    assert_eq!(agreed.attach_as(1, "", "guess", 0), Err(ENOENT));
    for stranger in [&mut silent, &mut half, &mut agreed] {
        assert!(stranger.try_receive().is_none(), "the server hangs up");
    }
    // Nor does it help to go on asking.
    let mut asks = served.connect();
    asks.version(MSIZE, "9P2000.L");
    let mut count = 0;
    loop {
        asks.send(1, T_MKDIR, &Put::default().u32(ROOT).s("d").u32(0o755).u32(0));
        if asks.try_receive().is_none() {
            break;
        }
        count += 1;
        assert!(count < 10_000_000, "it is never turned out");
    }
    assert!(known.stat(ROOT).is_ok(), "who was let in may be silent");
}

#[test]
fn s33_nothing_changes_through_a_read_only_export() {
    let served = Served::with(Export { read_only: true, ..trusting() });
    let attr = vfs::SetAttr { mode: Some(0o666), ..vfs::SetAttr::default() };
    let root = vfs::Cred::root();
    let cx = vfs::Context { cred: &root, dac: vfs::Dac::Enforce, op: None };
    let name = vfs::Name::new(b"f").unwrap();
    let exists = vfs::IfExists::Fail;
    let made = vfs::Vfs::create(&served.probe.model, cx, vfs::Ino::ROOT, name, &attr, exists, None);
    let before = vfs::conformance::block_on(made).unwrap().entry.attr;

    let mut client = served.client();
    let file = client.walked(ROOT, &["f"]).unwrap();
    for flags in [O_WRONLY, O_RDWR, O_TRUNC] {
        assert_eq!(client.open(file, flags), Err(EROFS));
    }
    let dir = client.walked(ROOT, &[]).unwrap();
    assert_eq!(client.create(dir, "g", O_RDONLY, 0o644, 0), Err(EROFS));
    assert_eq!(client.change(file, &Change { valid: 1, ..Change::default() }), Err(EROFS));
    assert_eq!(client.unlink(ROOT, "f", 0), Err(EROFS));
    assert_eq!(client.rename((ROOT, "f"), (ROOT, "g")), Err(EROFS));
    let puts = [
        (T_MKDIR, Put::default().u32(ROOT).s("d").u32(0o755).u32(0)),
        (T_MKNOD, Put::default().u32(ROOT).s("p").u32(0o010_644).u32(0).u32(0).u32(0)),
        (T_SYMLINK, Put::default().u32(ROOT).s("l").s("f").u32(0)),
        (T_LINK, Put::default().u32(ROOT).u32(file).s("g")),
        (T_RENAME, Put::default().u32(file).u32(ROOT).s("g")),
        (T_XATTRCREATE, Put::default().u32(file).s("user.a").u64(1).u32(0)),
    ];
    for (kind, put) in puts {
        assert_eq!(client.call(kind, &put), Err(EROFS), "message {kind}");
    }
    client.open(file, O_RDONLY).unwrap();
    assert_eq!(client.read(file, 0, 10).unwrap(), []);
    assert_eq!(client.lock(file, 1, (0, 0), (1, "m")), Ok(0), "locks change nothing");
    assert_eq!(client.call(T_REMOVE, &Put::default().u32(file)), Err(EROFS));
    assert_eq!(client.stat(file), Err(crate::p9::client::EBADF), "the fid is gone all the same");
    let file = client.walked(ROOT, &["f"]).unwrap();
    assert_eq!(client.stat(file).unwrap().data_version, before.change);
}
