//! Clients that mean harm, or that say everything twice, at the real servers: what is no
//! message, messages with something changed in them, handles that nobody gave them, calls
//! that are repeated. The server lives, keeps to its memory, and serves the others.

use super::serve::nfs::wire::{Auth, MOUNT, NFS, Out, Wire, call, marked};
use super::serve::nfs::{Client, GETATTR, REMOVE, RENAME, UNSTABLE, read_at, reconnect, write_at};
use super::serve::{BAD_HANDLE, p9};
use super::support::{Machine, Numbers, World, figure_of, noise, wait_until};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const STALE: u32 = 70;
/// What a server may have in memory after all this.
const MEMORY_MAX_KIB: u64 = 160 << 10;
/// Messages with something changed in them, for each protocol.
const MUTATED: u64 = 4000;
/// Connections on which there is nothing but noise.
const NOISY: u64 = 60;

/// A stream that the server listens to. It lets in so many a second and resets the others.
fn admitted(addr: SocketAddr, greeting: &[u8]) -> TcpStream {
    let mut admitted = None;
    wait_until("a connection", || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut answer = [0; 4];
        if stream.write_all(greeting).and_then(|()| stream.read_exact(&mut answer)).is_err() {
            return false;
        }
        // What is left of the answer.
        stream.set_nonblocking(true).unwrap();
        let mut rest = [0; 4096];
        while matches!(stream.read(&mut rest), Ok(count) if count > 0) {}
        stream.set_nonblocking(false).unwrap();
        admitted = Some(stream);
        true
    });
    admitted.unwrap()
}

/// Bytes that are noise from the first on, and bytes that begin well.
fn noises(draw: &mut Numbers, begin: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let len = draw.below(4000);
    let body = noise(len as usize, draw.next());
    match draw.below(3) {
        0 => body,
        1 => [begin(len as u32), body].concat(),
        _ => [begin(draw.next() as u32), body].concat(),
    }
}

/// Changes something in a message, behind what must stay.
fn mutate(message: &mut Vec<u8>, from: usize, draw: &mut Numbers) {
    let place = |draw: &mut Numbers, len: usize| from + draw.below((len - from) as u64) as usize;
    for _ in 0..=draw.below(4) {
        if message.len() <= from + 4 {
            return;
        }
        let at = place(draw, message.len() - 3);
        match draw.below(8) {
            0 => message.truncate(at),
            1 => drop(message.splice(at..at, noise(draw.below(64) as usize, at as u64))),
            2 => message[at..at + 4].copy_from_slice(&u32::MAX.to_be_bytes()),
            3 => message[at..at + 4].fill(0),
            4 => message[at..at + 4].copy_from_slice(&(draw.next() as u32).to_be_bytes()),
            _ => message[at] ^= 1 << draw.below(8),
        }
    }
}

/// After all that was done to it, the server is the same process, within its memory, and
/// never came into a state that nobody thought of.
fn is_sound(machine: &Machine<'_>, pid: i32) {
    assert_eq!(machine.pid(), pid);
    let peak = figure_of(pid, "VmHWM");
    println!("{peak} KiB in memory at most");
    assert!(peak < MEMORY_MAX_KIB, "{peak} KiB in memory");
    let log = machine.mounted()["log"].as_str().unwrap().to_owned();
    let log = fs::read_to_string(log).unwrap();
    assert!(!log.contains("panic"), "{log}");
}

