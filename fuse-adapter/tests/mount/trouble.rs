//! Slow, failing and panicking file systems; many at once; locks.

use crate::probe::Trouble;
use crate::support::{Mounted, errno, sh};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::time::Duration;
use vfs::ErrorKind;

#[test]
fn a_slow_request_stops_nobody_else() {
    let fs = Mounted::with(|options| options.threads = Some(2));
    let file = fs.file("slow", b"content");
    fs::write(fs.at("quick"), "quick").unwrap();
    fs.probe.trouble("sync file", Some(Trouble::Wait(Duration::from_millis(300))));
    std::thread::scope(|scope| {
        // More waiters than threads that read requests.
        let waiters: Vec<_> = (0..8).map(|_| scope.spawn(|| file.sync_all())).collect();
        let mut rounds = 0;
        while !waiters.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            fs::write(fs.at("quick"), "again").unwrap();
            assert_eq!(fs::read_to_string(fs.at("quick")).unwrap(), "again");
            rounds += 1;
        }
        assert!(rounds > 10, "only {rounds} rounds in the meantime");
        for waiter in waiters {
            waiter.join().unwrap().unwrap();
        }
    });
}

#[test]
fn waiting_requests_are_finished_whatever_they_are() {
    let fs = Mounted::new();
    for method in ["lookup", "create", "getattr", "read", "write", "readdir", "open", "unlink"] {
        fs.probe.trouble(method, Some(Trouble::Wait(Duration::from_millis(2))));
    }
    for i in 0..5 {
        let path = fs.at(format!("f{i}"));
        fs::write(&path, vec![i; 3000]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), vec![i; 3000]);
    }
    let listed = sh("ls -l \"$1\" | wc -l", &[fs.root()]);
    assert_eq!(listed, "6");
    fs::remove_file(fs.at("f0")).unwrap();
    assert_eq!(fs::read_dir(fs.root()).unwrap().count(), 4);
}

#[test]
fn errors_arrive_as_they_are_and_the_mount_goes_on() {
    let fs = Mounted::new();
    let file = fs.file("f", b"content");
    let expected = [
        (ErrorKind::Corrupt, libc::EIO),
        (ErrorKind::NoSpace, libc::ENOSPC),
        (ErrorKind::Quota, libc::EDQUOT),
        (ErrorKind::ReadOnly, libc::EROFS),
        (ErrorKind::Unavailable, libc::ETIMEDOUT),
        (ErrorKind::Stale, libc::ESTALE),
    ];
    for (kind, number) in expected {
        fs.probe.trouble("write", Some(Trouble::Fail(kind)));
        assert_eq!(errno(file.write_all_at(b"x", 0)), number, "{kind:?}");
    }
    fs.probe.trouble("write", None);
    file.write_all_at(b"C", 0).unwrap();
    fs.probe.trouble("readdir", Some(Trouble::Fail(ErrorKind::Io)));
    let listed: Vec<_> = fs::read_dir(fs.root()).unwrap().collect();
    assert!(listed.iter().any(Result::is_err), "a failing listing is not an empty one");
}

#[test]
fn a_panic_costs_one_request() {
    let fs = Mounted::with(|options| options.threads = Some(2));
    fs::write(fs.at("f"), "content").unwrap();
    fs.probe.trouble("readlink", Some(Trouble::Panic));
    std::os::unix::fs::symlink("x", fs.at("link")).unwrap();
    // More panics than there are threads.
    for _ in 0..5 {
        assert_eq!(errno(fs::read_link(fs.at("link"))), libc::EIO);
    }
    fs.probe.trouble("readlink", None);
    assert_eq!(fs::read_link(fs.at("link")).unwrap().to_str(), Some("x"));
    assert_eq!(fs::read_to_string(fs.at("f")).unwrap(), "content");
}

