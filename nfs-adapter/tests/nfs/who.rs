//! Who may do what: paths, handles, users.

use crate::support::{Served, handle};
use crate::wire::{Auth, In, MOUNT, NFS, Out, Verdict, Wire, call, marked};
use std::io::Write;
use tgcryptfs_nfs::{ExportPath, Squash};
use zeroize::Zeroizing;

const ACCESS_DENIED: u32 = 13;
const READ_ONLY: u32 = 30;
const BAD_HANDLE: u32 = 10_001;

fn secret(once: bool) -> ExportPath {
    ExportPath::Secret { name: Zeroizing::new("s3cret".to_owned()), once }
}

/// Creates a file with this mode; its handle.
fn create(wire: &mut Wire, auth: &Auth, dir: &[u8], name: &str, mode: u32) -> Result<Vec<u8>, u32> {
    let out = Out::default().opaque(dir).opaque(name.as_bytes());
    let body = wire.nfs(auth, 8, &out.words(&[1, 1, mode, 0, 0, 0, 0, 0]));
    let mut body = In(&body);
    match body.u32() {
        0 => {
            assert!(body.bool());
            Ok(body.opaque().to_vec())
        }
        status => Err(status),
    }
}

/// Owner and group.
fn owner(wire: &mut Wire, file: &[u8]) -> (u32, u32) {
    let body = wire.nfs(&Auth::root(), 1, &Out::default().opaque(file));
    let mut body = In(&body[16..]);
    (body.u32(), body.u32())
}

fn read(wire: &mut Wire, auth: &Auth, file: &[u8]) -> u32 {
    wire.status(auth, 6, &Out::default().opaque(file).u64(0).u32(10))
}

#[test]
fn a_directory_below_the_export_may_be_mounted() {
    let served = Served::with(|export| export.path = ExportPath::Open("/vault".to_owned()));
    let mut wire = served.wire();
    let root = wire.mount(&Auth::root(), "/vault").unwrap();
    assert_eq!(root, handle(1));
    let out = Out::default().opaque(&root).opaque(b"dir").words(&[1, 0o700, 0, 0, 0, 0, 0]);
    assert_eq!(wire.status(&Auth::root(), 9, &out), 0);
    create(&mut wire, &Auth::root(), &root, "file", 0o644).unwrap();
    assert_eq!(wire.mount(&Auth::root(), "/vault/dir/"), Ok(handle(2)));
    assert_eq!(wire.mount(&Auth::root(), "/"), Err(2));
    assert_eq!(wire.mount(&Auth::root(), "/vault/missing"), Err(2));
    assert_eq!(wire.mount(&Auth::root(), "/vault/file"), Err(20));
    assert_eq!(wire.mount(&Auth::root(), "/vault/dir/.."), Err(2));
    assert_eq!(wire.mount(&Auth::user(5), "/vault/dir/x"), Err(ACCESS_DENIED));
}

#[test]
fn s33_a_secret_path_is_the_only_one_and_is_not_told() {
    let served = Served::with(|export| export.path = secret(false));
    let mut wire = served.wire();
    for guess in ["/", "", "/s3cre", "/S3CRET", "/etc"] {
        assert_eq!(wire.mount(&Auth::root(), guess), Err(2), "{guess}");
    }
    assert_eq!(wire.mount(&Auth::root(), "/s3cret"), Ok(handle(1)));
    assert_eq!(wire.mount(&Auth::root(), "/s3cret"), Ok(handle(1)), "as often as one likes");
    // EXPORT and DUMP: an empty list. UMNT and UMNTALL: nothing.
    let path = Out::default().opaque(b"/s3cret");
    for (procedure, arguments, body) in
        [(5, &Out::default(), &[0; 4][..]), (2, &Out::default(), &[0; 4]), (3, &path, &[])]
    {
        let reply = wire.ask(&Auth::root(), (MOUNT, 3, procedure), arguments);
        assert_eq!((reply.verdict, &reply.body[..]), (Verdict::Success, body), "{procedure}");
    }
    let reply = wire.ask(&Auth::None, (MOUNT, 3, 4), &Out::default());
    assert_eq!((reply.verdict, reply.body.len()), (Verdict::Success, 0));
}

