//! Mounting, unmounting, dying, and every way in which mounting fails.

use crate::probe::Probe;
use crate::support::{
    LONG, Mounted, errno, expect_mounted, is_root, model, runtime, sh, wait_until,
};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use tgcryptfs_fuse::{MountError, Options};

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

fn is_listed(path: &Path) -> bool {
    mounts().contains(&format!(" {} ", path.display()))
}

fn try_mount(
    options: Options,
) -> (Result<tgcryptfs_fuse::Mount, MountError>, tokio::runtime::Runtime) {
    let runtime = runtime();
    let fs = Arc::new(Probe::new(model()));
    (tgcryptfs_fuse::mount(fs, runtime.handle().clone(), options), runtime)
}

fn refusal(path: &Path) -> MountError {
    try_mount(Options::new(path)).0.unwrap_err()
}

#[test]
fn the_mount_is_listed_with_its_type_and_options() {
    let fs = Mounted::with(|options| options.fs_name = "my vault".to_owned());
    let line = mounts()
        .lines()
        .find(|line| line.contains(&*fs.root().to_string_lossy()))
        .unwrap()
        .to_owned();
    assert!(line.contains(" - fuse.tgcryptfs my\\040vault "), "{line}");
    assert!(line.contains("default_permissions"), "{line}");
    if is_root() {
        assert!(!line.contains("nosuid") && !line.contains("nodev"), "{line}");
        let device = line.split(' ').nth(2).unwrap();
        let knob = format!("/sys/class/bdi/{device}/read_ahead_kb");
        assert_eq!(fs::read_to_string(knob).unwrap().trim(), "1024");
    }
    fs.unmount();
    assert!(!is_listed(fs.root()));
    assert!(fs.mount.has_ended());
    fs.mount.unmount().unwrap();
    fs.mount.wait().unwrap();
}

#[test]
fn read_only_means_read_only() {
    let fs = Mounted::with(|options| options.read_only = true);
    assert_eq!(errno(File::create(fs.at("f"))), libc::EROFS);
    assert_eq!(errno(fs::create_dir(fs.at("d"))), libc::EROFS);
    assert_eq!(fs::read_dir(fs.root()).unwrap().count(), 0);
}

#[test]
fn waiting_ends_when_anybody_unmounts() {
    let fs = Mounted::new();
    let (sender, receiver) = channel();
    let (mount, root) = (&fs.mount, fs.root());
    std::thread::scope(|scope| {
        scope.spawn(move || sender.send(mount.wait().is_ok()).unwrap());
        assert!(receiver.try_recv().is_err());
        sh("for i in $(seq 100); do fusermount3 -u \"$1\" && exit; sleep 0.02; done", &[root]);
        assert!(receiver.recv_timeout(LONG).unwrap());
    });
    assert!(fs.mount.has_ended() && !is_listed(fs.root()));
}

#[test]
fn a_busy_mount_stays_and_a_detached_one_ends_with_its_last_file() {
    let fs = Mounted::new();
    let file = fs.file("f", b"content");
    let error = fs.mount.unmount().unwrap_err();
    assert!(matches!(error, MountError::Busy { .. }), "{error}");
    assert!(error.to_string().contains("fuser -vm"), "{error}");
    assert!(is_listed(fs.root()));
    fs.mount.detach().unwrap();
    assert!(!is_listed(fs.root()));
    assert_eq!(fs::read_dir(fs.root()).unwrap().count(), 0, "the empty directory beneath");
    let mut text = [0; 7];
    file.write_all_at(b"C", 0).unwrap();
    file.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"Content");
    assert!(!fs.mount.has_ended());
    drop(file);
    fs.mount.wait().unwrap();
}

#[test]
fn dropping_unmounts_even_when_busy() {
    let fs = Mounted::new();
    let root = fs.root().to_owned();
    let file = fs.file("f", b"content");
    let probe = Arc::clone(&fs.probe);
    drop(fs);
    assert!(!is_listed(&root));
    drop(file);
    // The session has let go of the file system.
    wait_until("the session to end", || Arc::strong_count(&probe) == 1);
}

#[test]
fn handles_and_the_file_system_are_let_go_at_the_end() {
    let fs = Mounted::new();
    fs::write(fs.at("f"), "x").unwrap();
    fs::read_dir(fs.root()).unwrap().for_each(drop);
    fs.unmount();
    assert_eq!(Arc::strong_count(&fs.probe), 1);
}

