//! What `serve` serves, to whom, and how it ends: by clients that know nothing but bytes.

use super::support::{
    Finished, LONG, Machine, World, is_root, kill, noise, processes_below, text, wait_until,
};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Stdio};

#[path = "../clients/nfs.rs"]
pub(crate) mod nfs;
#[path = "../../p9-adapter/tests/p9/client.rs"]
#[expect(dead_code, reason = "the tests of the server need more of it")]
pub(crate) mod p9;

use nfs::wire::{Auth, In, Out, Wire};
use nfs::{Client, FILE_SYNC, GETATTR, NO_ENTRY, REMOVE, RENAME, SETATTR, UNSTABLE};

const READ_ONLY: u32 = 30;
pub(crate) const BAD_HANDLE: u32 = 10_001;
const ACCESS_DENIED: u32 = 13;

impl Machine<'_> {
    /// Serves as a daemon; gives what was printed and the address.
    pub(crate) fn serve(&self, arguments: &[&str]) -> (Finished, String) {
        let arguments = [&["serve"], arguments].concat();
        let finished = self.run(&arguments).succeeded();
        (finished, self.mounted()["address"].as_str().unwrap().to_owned())
    }

    pub(crate) fn serve_nfs(&self) -> SocketAddr {
        self.serve(&["nfs", "--listen", "127.0.0.1:0"]).1.parse().unwrap()
    }

    fn serve_in_foreground(&self, arguments: &[&str]) -> (Child, SocketAddr) {
        let arguments = [&["serve", "-f"], arguments].concat();
        let mut command = self.command(&arguments);
        command.env("TGCRYPTFS_PASSWORD_FILE", self.world.password());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("the server", || {
            let report = self.bare(&["status", "--json"]).succeeded().json();
            report["mounts"].as_array().is_some_and(|mounts| mounts.len() == 1)
        });
        (child, self.mounted()["address"].as_str().unwrap().parse().unwrap())
    }
}

#[test]
fn nfs_is_served_and_everything_is_uploaded_at_the_end() {
    let world = World::new();
    let machine = world.first_machine();
    let (said, address) = machine.serve(&["nfs", "--listen", "127.0.0.1:0"]);
    let addr: SocketAddr = address.parse().unwrap();
    let port = addr.port();
    assert!(said.stdout.contains(&format!("serving nfs at {address}, for reading and writing")));
    assert!(said.stdout.contains(&format!("mountport={port},nolock 127.0.0.1:/ /mnt")), "{said:?}");
    assert!(said.stdout.contains("mount_nfs -o vers=3"), "{said:?}");

    let mut client = Client::new(addr);
    let file = client.create("file", 0o600).unwrap();
    client.write(&file, &noise(500_000, 1), UNSTABLE).unwrap();
    client.commit(&file).unwrap();
    assert!(client.read(&file).unwrap() == noise(500_000, 1));

    let served = machine.mounted();
    assert_eq!(served["via"], "nfs");
    assert_eq!(served["mount_point"], serde_json::Value::Null);
    let clients = served["clients"].as_array().unwrap();
    assert_eq!(clients.len(), 1, "{served:#}");
    let own = format!("(uid {})", rustix::process::geteuid().as_raw());
    assert!(clients[0].as_str().unwrap().ends_with(&own), "{served:#}");
    assert!(machine.status("used_bytes") >= 500_000);
    assert_eq!(served["vault"].get("clients"), None);
    machine.sync();
    assert_eq!(machine.status("dirty_bytes"), 0);
    machine.run(&["mount", text(&world.dir("mount"))]).failed(11, &["is served there", &address]);
    machine.run(&["serve", "9p", "--listen", "127.0.0.1:0"]).failed(11, &[&address]);

    let late = client.create("late", 0o600).unwrap();
    client.write(&late, b"late", UNSTABLE).unwrap();
    machine.bare(&["unmount", &address]).succeeded();
    assert!(client.wire.is_ended());
    assert!(machine.bare(&["status"]).succeeded().stdout.contains("mounts: none"));
    machine.bare(&["unmount", &address]).failed(12, &["nothing is mounted"]);
    let new = world.machine("new-home");
    let mount = new.mount("new-mount");
    assert!(fs::read(mount.join("file")).unwrap() == noise(500_000, 1));
    assert_eq!(fs::read(mount.join("late")).unwrap(), b"late");
    new.unmount(&mount);
}