#[test]
fn a_path_for_one_mount_is_spent_by_it() {
    let served = Served::with(|export| export.path = secret(true));
    let mut wire = served.wire();
    assert_eq!(wire.mount(&Auth::root(), "/wrong"), Err(2));
    assert_eq!(wire.mount(&Auth::root(), "/s3cret"), Ok(handle(1)));
    assert_eq!(served.wire().mount(&Auth::root(), "/s3cret"), Err(2));
    assert_eq!(wire.status(&Auth::root(), 1, &Out::default().opaque(&handle(1))), 0);
}

#[test]
fn s33_only_handles_that_were_given_are_taken() {
    let served = Served::new();
    let (mut wire, root) = served.mounted();
    let mut status = |handle: &[u8]| wire.status(&Auth::root(), 1, &Out::default().opaque(handle));
    assert_eq!(status(&root), 0);
    for bit in (0..root.len() * 8).step_by(3) {
        let mut forged = root.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(status(&forged), BAD_HANDLE, "bit {bit}");
    }
    for wrong in [&[][..], &[0; 16], &[0; 64], &root[1..]] {
        assert_eq!(status(wrong), BAD_HANDLE, "{wrong:?}");
    }
    // Well made, but there never was such a file.
    assert_eq!(status(&handle(1 << 50)), 70);
    // Longer than any handle: not even arguments.
    let reply = wire.ask(&Auth::root(), (NFS, 3, 1), &Out::default().opaque(&[0; 65]));
    assert_eq!(reply.verdict, Verdict::Refused(4));
}

/// What the file system can be asked through the protocol.
const METHODS: [&str; 16] = [
    "lookup", "getattr", "setattr", "access", "readlink", "create", "make", "link", "unlink",
    "rmdir", "rename", "read", "write", "readdir", "statfs", "sync",
];

#[test]
fn s33_who_has_no_handle_gets_nothing() {
    let served = Served::with(|export| export.path = secret(false));
    let mut wire = served.wire();
    // A good one, but for a bit: nothing else is to be known of it than that it is bad.
    let mut forged = handle(1);
    forged[30] ^= 1;
    let (target, none) = (Out::default().opaque(&forged), [0; 6]);
    let named = |name: &[u8]| target.clone().opaque(name);
    let calls = [
        (1, target.clone()),
        (2, target.clone().words(&none).u32(0)),
        (3, named(b"file")),
        (4, target.clone().u32(0x3f)),
        (5, target.clone()),
        (6, target.clone().u64(0).u32(10)),
        (7, target.clone().u64(0).words(&[4, 0]).opaque(b"data")),
        (8, named(b"new").u32(0).words(&none)),
        (9, named(b"new").words(&none)),
        (10, named(b"new").words(&none).opaque(b"target")),
        (11, named(b"new").u32(7).words(&none)),
        (12, named(b"file")),
        (13, named(b"file")),
        (14, named(b"file").opaque(&forged).opaque(b"other")),
        (15, target.clone().opaque(&forged).opaque(b"other")),
        (16, target.clone().u64(0).u64(0).u32(4096)),
        (17, target.clone().u64(0).u64(0).words(&[4096, 8192])),
        (18, target.clone()),
        (19, target.clone()),
        (20, target.clone()),
        (21, target.clone().u64(0).u32(0)),
    ];
    for auth in [Auth::None, Auth::user(1000), Auth::root()] {
        for (procedure, arguments) in &calls {
            let status = wire.status(&auth, *procedure, arguments);
            assert_eq!(status, BAD_HANDLE, "procedure {procedure} as {auth:?}");
        }
        // Nor does it get one, or hear for what path it would.
        assert_eq!(wire.mount(&auth, "/"), Err(2));
        let exports = wire.ask(&auth, (MOUNT, 3, 5), &Out::default());
        assert_eq!((exports.verdict, &exports.body[..]), (Verdict::Success, &[0; 4][..]));
    }
    for method in METHODS {
        assert_eq!(served.probe.count(method), 0, "{method}");
    }
}