/// A call of each procedure, as it should be.
fn good_calls(root: &[u8], file: &[u8]) -> Vec<Vec<u8>> {
    let handle = |handle: &[u8]| Out::default().opaque(handle);
    let name = |name: &[u8]| handle(root).opaque(name);
    let attributes = [1, 0o644, 0, 0, 0, 0, 0];
    let page = |out: Out| out.u64(0).u64(0).u32(4096);
    let arguments = [
        Out::default(),
        handle(file),
        handle(file).words(&[1, 0o600, 0, 0, 0, 0, 0]).u32(0),
        name(b"file"),
        handle(file).u32(0x3f),
        handle(root),
        read_at(file, 0, 1000),
        write_at(file, 100, b"other bytes", UNSTABLE),
        name(b"new").u32(0).words(&attributes),
        name(b"dir").words(&attributes),
        name(b"link").words(&attributes).opaque(b"target"),
        name(b"fifo").u32(7).words(&attributes),
        name(b"new"),
        name(b"dir"),
        name(b"new").opaque(root).opaque(b"newer"),
        handle(file).opaque(root).opaque(b"second"),
        page(handle(root)),
        page(handle(root)).u32(4096),
        handle(root),
        handle(root),
        handle(root),
        handle(file).u64(0).u32(0),
    ];
    let nfs = (0..).zip(&arguments);
    let nfs = nfs.map(|(procedure, out)| call(7, &Auth::root(), (NFS, 3, procedure), &out.0));
    let paths = [Out::default(), Out::default().opaque(b"/"), Out::default().opaque(b"/none")];
    let mount = [0, 1, 3, 5].into_iter().flat_map(|procedure| {
        let calls = paths.iter().map(move |out| (procedure, out.0.clone()));
        calls.map(|(procedure, out)| call(7, &Auth::root(), (MOUNT, 3, procedure), &out))
    });
    nfs.chain(mount).collect()
}

/// Sends a record and an empty call behind it; whether that was answered.
fn is_survived(wire: &mut Wire, record: &[u8], number: u32) -> bool {
    let empty = call(number, &Auth::None, (NFS, 3, 0), &[]);
    let bytes = [marked(record), marked(&empty)].concat();
    if wire.stream.write_all(&bytes).is_err() {
        return false;
    }
    loop {
        let Ok(reply) = wire.record() else { return false };
        if reply[..4] == number.to_be_bytes() {
            return true;
        }
    }
}

#[test]
fn nfs_calls_that_are_wrong_in_any_way_harm_nobody() {
    let seed = Numbers::seed();
    println!("TGCRYPTFS_TEST_SEED={seed}");
    let mut draw = Numbers::new(seed);
    let world = World::new();
    let machine = world.first_machine();
    let addr = machine.serve_nfs();
    let pid = machine.pid();
    let mut client = Client::new(addr);
    let file = client.create("file", 0o644).unwrap();
    client.write(&file, b"as it was", UNSTABLE).unwrap();
    let safe = client.create("safe", 0o600).unwrap();
    client.write(&safe, &noise(100_000, 1), UNSTABLE).unwrap();

    let hello = marked(&call(1, &Auth::None, (NFS, 3, 0), &[]));
    for _ in 0..NOISY {
        let begin = |len: u32| (len | 1 << 31).to_be_bytes().to_vec();
        let bytes = noises(&mut draw, begin);
        // The server may have ended it already.
        drop(admitted(addr, &hello).write_all(&bytes));
    }
    // What is claimed, and never comes; pieces without end.
    for mark in [0x7fff_ffff_u32, u32::MAX, 1 << 31 | 0x10_1000, 0x10_0000] {
        let mut stream = admitted(addr, &hello);
        let piece = [&mark.to_be_bytes()[..], &[0; 60_000]].concat();
        drop((0..40).try_for_each(|_| stream.write_all(&piece)));
    }
    drop(admitted(addr, &hello).write_all(&[0; 40_000]));

    let calls = good_calls(&client.root, &file);
    let mut wire = Wire::over(admitted(addr, &hello));
    let mut ended = 0;
    for number in 0..MUTATED {
        let mut record = calls[draw.below(calls.len() as u64) as usize].clone();
        // The header is 64 bytes here; what is wrong in there often ends the connection.
        let from = if draw.below(50) == 0 { 4 } else { 64.min(record.len()) };
        mutate(&mut record, from, &mut draw);
        if !is_survived(&mut wire, &record, 1_000_000 + number as u32) {
            ended += 1;
            wire = Wire::over(admitted(addr, &hello));
        }
    }
    println!("{ended} of {MUTATED} ended their connection");
    assert!(ended < MUTATED / 10);
    // Each good call, cut off anywhere, by who then hangs up.
    for record in &calls {
        let bytes = marked(record);
        let cut = 1 + draw.below(bytes.len() as u64 - 1) as usize;
        drop(admitted(addr, &hello).write_all(&bytes[..cut]));
    }
    assert!(client.read(&safe).unwrap() == noise(100_000, 1));
    assert!(Client::over(Wire::over(admitted(addr, &hello))).getattr(&safe).is_ok());
    is_sound(&machine, pid);
    machine.bare(&["unmount", &addr.to_string()]).succeeded();
    machine.fsck();
}