#[test]
fn a_signal_ends_a_server_in_good_order() {
    let world = World::new();
    let machine = world.first_machine();
    let (child, addr) = machine.serve_in_foreground(&["nfs", "--listen", "127.0.0.1:0"]);
    let mut client = Client::new(addr);
    let file = client.create("file", 0o644).unwrap();
    client.write(&file, b"before the signal", UNSTABLE).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let finished = Finished::of(&child.wait_with_output().unwrap()).succeeded();
    assert!(finished.stdout.contains("serving nfs at"), "{finished:#?}");
    assert!(client.wire.is_ended(), "a client that stays does not keep it");
    assert!(TcpStream::connect(addr).is_err());
    let new = world.machine("new-home");
    let mount = new.mount("new-mount");
    assert_eq!(fs::read(mount.join("file")).unwrap(), b"before the signal");
    new.unmount(&mount);
}

#[test]
fn s33_handles_hold_across_restarts_and_belong_to_one_vault() {
    let world = World::new();
    let machine = world.first_machine();
    let addr = machine.serve_nfs();
    let mut client = Client::new(addr);
    let file = client.create("file", 0o644).unwrap();
    client.write(&file, b"safe", FILE_SYNC).unwrap();
    kill(machine.pid());

    let addr = machine.serve_nfs();
    let mut again = Client::new(addr);
    assert_eq!(again.root, client.root);
    assert_eq!(again.read(&file).unwrap(), b"safe", "after a kill");
    machine.bare(&["unmount", &addr.to_string()]).succeeded();
    let addr = machine.serve_nfs();
    let mut again = Client::new(addr);
    assert_eq!(again.read(&file).unwrap(), b"safe", "after an end in good order");

    let other_world = World::new();
    let other = other_world.first_machine();
    let other_addr = other.serve_nfs();
    let mut stranger = Client::new(other_addr);
    assert_ne!(stranger.root, client.root);
    assert_eq!(stranger.getattr(&file), Err(BAD_HANDLE));
    assert_eq!(again.getattr(&stranger.root), Err(BAD_HANDLE));
    other.bare(&["unmount", &other_addr.to_string()]).succeeded();
    machine.bare(&["unmount", &addr.to_string()]).succeeded();

    // The same vault on another machine has a key of its own.
    let new = world.machine("new-home");
    let addr = new.serve_nfs();
    assert_eq!(Client::new(addr).getattr(&file), Err(BAD_HANDLE));
    new.bare(&["unmount", &addr.to_string()]).succeeded();
}

#[test]
fn names_and_attributes_that_were_answered_survive_a_kill_at_once() {
    let world = World::new();
    let machine = world.first_machine();
    let mut client = Client::new(machine.serve_nfs());
    let mut made = Vec::new();
    for number in 0..5 {
        made.push(client.create(&format!("file-{number}"), 0o600).unwrap());
    }
    let renamed = client.name("file-0").opaque(&client.root).opaque(b"renamed");
    client.ask(RENAME, &renamed).unwrap();
    client.ask(REMOVE, &client.name("file-1")).unwrap();
    // Its mode alone: no owner, group, length or times, and no guard.
    client
        .ask(SETATTR, &Out::default().opaque(&made[2]).words(&[1, 0o640, 0, 0, 0, 0, 0, 0]))
        .unwrap();
    kill(machine.pid());

    let addr = machine.serve_nfs();
    let mut again = Client::new(addr);
    assert_eq!(again.lookup("renamed").as_ref(), Ok(&made[0]));
    assert_eq!(again.lookup("file-1"), Err(NO_ENTRY));
    let attributes = again.getattr(&made[2]).unwrap();
    assert_eq!(In(&attributes[4..]).u32(), 0o640);
    assert_eq!(again.lookup("file-4").as_ref(), Ok(&made[4]));
    machine.bare(&["unmount", &addr.to_string()]).succeeded();
}