#[test]
fn four_threads_do_everything_at_once() {
    let fs = Mounted::new();
    let root = fs.root();
    fs::create_dir(fs.at("shared")).unwrap();
    std::thread::scope(|scope| {
        for worker in 0..4_usize {
            scope.spawn(move || {
                let own = root.join(format!("own{worker}"));
                let shared = root.join("shared");
                fs::create_dir(&own).unwrap();
                for round in 0..60_usize {
                    let data = vec![(worker * 60 + round) as u8; 20_000 + round * 37];
                    let name = own.join(format!("f{round}"));
                    fs::write(&name, &data).unwrap();
                    assert!(fs::read(&name).unwrap() == data);
                    let there = shared.join(format!("{worker}-{round}"));
                    fs::rename(&name, &there).unwrap();
                    fs::hard_link(&there, &name).unwrap();
                    assert!(fs::read_dir(&shared).unwrap().all(|entry| entry.is_ok()));
                    if round % 2 == 0 {
                        fs::remove_file(&there).unwrap();
                        assert!(fs::read(&name).unwrap() == data);
                    }
                    // Everybody fights over one name.
                    fs::write(own.join("new"), &data).unwrap();
                    fs::rename(own.join("new"), shared.join("prize")).unwrap();
                }
            });
        }
    });
    assert_eq!(fs::read_dir(fs.at("shared")).unwrap().count(), 4 * 30 + 1);
    let prize = fs::read(fs.at("shared/prize")).unwrap();
    assert!(prize.iter().all(|&byte| byte == prize[0]), "a rename is all or nothing");
}

/// A process that holds `flock -x` or a POSIX lock on a file until it is told to go.
fn locker(script: &str, path: &std::path::Path) -> std::process::Child {
    let mut child = Command::new("python3")
        .args(["-c", script])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 1];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    child
}

#[test]
fn locks_exclude_other_processes_until_they_die() {
    let fs = Mounted::new();
    let file = fs.file("f", b"0123456789");
    let held = "import fcntl,sys\nf=open(sys.argv[1],'r+')\nfcntl.HOW\nsys.stdout.write('x');sys.stdout.flush()\nsys.stdin.read()";
    let ours = rustix::fs::FlockOperation::NonBlockingLockExclusive;

    let mut child = locker(&held.replace("HOW", "flock(f,fcntl.LOCK_EX)"), &fs.at("f"));
    assert_eq!(rustix::fs::flock(&file, ours), Err(rustix::io::Errno::WOULDBLOCK));
    child.kill().unwrap();
    child.wait().unwrap();
    rustix::fs::flock(&file, ours).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::Unlock).unwrap();

    let mut child = locker(&held.replace("HOW", "lockf(f,fcntl.LOCK_EX,5,0)"), &fs.at("f"));
    // The other half is free.
    let half = "import fcntl,sys\nf=open(sys.argv[1],'r+')\nfcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB,5,5)";
    sh(&format!("python3 -c \"{half}\" \"$1\""), &[&fs.at("f")]);
    let taken = rustix::fs::fcntl_lock(&file, ours);
    assert!(matches!(taken, Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS)));
    // A waiter gets it when the holder goes, and can be killed while it waits.
    let waiter = "import fcntl,sys\nf=open(sys.argv[1],'r+')\nsys.stdout.write('x');sys.stdout.flush()\nfcntl.lockf(f,fcntl.LOCK_EX)";
    let mut killed = locker(waiter, &fs.at("f"));
    let mut served = locker(waiter, &fs.at("f"));
    killed.kill().unwrap();
    killed.wait().unwrap();
    child.stdin.take().unwrap().flush().unwrap();
    child.wait().unwrap();
    assert!(served.wait().unwrap().success());
    rustix::fs::fcntl_lock(&file, ours).unwrap();
}

#[test]
fn a_killed_process_leaves_nothing_open() {
    let fs = Mounted::new();
    let script = "import sys\nf=[open(sys.argv[1]+str(i),'w') for i in range(50)]\n[x.write('data') for x in f]\n[x.flush() for x in f]\nsys.stdout.write('x');sys.stdout.flush()\nsys.stdin.read()";
    let mut child = locker(script, &fs.at("f"));
    for i in 0..50 {
        fs::remove_file(fs.at(format!("f{i}"))).unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(fs::read_dir(fs.root()).unwrap().count(), 0);
    // Nothing is in use any more, so this does not say "busy".
    fs.unmount();
}