#[test]
fn bad_mount_points_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let error = refusal(&missing);
    assert!(matches!(error, MountError::Missing { .. }), "{error}");
    assert!(error.to_string().contains(&format!("mkdir -p {}", missing.display())), "{error}");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(refusal(&file), MountError::NotDirectory { .. }));
    assert!(matches!(refusal(&file.join("below")), MountError::NotDirectory { .. }));
    let fs = Mounted::new();
    let error = refusal(fs.root());
    assert!(matches!(error, MountError::AlreadyMounted { .. }), "{error}");
    assert!(error.to_string().contains("fusermount3 -u"), "{error}");
    assert_eq!(fs::read_dir(fs.root()).unwrap().count(), 0, "the first still works");
}

#[test]
fn a_mount_point_may_have_any_name_and_be_reached_by_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("a b,c\\d\n\u{e9}");
    fs::create_dir(&odd).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&odd, &link).unwrap();
    let mut options = Options::new(&link);
    options.fs_name = "a,b\\c".to_owned();
    let (mount, _runtime) = try_mount(options);
    let mount = expect_mounted(mount);
    assert_eq!(mount.path(), odd.canonicalize().unwrap());
    fs::write(odd.join("f"), "x").unwrap();
    wait_until("the mount to be free", || mount.unmount().is_ok());
    assert_eq!(fs::read_dir(&odd).unwrap().count(), 0);
}

/// Not a test of its own: the process that others kill.
#[test]
fn helper_process_that_mounts_and_waits() {
    #[expect(clippy::disallowed_methods, reason = "how the parent test speaks to it")]
    let arguments = (std::env::var_os("TEST_MOUNT_POINT"), std::env::var_os("TEST_NO_GUARD"));
    let (Some(point), no_guard) = arguments else { return };
    let mut options = Options::new(point);
    options.unmount_on_death = no_guard.is_none();
    let (mount, _runtime) = try_mount(options);
    let mount = expect_mounted(mount);
    // Nothing here may open a file of its own mount: killed, it would wait for itself.
    mount.wait().unwrap();
}

struct Killable(std::process::Child);

impl Killable {
    fn start(command: &mut Command, point: &Path) -> Self {
        let child = command.env("TEST_MOUNT_POINT", point).spawn().unwrap();
        wait_until("the other process to mount", || is_listed(point));
        sh("stat -f \"$1\"", &[point]);
        Self(child)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn other_process() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "life::helper_process_that_mounts_and_waits", "--quiet"]);
    command
}

#[test]
fn a_killed_process_leaves_no_mount() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let process = Killable::start(&mut other_process(), &root);
    let list_children = format!("pgrep -P {} || true", process.0.id());
    wait_until("the guard to watch", || !sh(&list_children, &[]).is_empty());
    process.kill();
    wait_until("the guard to unmount", || !is_listed(&root));
}

#[test]
fn a_left_over_mount_is_cleared_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    Killable::start(other_process().env("TEST_NO_GUARD", "1"), &root).kill();
    assert_eq!(errno(fs::read_dir(&root)), libc::ENOTCONN);
    let (mount, _runtime) = try_mount(Options::new(&root));
    let mount = expect_mounted(mount);
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    wait_until("the mount to be free", || mount.unmount().is_ok());
    assert!(!is_listed(&root));
}

#[test]
fn somebody_elses_left_over_mount_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    Killable::start(other_process().env("TEST_NO_GUARD", "1"), &root).kill();
    let mut options = Options::new(&root);
    options.sub_type = "another".to_owned();
    let error = try_mount(options).0.unwrap_err();
    assert!(matches!(error, MountError::LeftOver { .. }), "{error}");
    assert!(error.to_string().contains(&format!("fusermount3 -u {}", root.display())), "{error}");
    sh("fusermount3 -u \"$1\"", &[&root]);
}

#[test]
fn an_aborted_connection_ends_the_mount() {
    if !is_root() {
        return;
    }
    let fs = Mounted::new();
    let _busy = fs.file("f", b"x");
    // What an administrator does to a file system that hangs.
    sh("umount -f \"$1\" || true", &[fs.root()]);
    fs.mount.wait().unwrap();
    assert!(!is_listed(fs.root()), "no dead mount is left");
}