fn message(kind: u8, tag: u16, fields: &[u8]) -> Vec<u8> {
    p9::Put::default().u32(fields.len() as u32 + 7).u8(kind).u16(tag).bytes(fields).0
}

fn version() -> Vec<u8> {
    message(p9::T_VERSION, u16::MAX, &p9::Put::default().u32(65_536).s("9P2000.L").0)
}

/// A session with the root as fid 0 and an open file as fid 1.
fn session(addr: SocketAddr) -> p9::Client {
    let mut client = p9::Client::over_tcp(admitted(addr, &version()));
    client.version(65_536, "9P2000.L");
    client.attach(0, rustix::process::geteuid().as_raw()).unwrap();
    if client.walk(0, 1, &["file"]).is_err() {
        // Among messages that are wrong may be one that is right, and renames or removes it.
        client.file(0, "file", b"as it was");
        assert_eq!(client.walk(0, 1, &["file"]).unwrap().len(), 1);
    }
    client.open(1, p9::O_RDWR).unwrap();
    client
}

/// A message of each kind, as it should be in such a session.
fn good_messages() -> Vec<(u8, Vec<u8>)> {
    let put = p9::Put::default;
    let of = |fid: u32| put().u32(fid);
    let id = p9::NO_ID;
    vec![
        (p9::T_STATFS, of(0).0),
        (p9::T_LOPEN, of(2).u32(0).0),
        (p9::T_LCREATE, of(2).s("new").u32(2).u32(0o644).u32(id).0),
        (p9::T_SYMLINK, of(0).s("link").s("target").u32(id).0),
        (p9::T_MKNOD, of(0).s("fifo").u32(0o010_644).u32(0).u32(0).u32(id).0),
        (p9::T_RENAME, of(2).u32(0).s("moved").0),
        (p9::T_READLINK, of(2).0),
        (p9::T_GETATTR, of(1).u64(0x3fff).0),
        (p9::T_SETATTR, of(1).u32(1).u32(0o600).u32(0).u32(0).bytes(&[0; 40]).0),
        (p9::T_XATTRWALK, of(1).u32(3).s("user.a").0),
        (p9::T_XATTRCREATE, of(2).s("user.a").u64(5).u32(0).0),
        (p9::T_READDIR, of(0).u64(0).u32(4096).0),
        (p9::T_FSYNC, of(1).u32(0).0),
        (p9::T_LOCK, of(1).u8(1).u32(1).u64(0).u64(10).u32(7).s("here").0),
        (p9::T_GETLOCK, of(1).u8(1).u64(0).u64(10).u32(8).s("here").0),
        (p9::T_LINK, of(0).u32(1).s("second").0),
        (p9::T_MKDIR, of(0).s("dir").u32(0o755).u32(id).0),
        (p9::T_RENAMEAT, of(0).s("dir").u32(0).s("dir2").0),
        (p9::T_UNLINKAT, of(0).s("new").u32(0).0),
        (p9::T_AUTH, of(9).s("").s("").u32(0).0),
        (p9::T_ATTACH, of(5).u32(p9::NO_FID).s("").s("").u32(0).0),
        (p9::T_FLUSH, put().u16(77).0),
        (p9::T_WALK, of(0).u32(2).u16(1).s("file").0),
        (p9::T_READ, of(1).u64(0).u32(1000).0),
        (p9::T_WRITE, of(1).u64(10).u32(5).bytes(b"other").0),
        (p9::T_CLUNK, of(3).0),
        (p9::T_REMOVE, of(2).0),
        (p9::T_VERSION, put().u32(8192).s("9P2000.L").0),
    ]
}