#[test]
fn s33_who_has_no_handle_is_not_kept() {
    let served = Served::with(|export| {
        export.path = secret(false);
        export.strangers_wait_max = std::time::Duration::from_millis(300);
    });
    let (mut known, root) = (served.wire(), Out::default().opaque(&handle(1)));
    assert_eq!(known.status(&Auth::root(), 1, &root), 0);
    let (mut silent, mut half, mut guesses) = (served.wire(), served.wire(), served.wire());
    half.stream.write_all(&[0x80, 0, 0]).unwrap();
    assert_eq!(guesses.mount(&Auth::root(), "/guess"), Err(2));
    let mut forged = handle(1);
    forged[30] ^= 1;
    let forged = Out::default().opaque(&forged);
    assert_eq!(guesses.status(&Auth::root(), 1, &forged), BAD_HANDLE);
    for stranger in [&mut silent, &mut half, &mut guesses] {
        assert!(stranger.is_ended());
    }
    // Nor does it help to go on asking.
    let mut asks = served.wire();
    let call = marked(&call(7, &Auth::root(), (NFS, 3, 1), &forged.0));
    let mut count = 0;
    while asks.stream.write_all(&call).is_ok() && asks.record().is_ok() {
        count += 1;
        assert!(count < 10_000_000, "it is never turned out");
    }
    assert_eq!(known.status(&Auth::root(), 1, &root), 0, "who was let in may be silent");
}

#[test]
fn handles_outlive_the_server() {
    let served = Served::new();
    let (mut wire, root) = served.mounted();
    let file = create(&mut wire, &Auth::root(), &root, "file", 0o644).unwrap();
    let model = served.stop();
    assert!(wire.is_ended());
    let again = Served::start(
        crate::probe::Probe::new(model),
        crate::support::export(),
        crate::support::policy(),
    );
    let mut wire = again.wire();
    assert_eq!(wire.status(&Auth::root(), 1, &Out::default().opaque(&file)), 0);
}

#[test]
fn callers_act_as_themselves() {
    let served = Served::new();
    let (mut wire, root) = served.mounted();
    let (alice, bob) = (Auth::user(1000), Auth::Sys(1001, 1001, vec![1000]));
    let file = create(&mut wire, &alice, &root, "private", 0o600).unwrap();
    assert_eq!(owner(&mut wire, &file), (1000, 1000));
    assert_eq!(read(&mut wire, &alice, &file), 0);
    assert_eq!(read(&mut wire, &bob, &file), ACCESS_DENIED);
    assert_eq!(read(&mut wire, &Auth::None, &file), ACCESS_DENIED);
    let shared = create(&mut wire, &alice, &root, "shared", 0o640).unwrap();
    assert_eq!(read(&mut wire, &bob, &shared), 0, "by a supplementary group");
    assert_eq!(read(&mut wire, &Auth::user(1001), &shared), ACCESS_DENIED);
    // The owner may, whatever the mode: the permission was there when it was opened.
    let closed = create(&mut wire, &alice, &root, "closed", 0).unwrap();
    assert_eq!(read(&mut wire, &alice, &closed), 0);
    let nobodys = create(&mut wire, &Auth::None, &root, "nobody's", 0o644).unwrap();
    assert_eq!(owner(&mut wire, &nobodys), (65_534, 65_534));
}

/// Attributes to set: a length.
fn length(out: Out, len: u64) -> Out {
    out.words(&[0, 0, 0, 1]).u64(len).words(&[0, 0])
}

/// Length and content, as root finds them.
fn content(wire: &mut Wire, file: &[u8]) -> (u64, Vec<u8>) {
    let attributes = wire.nfs(&Auth::root(), 1, &Out::default().opaque(file));
    let size = In(&attributes[24..]).u64();
    let body = wire.nfs(&Auth::root(), 6, &Out::default().opaque(file).u64(0).u32(100));
    let mut body = In(&body);
    assert_eq!((body.u32(), body.bool()), (0, true));
    body.bytes(84);
    let (_count, _is_end) = (body.u32(), body.bool());
    (size, body.opaque().to_vec())
}