#[test]
fn s33_what_others_can_reach_has_to_be_asked_for() {
    let world = World::new();
    let machine = world.first_machine();
    // Refused before anything is opened: there is no secret here.
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.7:2049"] {
        for protocol in ["nfs", "9p"] {
            let store = format!("store={}", machine.url());
            let refused = machine.bare(&["serve", protocol, "--listen", address, "--set", &store]);
            refused.failed(2, &["--read-only", "--accept-plaintext-writes", "other machines"]);
        }
    }
    for (arguments, code) in [
        (&["nfs", "--listen", "unix:/tmp/x"][..], 2),
        (&["nfs", "--listen", "example.org:2049"], 2),
        (&["9p", "--listen", "unix:/tmp/x", "--allow", "10.0.0.0/8"], 2),
    ] {
        machine.run(&[&["serve"], arguments].concat()).failed(code, &[]);
    }

    let mount = machine.mount("mount");
    fs::write(mount.join("open"), "for all").unwrap();
    fs::write(mount.join("closed"), "for one").unwrap();
    fs::set_permissions(mount.join("closed"), fs::Permissions::from_mode(0o600)).unwrap();
    machine.unmount(&mount);
    let (said, address) = machine.serve(&["nfs", "--listen", "0.0.0.0:0", "--read-only"]);
    assert!(said.stdout.contains("read-only"), "{said:?}");
    assert!(said.stdout.contains("everybody acts as user 65534 and group 65534"), "{said:?}");
    let port = address.parse::<SocketAddr>().unwrap().port();
    let mut client = Client::new(SocketAddr::from(([127, 0, 0, 1], port)));
    let open = client.lookup("open").unwrap();
    assert_eq!(client.read(&open).unwrap(), b"for all");
    let closed = client.lookup("closed").unwrap();
    assert_eq!(client.read(&closed), Err(ACCESS_DENIED));
    assert_eq!(client.create("new", 0o644), Err(READ_ONLY));
    assert_eq!(client.write(&open, b"x", FILE_SYNC), Err(READ_ONLY));
    assert_eq!(machine.mounted()["is_read_only"], true);
    machine.bare(&["unmount", &address]).succeeded();

    let (_, address) = machine.serve(&[
        "nfs",
        "--listen",
        "0.0.0.0:0",
        "--accept-plaintext-writes",
        "--squash",
        "none",
    ]);
    let port = address.parse::<SocketAddr>().unwrap().port();
    let mut client = Client::new(SocketAddr::from(([127, 0, 0, 1], port)));
    client.create("new", 0o644).unwrap();
    machine.bare(&["unmount", &address]).succeeded();
}

#[test]
fn s33_only_addresses_that_are_allowed_get_in() {
    let world = World::new();
    let machine = world.first_machine();
    let arguments = ["nfs", "--listen", "127.0.0.1:0", "--allow", "10.0.0.0/8"];
    let (_, address) = machine.serve(&arguments);
    let mut wire = Wire::new(address.parse().unwrap());
    assert!(wire.is_ended());
    let log = machine.mounted()["log"].as_str().unwrap().to_owned();
    wait_until("a word in the log", || {
        fs::read_to_string(&log).unwrap().contains("not on the list of those that are allowed")
    });
    machine.bare(&["unmount", &address]).succeeded();
    let both = ["--allow", "10.0.0.0/8", "--allow", "127.0.0.1"];
    let (_, address) = machine.serve(&[&["nfs", "--listen", "127.0.0.1:0"], &both[..]].concat());
    Client::new(address.parse().unwrap());
    machine.bare(&["unmount", &address]).succeeded();
}

/// Sends what its arguments say and prints what comes back: nothing, if it is not let in.
const ASK: &str = "
import socket, sys
try:
    s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 20)
    s.sendall(bytes.fromhex(sys.argv[2]))
    print(s.recv(65536).hex())
except ConnectionError:
    print()
";

/// Sends a call as a user of this machine and gives the answer; nothing, if that is not let
/// in.
fn ask_as(uid: u32, addr: SocketAddr, record: &[u8]) -> Vec<u8> {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let port = addr.port().to_string();
    let mut command = std::process::Command::new("setpriv");
    let (reuid, regid) = (format!("--reuid={uid}"), format!("--regid={uid}"));
    command.args([reuid.as_str(), &regid, "--clear-groups"]);
    // Not one of this user's own, which others may not run.
    command.args(["/usr/bin/python3", "-c", ASK]);
    command.args([&port, &hex(record)]).current_dir("/");
    let said = super::support::run_command(&mut command);
    let byte = |at| u8::from_str_radix(&said[at..at + 2], 16).unwrap();
    (0..said.trim().len()).step_by(2).map(byte).collect()
}

#[test]
fn s33_users_of_this_machine_cannot_claim_to_be_others() {
    if !is_root("acting as another user") {
        return;
    }
    let world = World::new();
    let machine = world.first_machine();
    let for_all = ["nfs", "--listen", "127.0.0.1:0", "--allow-other"];
    let addr: SocketAddr = machine.serve(&for_all).1.parse().unwrap();
    let root = Client::new(addr).root;
    let arguments = Out::default().opaque(&root);
    let ask = |auth: &Auth| {
        let call = nfs::wire::call(7, auth, (nfs::wire::NFS, 3, GETATTR), &arguments.0);
        // Without the mark of the record.
        ask_as(65_534, addr, &nfs::wire::marked(&call))[4..].to_vec()
    };
    let honest = ask(&Auth::user(65_534));
    assert_eq!(honest[8..12], [0; 4], "accepted");
    for liar in [Auth::root(), Auth::user(1000)] {
        let denied = ask(&liar);
        // Denied, for its credentials, which are too weak.
        assert_eq!(denied[8..], [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 5], "{liar:?}");
    }
    machine.bare(&["unmount", &addr.to_string()]).succeeded();
}

