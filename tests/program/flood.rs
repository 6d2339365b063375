//! Ten thousand connections to a real server, by several users, each of which begins to
//! say something long and stays as long as it may. Who was there before goes on working,
//! who comes afterwards gets in, and nothing is left of the rest.

use super::serve::nfs::Client;
use super::serve::nfs::wire::{Auth, LAST, NFS, Out, Wire, call, marked};
use super::serve::p9;
use super::support::{Machine, World, figure_of, is_root, pause, wait_until};
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Connections by each of the users.
const CONNECTIONS: usize = 2500;
/// Users, the first of which is whoever runs the test.
const USERS: u32 = 4;
/// What one user may have at a time, and all together.
const PER_USER_MAX: u64 = 16;
const IN_ALL_MAX: u64 = 64;
/// What an unfinished message may hold, and the thread that reads it.
const EACH_MAX_KIB: u64 = 1400;

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    memory_kib: u64,
    threads: u64,
    files: u64,
}

fn held(pid: i32) -> Held {
    Held {
        memory_kib: figure_of(pid, "VmRSS"),
        threads: figure_of(pid, "Threads"),
        files: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64,
    }
}

/// Comes `CONNECTIONS` times, says `greeting` and then as much as is taken, keeps what is
/// not closed, and goes when it is told to.
const FLOOD: &str = "
import resource, select, socket, sys, time
port, count, greeting = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
kept = []
for number in range(count):
    try:
        s = socket.create_connection(('127.0.0.1', port), 20)
        kept.append(s)
        s.sendall(greeting)
        s.settimeout(1)
        s.sendall(bytes(63 << 14))
    except OSError:
        pass
    time.sleep(0.001)
    if len(kept) > 200:
        is_over = select.poll()
        for s in kept:
            is_over.register(s, select.POLLHUP | select.POLLERR)
        over = {fd for fd, _ in is_over.poll(0)}
        kept = [s for s in kept if s.fileno() not in over]
        kept = kept[-200:]
print('came', flush=True)
sys.stdin.read()
";