#[test]
fn who_may_not_is_refused_also_without_having_asked() {
    let served = Served::new();
    let (mut wire, root) = served.mounted();
    let (eve, no_one) = (Auth::user(1002), Auth::None);
    let file = create(&mut wire, &Auth::root(), &root, "file", 0o600).unwrap();
    let target = Out::default().opaque(&file);
    let write = target.clone().u64(0).words(&[3, 2, 3]).bytes(b"new\0");
    let mode = |wire: &mut Wire, mode| {
        let set = target.clone().words(&[1, mode, 0, 0, 0, 0, 0, 0]);
        assert_eq!(wire.status(&Auth::root(), 2, &set), 0);
    };
    let kept = target.clone().u64(0).words(&[4, 2, 4]).bytes(b"kept");
    assert_eq!(wire.status(&Auth::root(), 7, &kept), 0);
    let over = Out::default().opaque(&root).opaque(b"file").u32(0);
    let changes = [
        ("a write", 7, write.clone()),
        ("a cut", 2, length(target.clone(), 0).u32(0)),
        ("growing", 2, length(target.clone(), 100).u32(0)),
        ("creating over it, cut", 8, length(over.clone(), 0)),
        ("creating over it, longer", 8, length(over, 100)),
    ];
    // Nothing, and reading alone.
    for bits in [0o600, 0o604] {
        mode(&mut wire, bits);
        for (what, procedure, arguments) in &changes {
            for auth in [&eve, &no_one] {
                let status = wire.status(auth, *procedure, arguments);
                assert_eq!(status, ACCESS_DENIED, "{what}, mode {bits:o}");
            }
        }
        let may_read = if bits == 0o604 { 0 } else { ACCESS_DENIED };
        assert_eq!(read(&mut wire, &eve, &file), may_read, "mode {bits:o}");
        assert_eq!(content(&mut wire, &file), (4, b"kept".to_vec()), "mode {bits:o}");
    }
    // Writing alone.
    mode(&mut wire, 0o602);
    assert_eq!(read(&mut wire, &eve, &file), ACCESS_DENIED);
    assert_eq!(wire.status(&eve, 7, &write), 0);
    assert_eq!(content(&mut wire, &file), (4, b"newt".to_vec()));
}

#[test]
fn squashed_callers_act_as_somebody_else() {
    let served = Served::with(|export| export.squash = Squash::Root { uid: 7, gid: 8 });
    let (mut wire, root) = served.mounted();
    let file = create(&mut wire, &Auth::root(), &root, "root's", 0o600).unwrap();
    assert_eq!(owner(&mut wire, &file), (7, 8));
    let file = create(&mut wire, &Auth::user(1000), &root, "user's", 0o600).unwrap();
    assert_eq!(owner(&mut wire, &file), (1000, 1000));
    assert_eq!(read(&mut wire, &Auth::root(), &file), ACCESS_DENIED);
    drop(served);

    let served = Served::with(|export| export.squash = Squash::All { uid: 7, gid: 8 });
    let (mut wire, root) = served.mounted();
    for (name, auth) in [("a", Auth::root()), ("b", Auth::user(1000)), ("c", Auth::None)] {
        let file = create(&mut wire, &auth, &root, name, 0o600).unwrap();
        assert_eq!(owner(&mut wire, &file), (7, 8));
    }
}

/// This process's own user.
fn own_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

#[test]
fn s33_a_neighbour_must_be_who_it_says() {
    let served = Served::with(|export| export.match_peer_uid = true);
    if own_uid() == 0 {
        // Root may claim to be anybody, as a kernel does for its users.
        let mut wire = served.wire();
        assert!(wire.mount(&Auth::user(1000), "/").is_ok());
        let stranger = as_user(4321, || std::net::TcpStream::connect(served.addr).unwrap());
        let mut wire = Wire::over(stranger);
        let ask =
            |wire: &mut Wire, auth: &Auth| wire.ask(auth, (NFS, 3, 0), &Out::default()).verdict;
        assert_eq!(ask(&mut wire, &Auth::root()), Verdict::Denied(1, 5));
        assert_eq!(ask(&mut wire, &Auth::user(1000)), Verdict::Denied(1, 5));
        assert_eq!(ask(&mut wire, &Auth::user(4321)), Verdict::Success);
        let root = wire.mount(&Auth::user(4321), "/").unwrap();
        // What it says of its groups cannot be checked.
        let claim = Auth::Sys(4321, 0, vec![0]);
        let file = create(&mut wire, &claim, &root, "mine", 0o600).unwrap();
        assert_eq!(owner_as(&mut wire, &claim, &file), (4321, 65_534));
    } else {
        let mut wire = served.wire();
        assert!(wire.mount(&Auth::user(own_uid()), "/").is_ok());
        let reply = wire.ask(&Auth::root(), (NFS, 3, 0), &Out::default());
        assert_eq!(reply.verdict, Verdict::Denied(1, 5));
    }
}