#[test]
fn s33_others_of_this_machine_are_let_in_only_if_asked() {
    if !is_root("acting as another user") {
        return;
    }
    let world = World::new();
    let machine = world.first_machine();
    let addr = machine.serve_nfs();
    // The path that everybody knows, and nothing: neither is answered.
    let path = Out::default().opaque(b"/").0;
    let ask = |addr, auth: &Auth| {
        let call = nfs::wire::call(7, auth, (nfs::wire::MOUNT, 3, 1), &path);
        ask_as(65_534, addr, &nfs::wire::marked(&call))
    };
    for claim in [Auth::None, Auth::root(), Auth::user(65_534)] {
        assert!(ask(addr, &claim).is_empty(), "{claim:?}");
    }
    // Nor do they get in through a mount that root has made.
    let mut client = Client::new(addr);
    client.auth = Auth::user(65_534);
    let denied = client.wire.ask(&client.auth, (nfs::wire::NFS, 3, GETATTR), &Out::default());
    assert_eq!(denied.verdict, nfs::wire::Verdict::Denied(1, 5));
    machine.bare(&["unmount", &addr.to_string()]).succeeded();

    let (_, address) = machine.serve(&["nfs", "--listen", "127.0.0.1:0", "--allow-other"]);
    let mounted = ask(address.parse().unwrap(), &Auth::user(65_534));
    // Accepted, and the status is that of success.
    assert_eq!((&mounted[12..16], &mounted[28..32]), (&[0; 4][..], &[0; 4][..]));
    machine.bare(&["unmount", &address]).succeeded();
}

#[test]
fn s33_where_everybody_acts_as_one_user_a_stranger_of_this_machine_is_turned_away() {
    if !is_root("acting as another user") {
        return;
    }
    let world = World::new();
    let machine = world.first_machine();
    let squash = ["--listen", "127.0.0.1:0", "--squash", "all:4321:4321"];
    let (_, address) = machine.serve(&[&["nfs"], &squash[..]].concat());
    let addr: SocketAddr = address.parse().unwrap();
    let root = Client::new(addr).root;
    let ask = |uid, auth: &Auth| {
        let arguments = Out::default().opaque(&root).0;
        let call = nfs::wire::call(7, auth, (nfs::wire::NFS, 3, GETATTR), &arguments);
        ask_as(uid, addr, &nfs::wire::marked(&call))
    };
    for claim in [Auth::None, Auth::root(), Auth::user(4321), Auth::user(65_534)] {
        assert!(ask(65_534, &claim).is_empty(), "{claim:?}");
        assert_eq!(ask(4321, &claim)[12..16], [0; 4], "that user itself, {claim:?}");
    }
    machine.bare(&["unmount", &address]).succeeded();

    let (_, address) = machine.serve(&[&["9p"], &squash[..]].concat());
    let addr: SocketAddr = address.parse().unwrap();
    let version = p9::Put::default().u32(65_536).s("9P2000.L").0;
    let len = version.len() as u32 + 7;
    let version = p9::Put::default().u32(len).u8(p9::T_VERSION).u16(!0).bytes(&version).0;
    assert!(ask_as(65_534, addr, &version).is_empty());
    assert_eq!(ask_as(4321, addr, &version)[4], p9::T_VERSION + 1);
    machine.bare(&["unmount", &address]).succeeded();
}

fn attach(path: &Path) -> p9::Client {
    let socket = UnixStream::connect(path).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let mut client = p9::Client::over_unix(socket);
    client.version(65536, "9P2000.L");
    client.attach(0, rustix::process::geteuid().as_raw()).unwrap();
    client
}