#[test]
fn nine_p_messages_that_are_wrong_in_any_way_harm_nobody() {
    let seed = Numbers::seed();
    println!("TGCRYPTFS_TEST_SEED={seed}");
    let mut draw = Numbers::new(seed);
    let world = World::new();
    let machine = world.first_machine();
    let address = machine.serve(&["9p", "--listen", "127.0.0.1:0"]).1;
    let (addr, pid) = (address.parse().unwrap(), machine.pid());
    let mut first = p9::Client::over_tcp(admitted(addr, &version()));
    first.version(65_536, "9P2000.L");
    first.attach(0, rustix::process::geteuid().as_raw()).unwrap();
    first.file(0, "file", b"as it was");
    let safe = first.file(0, "safe", &noise(60_000, 1));

    for _ in 0..NOISY {
        let begin = |len: u32| message(p9::T_VERSION, 1, &len.to_le_bytes());
        let bytes = noises(&mut draw, begin);
        drop(admitted(addr, &version()).write_all(&bytes));
    }
    for len in [0_u32, 6, 8193, 1 << 20, u32::MAX] {
        let mut stream = admitted(addr, &version());
        let piece = [&len.to_le_bytes()[..], &[p9::T_WRITE, 1, 0], &[0; 60_000]].concat();
        drop((0..40).try_for_each(|_| stream.write_all(&piece)));
    }
    let good = good_messages();
    let mut client = session(addr);
    let mut ended = 0;
    for number in 0..MUTATED {
        let (mut kind, mut fields) = good[draw.below(good.len() as u64) as usize].clone();
        mutate(&mut fields, 0, &mut draw);
        if draw.below(20) == 0 {
            kind = draw.next() as u8;
        }
        client.send_raw(&message(kind, 3, &fields));
        client.send_raw(&message(p9::T_STATFS, 4, &0_u32.to_le_bytes()));
        let is_alive = loop {
            match client.try_receive() {
                Some(answer) if answer.tag == 4 => break true,
                Some(_) => {}
                None => break false,
            }
        };
        ended += u64::from(!is_alive);
        // Most sessions forget sooner or later what they had.
        if !is_alive || number % 50 == 0 {
            client = session(addr);
        }
    }
    println!("{ended} of {MUTATED} ended their connection");
    assert!(ended < MUTATED / 10);
    for (kind, fields) in &good {
        let bytes = message(*kind, 3, fields);
        let cut = 1 + draw.below(bytes.len() as u64 - 1) as usize;
        drop(admitted(addr, &version()).write_all(&bytes[..cut]));
    }
    assert!(first.read(safe, 0, 60_000).unwrap() == noise(60_000, 1));
    session(addr);
    is_sound(&machine, pid);
    machine.bare(&["unmount", &address]).succeeded();
    machine.fsck();
}