/// An address of this machine that is none of loopback's, if it has one.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // Sends nothing: it only asks which way it would go.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[test]
fn s33_a_neighbour_that_comes_from_another_address_must_be_who_it_says_too() {
    let served = Served::with(|export| export.match_peer_uid = true);
    let (0, Some(own)) = (own_uid(), own_address()) else {
        return eprintln!("skipped: needs root, and an address beside loopback");
    };
    let stranger = as_user(4321, || {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&fd, &std::net::SocketAddr::new(own, 0)).unwrap();
        connect(&fd, &served.addr).unwrap();
        std::net::TcpStream::from(fd)
    });
    let mut wire = Wire::over(stranger);
    let ask = |wire: &mut Wire, auth: &Auth| wire.ask(auth, (NFS, 3, 0), &Out::default()).verdict;
    assert_eq!(ask(&mut wire, &Auth::root()), Verdict::Denied(1, 5));
    assert_eq!(ask(&mut wire, &Auth::user(4321)), Verdict::Success);
}

fn owner_as(wire: &mut Wire, auth: &Auth, file: &[u8]) -> (u32, u32) {
    let body = wire.nfs(auth, 1, &Out::default().opaque(file));
    let mut body = In(&body[16..]);
    (body.u32(), body.u32())
}

/// Does something as a user, on a thread of its own.
fn as_user<T: Send>(uid: u32, work: impl FnOnce() -> T + Send) -> T {
    let become_user = || {
        let uid = rustix::process::Uid::from_raw(uid);
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        work()
    };
    std::thread::scope(|scope| scope.spawn(become_user).join().unwrap())
}

#[test]
fn s33_nothing_is_changed_through_a_read_only_export() {
    let served = Served::new();
    let (mut wire, root) = served.mounted();
    let file = create(&mut wire, &Auth::root(), &root, "file", 0o666).unwrap();
    let model = served.stop();
    let mut export = crate::support::export();
    export.read_only = true;
    let served = Served::start(crate::probe::Probe::new(model), export, crate::support::policy());
    let mut wire = served.wire();
    let (dir, target) = (Out::default().opaque(&root), Out::default().opaque(&file));
    let none = [0; 6];
    let named = |name: &[u8]| dir.clone().opaque(name);
    let calls = [
        (2, target.clone().words(&none).u32(0)),
        (7, target.clone().u64(0).words(&[4, 0]).opaque(b"data")),
        (8, named(b"new").u32(0).words(&none)),
        (8, named(b"new").u32(2).u64(5)),
        (9, named(b"new").words(&none)),
        (10, named(b"new").words(&none).opaque(b"target")),
        (11, named(b"new").u32(7).words(&none)),
        (12, named(b"file")),
        (13, named(b"file")),
        (14, named(b"file").opaque(&root).opaque(b"other")),
        (15, target.clone().opaque(&root).opaque(b"other")),
    ];
    for (procedure, arguments) in calls {
        let status = wire.status(&Auth::root(), procedure, &arguments);
        assert_eq!(status, READ_ONLY, "procedure {procedure}");
    }
    for (procedure, method) in [(2, "setattr"), (7, "write"), (8, "create"), (12, "unlink")] {
        assert_eq!(served.probe.count(method), 0, "procedure {procedure}");
    }
    assert_eq!(read(&mut wire, &Auth::root(), &file), 0);
    let access = wire.nfs(&Auth::root(), 4, &dir.clone().u32(0x3f));
    let last = In(&access[access.len() - 4..]).u32();
    assert_eq!(last, 0x01 | 0x02, "reading and searching, no changing");
}