#[test]
fn nine_p_is_served_through_a_path() {
    let world = World::new();
    let machine = world.first_machine();
    let path = world.path("vault.sock");
    // Left by a server that died.
    drop(UnixListener::bind(&path).unwrap());
    let listen = format!("unix:{}", path.display());
    let (said, address) = machine.serve(&["9p", "--listen", &listen]);
    assert_eq!(address, listen);
    assert!(said.stdout.contains("mount -t 9p -o trans=unix,version=9p2000.L"), "{said:?}");
    let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut client = attach(&path);
    let file = client.file(0, "file", b"by 9p");
    assert_eq!(client.call(p9::T_FSYNC, &p9::Put::default().u32(file).u32(0)).map(drop), Ok(()));
    assert_eq!(machine.mounted()["via"], "9p");
    assert_eq!(machine.mounted()["clients"].as_array().unwrap().len(), 1);
    kill(machine.pid());
    assert!(path.exists(), "nobody removed it");

    let (_, address) = machine.serve(&["9p", "--listen", &listen]);
    let mut client = attach(&path);
    let file = client.walked(0, &["file"]).unwrap();
    client.open(file, p9::O_RDONLY).unwrap();
    let content = client.read(file, 0, 100).unwrap();
    assert_eq!(content, b"by 9p");
    client.file(0, "late", b"late");
    machine.bare(&["unmount", &address]).succeeded();
    assert!(!path.exists(), "the path goes with the server");
    wait_until("every process to end", || processes_below(&world.path("")).is_empty());
    let new = world.machine("new-home");
    let mount = new.mount("new-mount");
    assert_eq!(fs::read(mount.join("late")).unwrap(), b"late");
    new.unmount(&mount);
    fs::write(&path, "precious").unwrap();
    machine.run(&["serve", "9p", "--listen", &listen]).failed(2, &["something else"]);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn mounting_through_nfs_works_or_says_why_not_and_leaves_nothing() {
    let world = World::new();
    let machine = world.first_machine();
    let point = world.dir("mount");
    let systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has_nfs = systems.lines().any(|line| line.trim_end().ends_with("\tnfs"));
    let finished = machine.run(&["mount", text(&point), "--via", "nfs"]);
    if has_nfs && is_root("mounting through NFS") {
        finished.succeeded();
        fs::write(point.join("file"), "through the kernel").unwrap();
        assert_eq!(fs::read(point.join("file")).unwrap(), b"through the kernel");
        assert_eq!(machine.mounted()["via"], "nfs");
        machine.unmount(&point);
    } else {
        let finished = finished.failed(9, &["through NFS", "/dev/fuse"]);
        assert!(!finished.stderr.contains("/tgcryptfs-"), "the path is a secret: {finished:#?}");
        assert!(machine.bare(&["status"]).succeeded().stdout.contains("mounts: none"));
    }
    wait_until("every process to end", || processes_below(&world.path("")).is_empty());
    // The choice can be made in the configuration, and a flag is stronger.
    let mut command = machine.command(&["mount", text(&point), "--via", "fuse"]);
    command.env("TGCRYPTFS_PASSWORD_FILE", world.password()).env("TGCRYPTFS_MOUNT_VIA", "nfs");
    Finished::of(&command.output().unwrap()).succeeded();
    let mount = point;
    assert_eq!(machine.mounted()["via"], "fuse");
    machine.unmount(&mount);
}

/// The example's commands, without a service manager: it says when it is ready, serves
/// what it says, and ends as the unit ends it.
#[test]
fn the_example_unit_serves() {
    let unit = include_str!("../../configs/tgcryptfs-nfs.service");
    let value = |name: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        assert_eq!(words[0], "/usr/local/bin/tgcryptfs");
        words
    };
    let (start, stop) = (value("ExecStart="), value("ExecStop="));
    let listening = start.iter().position(|word| word == "--listen").unwrap() + 1;
    assert_eq!(stop[1..], ["unmount".to_owned(), start[listening].clone()]);
    assert!(start.contains(&"--read-only".to_owned()) && start.contains(&"-f".to_owned()));
    assert!(unit.contains("\nType=notify\n"));

    let world = World::new();
    let machine = world.first_machine();
    let socket = std::os::unix::net::UnixDatagram::bind(world.path("notify")).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let (password, url) = (world.password(), machine.url());
    let arguments: Vec<&str> = start[1..]
        .iter()
        .enumerate()
        .map(|(index, word)| match word.as_str() {
            // Not this machine's real port, and not root's password.
            _ if index + 1 == listening => "127.0.0.1:0",
            "/etc/tgcryptfs/password" => text(&password),
            word => word,
        })
        .collect();
    let mut command = machine.command(&arguments);
    command.env("NOTIFY_SOCKET", world.path("notify")).env("TGCRYPTFS_STORE", url);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = [0; 64];
    let len = socket.recv(&mut said).unwrap();
    assert_eq!(&said[..len], b"READY=1");
    let address = machine.mounted()["address"].as_str().unwrap().to_owned();
    let mut client = Client::new(address.parse().unwrap());
    assert_eq!(client.create("new", 0o644), Err(READ_ONLY));
    machine.bare(&["unmount", &address]).succeeded();
    Finished::of(&child.wait_with_output().unwrap()).succeeded();
}