#[test]
fn handles_with_any_bit_changed_are_refused() {
    let world = World::new();
    let machine = world.first_machine();
    let addr = machine.serve_nfs();
    let mut client = Client::new(addr);
    let file = client.create("file", 0o644).unwrap();
    for handle in [client.root.clone(), file.clone()] {
        for bit in 0..handle.len() * 8 {
            let mut forged = handle.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(client.getattr(&forged), Err(BAD_HANDLE), "bit {bit}");
        }
        for len in (0..64).filter(|len| *len != handle.len()) {
            let mut forged = handle.clone();
            forged.resize(len, 0);
            assert_eq!(client.getattr(&forged), Err(BAD_HANDLE), "{len} bytes");
        }
    }
    // Whatever is done with one; and one that was good, for a file that is gone.
    let mut forged = file.clone();
    forged[20] ^= 1;
    let remove = client.name("file");
    client.ask(REMOVE, &remove).unwrap();
    for (handle, status) in [(forged, BAD_HANDLE), (file, STALE)] {
        let of = || Out::default().opaque(&handle);
        for (procedure, arguments) in [
            (GETATTR, of()),
            (2, of().words(&[0; 6]).u32(0)),
            (3, of().opaque(b"a")),
            (6, read_at(&handle, 0, 10)),
            (7, write_at(&handle, 0, b"x", UNSTABLE)),
            (8, of().opaque(b"a").words(&[0; 7])),
            (15, of().opaque(&client.root).opaque(b"again")),
        ] {
            let told = client.ask(procedure, &arguments);
            assert_eq!(told, Err(status), "procedure {procedure}");
        }
    }
    machine.bare(&["unmount", &addr.to_string()]).succeeded();
}

/// Calls that must be done once, each with what has to be there before it.
fn calls_to_be_done_once(client: &mut Client) -> Vec<(&'static str, u32, Out)> {
    for name in ["to-remove", "to-move", "to-link"] {
        client.create(name, 0o644).unwrap();
    }
    let file = client.lookup("to-link").unwrap();
    let dir = client.name("to-empty").words(&[0; 6]);
    client.ask(9, &dir).unwrap();
    vec![
        ("remove", REMOVE, client.name("to-remove")),
        ("rename", RENAME, client.name("to-move").opaque(&client.root).opaque(b"moved")),
        ("guarded create", 8, client.name("guarded").words(&[1, 0, 0, 0, 0, 0, 0])),
        ("exclusive create", 8, client.name("exclusive").u32(2).bytes(b"verifier")),
        ("link", 15, Out::default().opaque(&file).opaque(&client.root).opaque(b"linked")),
        ("mkdir", 9, client.name("dir").words(&[0; 6])),
        ("rmdir", 13, client.name("to-empty")),
        ("symlink", 10, client.name("sym").words(&[0; 6]).opaque(b"target")),
        ("fifo", 11, client.name("fifo").u32(7).words(&[0; 6])),
    ]
}

#[test]
fn calls_that_come_twice_are_done_once_also_by_another_connection() {
    let world = World::new();
    let machine = world.first_machine();
    let addr = machine.serve_nfs();
    let mut client = Client::new(addr);
    for (xid, (what, procedure, arguments)) in (70..).zip(calls_to_be_done_once(&mut client)) {
        let record = call(xid, &client.auth, (NFS, 3, procedure), &arguments.0);
        let ask = |wire: &mut Wire| {
            wire.send(&record);
            wire.record().unwrap()
        };
        let first = ask(&mut client.wire);
        assert_eq!(first[24..28], [0; 4], "{what} works");
        assert_eq!(ask(&mut client.wire), first, "{what}, on the same connection");
        client.wire = reconnect(client.wire);
        assert_eq!(ask(&mut client.wire), first, "{what}, after a lost connection");
        assert_eq!(ask(&mut client.wire), first, "{what}, once more");
    }
    // Another number is another call, which finds it done.
    let again = client.name("to-remove");
    assert_eq!(client.ask(REMOVE, &again), Err(2));
    assert!(client.lookup("moved").is_ok() && client.lookup("to-move").is_err());
    let linked = client.lookup("linked").unwrap();
    let attributes = client.getattr(&linked).unwrap();
    assert_eq!(attributes[8..12], 2_u32.to_be_bytes(), "two names");
    machine.bare(&["unmount", &addr.to_string()]).succeeded();
    machine.fsck();
}