/// Lets a user of this machine come; who runs the test, if it is none.
fn come(addr: SocketAddr, greeting: &[u8], uid: Option<u32>) -> Child {
    let hex: String = greeting.iter().map(|byte| format!("{byte:02x}")).collect();
    let (port, count) = (addr.port().to_string(), CONNECTIONS.to_string());
    let mut command = match uid {
        Some(uid) => {
            let mut command = Command::new("setpriv");
            command.args([&format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups"]);
            command.arg("/usr/bin/python3");
            command
        }
        None => Command::new("/usr/bin/python3"),
    };
    command.args(["-c", FLOOD, &port, &count, &hex]).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// Whether an answer comes, soon.
fn answers(work: impl FnOnce()) {
    let start = Instant::now();
    work();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "an answer took {took:?}");
}

/// Floods a server while `work` goes on on a connection that was there before.
fn flood(machine: &Machine<'_>, addr: SocketAddr, greeting: &[u8], mut work: impl FnMut()) {
    let pid = machine.pid();
    work();
    let before = held(pid);
    let others = if is_root("several users") { USERS } else { 1 };
    let uids = (0..others).map(|number| (number > 0).then_some(2000 + number));
    let mut crowd: Vec<Child> = uids.map(|uid| come(addr, greeting, uid)).collect();
    let (mut most, mut rounds) = (before, 0);
    let mut look = || {
        let now = held(pid);
        most.memory_kib = most.memory_kib.max(now.memory_kib);
        most.threads = most.threads.max(now.threads);
        most.files = most.files.max(now.files);
    };
    let mut outs: Vec<_> = crowd.iter_mut().map(|one| one.stdout.take().unwrap()).collect();
    std::thread::scope(|scope| {
        let came: Vec<_> = outs
            .iter_mut()
            .map(|out| scope.spawn(|| std::io::Read::read_exact(out, &mut [0; 5]).unwrap()))
            .collect();
        while came.iter().any(|one| !one.is_finished()) {
            answers(&mut work);
            look();
            rounds += 1;
            pause(20);
        }
    });
    // Those who got in are still there, with all that they said.
    answers(&mut work);
    look();
    let clients = machine.mounted()["clients"].as_array().unwrap().len() as u64;
    println!("{clients} are in, {rounds} answers meanwhile; before {before:?}, at most {most:?}");
    assert!(clients >= PER_USER_MAX, "as many as may");
    assert!(clients <= (u64::from(others) * PER_USER_MAX + 1).min(IN_ALL_MAX));
    let grown_kib = most.memory_kib.saturating_sub(before.memory_kib);
    assert!(grown_kib < IN_ALL_MAX * EACH_MAX_KIB + (16 << 10), "{grown_kib} KiB more");
    assert!(most.threads <= before.threads + 2 * IN_ALL_MAX);
    assert!(most.files <= before.files + 3 * IN_ALL_MAX);
    for one in &mut crowd {
        drop(one.stdin.take());
        assert!(one.wait().unwrap().success());
    }
    let is_gone = |now: Held| now.threads <= before.threads + 8 && now.files <= before.files + 4;
    wait_until("all to be gone", || is_gone(held(pid)));
    println!("afterwards {:?}", held(pid));
    answers(&mut work);
    assert_eq!(machine.pid(), pid);
}

#[test]
fn ten_thousand_connections_of_nfs_leave_nothing_and_keep_nobody_out() {
    let world = World::new();
    let machine = world.first_machine();
    let for_all = ["nfs", "--listen", "127.0.0.1:0", "--allow-other"];
    let addr: SocketAddr = machine.serve(&for_all).1.parse().unwrap();
    let mut client = Client::new(addr);
    let file = client.create("file", 0o644).unwrap();
    client.write(&file, b"content", 0).unwrap();
    // A write of a mebibyte, of which the end never comes.
    let begin = call(1, &Auth::root(), (NFS, 3, 7), &Out::default().opaque(&file).0);
    let greeting = [&(LAST | 0x10_0800).to_be_bytes()[..], &begin].concat();
    flood(&machine, addr, &greeting, || assert_eq!(client.read(&file).unwrap(), b"content"));
    let hello = marked(&call(1, &Auth::None, (NFS, 3, 0), &[]));
    let mut newcomer = None;
    wait_until("somebody new to get in", || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let is_in = stream.write_all(&hello).is_ok();
        let mut wire = Wire::over(stream);
        let is_in = is_in && wire.record().is_ok();
        newcomer = is_in.then(|| Client::over(wire));
        is_in
    });
    assert_eq!(newcomer.unwrap().read(&file).unwrap(), b"content");
    machine.bare(&["unmount", &addr.to_string()]).succeeded();
    machine.fsck();
}

#[test]
fn ten_thousand_connections_of_9p_leave_nothing_and_keep_nobody_out() {
    let world = World::new();
    let machine = world.first_machine();
    let address = machine.serve(&["9p", "--listen", "127.0.0.1:0", "--allow-other"]).1;
    let addr: SocketAddr = address.parse().unwrap();
    let uid = rustix::process::geteuid().as_raw();
    let mut client = p9::Client::over_tcp(TcpStream::connect(addr).unwrap());
    client.version(1 << 20, "9P2000.L");
    client.attach(0, uid).unwrap();
    let file = client.file(0, "file", b"content");
    let version = p9::Put::default().u32(1 << 20).s("9P2000.L").0;
    let version = p9::Put::default().u32(version.len() as u32 + 7).u8(100).u16(1).bytes(&version);
    // A write of a mebibyte, of which the end never comes.
    let greeting = version.u32(1 << 20).u8(118).u16(1).u32(0).u64(0).u32((1 << 20) - 23).0;
    flood(&machine, addr, &greeting, || assert_eq!(client.read(file, 0, 100).unwrap(), b"content"));
    wait_until("somebody new to get in", || {
        let mut newcomer = p9::Client::over_tcp(TcpStream::connect(addr).unwrap());
        let version = p9::Put::default().u32(65_536).s("9P2000.L");
        newcomer.send(1, p9::T_VERSION, &version);
        if newcomer.try_receive().is_none() {
            return false;
        }
        newcomer.attach(0, uid).unwrap();
        newcomer.walked(0, &["file"]).is_ok()
    });
    machine.bare(&["unmount", &address]).succeeded();
    machine.fsck();
}
