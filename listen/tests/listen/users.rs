//! Who is at the other end: this user and, for root, another one.

use crate::support::{Echo, is_served, open_policy, start_at, wait_until};
use std::fs::Permissions;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tgcryptfs_listen::{Endpoint, Listener, Peer, Policy};

const NOBODY: u32 = 65534;
/// What the child is to connect to.
const TARGET: &str = "TGCRYPTFS_TEST_TARGET";

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn asking() -> Policy {
    Policy { peer_uids: true, ..open_policy() }
}

#[track_caller]
fn last_uid(echo: &Echo) -> Option<u32> {
    let seen = echo.seen.lock();
    seen.last().unwrap().1.uid()
}

#[test]
fn the_uid_of_a_peer_on_this_machine_is_found() {
    for (bound, target) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("[::1]:0", "::1"),
        ("[::]:0", "127.0.0.1"),
        ("[::]:0", "::1"),
    ] {
        if std::net::TcpListener::bind(bound).is_err() {
            println!("skipped: this machine has no {bound}");
            continue;
        }
        let (listener, echo) = start_at(bound, asking());
        let port = listener.local_addr().unwrap().port();
        assert!(is_served(TcpStream::connect((target, port)).unwrap()));
        assert_eq!(last_uid(&echo), Some(own_uid()), "{bound} {target}");
        assert!(echo.seen.lock()[0].1.is_loopback());
    }
}

/// An address of this machine that is none of loopback's, if it has one.
fn own_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // Sends nothing: it only asks which way it would go.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[test]
fn a_peer_on_this_machine_is_known_to_be_by_whichever_address_it_comes() {
    let (listener, echo) = start_at("0.0.0.0:0", asking());
    let port = listener.local_addr().unwrap().port();
    let here = IpAddr::from(Ipv4Addr::LOCALHOST);
    let mut ways = vec![(here, here)];
    if let Some(own) = own_address() {
        // By its own address, and from it to another.
        ways.extend([(own, own), (own, here)]);
    }
    for (from, to) in ways {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&fd, &SocketAddr::new(from, 0)).unwrap();
        connect(&fd, &SocketAddr::new(to, port)).unwrap();
        assert!(is_served(TcpStream::from(fd)));
        let (_, peer) = echo.seen.lock().last().unwrap().clone();
        assert!(matches!(peer, Peer::Tcp { is_here: true, .. }), "{peer} from {from} to {to}");
        assert_eq!(peer.uid(), Some(own_uid()), "from {from} to {to}");
    }
}

#[test]
fn nothing_is_looked_up_unless_it_is_asked_for() {
    let (listener, echo) = start_at("127.0.0.1:0", open_policy());
    assert!(is_served(TcpStream::connect(listener.local_addr().unwrap()).unwrap()));
    assert_eq!(last_uid(&echo), None);
}

#[test]
fn who_hangs_up_at_once_is_nobody_and_not_root() {
    let policy = Policy { connections_max: 1000, connections_per_peer_max: 1000, ..asking() };
    let (listener, echo) = start_at("127.0.0.1:0", policy);
    let addr = listener.local_addr().unwrap();
    for _ in 0..200 {
        drop(TcpStream::connect(addr).unwrap());
    }
    wait_until("all were served", || echo.seen.lock().len() == 200);
    let own = own_uid();
    let seen = echo.seen.lock();
    let foreign = seen.iter().filter(|(_, peer)| peer.uid().is_some_and(|uid| uid != own));
    assert_eq!(foreign.count(), 0);
}

#[test]
fn a_unix_socket_says_who_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, echo) = start_unix(&dir.path().join("socket"), open_policy());
    let stream = UnixStream::connect(dir.path().join("socket")).unwrap();
    assert!(is_served(&stream));
    let pid = i32::try_from(std::process::id()).unwrap();
    let gid = rustix::process::getegid().as_raw();
    assert_eq!(echo.seen.lock()[0].1, Peer::Unix { uid: own_uid(), gid, pid: Some(pid) });
    assert_eq!(listener.local_addr(), None);
    assert_eq!(listener.peers().len(), 1);
}

#[test]
fn users_of_a_unix_socket_have_their_own_limits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let policy = Policy { connections_per_peer_max: 2, ..open_policy() };
    let (_listener, _) = start_unix(&path, policy);
    let held: Vec<_> = (0..2).map(|_| UnixStream::connect(&path).unwrap()).collect();
    assert!(held.iter().all(is_served));
    assert!(!is_served(UnixStream::connect(&path).unwrap()));
    if own_uid() == 0 {
        std::fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        assert_eq!(connect_as_nobody(path.to_str().unwrap()), "served");
    }
}

#[test]
fn another_user_is_told_apart() {
    if own_uid() != 0 {
        println!("skipped: only root can become another user");
        return;
    }
    let (listener, echo) = start_at("127.0.0.1:0", asking());
    let addr = listener.local_addr().unwrap().to_string();
    assert_eq!(connect_as_nobody(&addr), "served");
    assert_eq!(last_uid(&echo), Some(NOBODY));

    let (listener, echo) = start_at("127.0.0.1:0", Policy { users: vec![0], ..asking() });
    let addr = listener.local_addr().unwrap();
    assert_eq!(connect_as_nobody(&addr.to_string()), "refused");
    assert!(is_served(TcpStream::connect(addr).unwrap()));
    assert_eq!(echo.seen.lock().len(), 1);

    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("socket");
    let (_listener, echo) = start_unix(&path, open_policy());
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(connect_as_nobody(path.to_str().unwrap()), "refused");
    assert!(echo.seen.lock().is_empty(), "the mode of a socket keeps others out");
    std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    assert_eq!(connect_as_nobody(path.to_str().unwrap()), "served");
    assert_eq!(last_uid(&echo), Some(NOBODY));
}

fn start_unix(path: &Path, policy: Policy) -> (Listener, Arc<Echo>) {
    let echo = Arc::new(Echo::default());
    let endpoint = Endpoint::Unix(UnixListener::bind(path).unwrap());
    (Listener::start(endpoint, policy, Arc::clone(&echo)).unwrap(), echo)
}

/// Runs [`child`] as nobody and gives what it says.
fn connect_as_nobody(target: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    // The test program itself may lie where nobody can go.
    let program = dir.path().join("child");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let mut child = Command::new(&program)
        .args(["--exact", "users::child", "--ignored", "--nocapture"])
        .env(TARGET, target)
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    let words = ["served", "refused"];
    let word = words.into_iter().find(|word| said.contains(&format!("outcome: {word}")));
    word.unwrap_or_else(|| std::panic::panic_any(said)).to_owned()
}

#[test]
#[ignore = "run by other tests as another user"]
fn child() {
    let target = std::env::var(TARGET).unwrap();
    let served = if target.starts_with('/') {
        UnixStream::connect(target).is_ok_and(is_served)
    } else {
        TcpStream::connect(target).is_ok_and(is_served)
    };
    println!("outcome: {}", if served { "served" } else { "refused" });
}
