//! A disk that remembers everything that was ever done to it: kept in memory, mounted
//! through FUSE, so that no system call gets past it however it is made. It can be put
//! back to what a crash at any moment may have left, and it can fail on demand.

mod image;
mod serve;

pub(crate) use image::{Id, Image, Left, LeftOut, Replay, Step};

use super::support::{run, text, wait_until};
use fuser::{BackgroundSession, Errno, MountOption};
use parking_lot::Mutex;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Which changes of a disk fail, and how.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// Of those that are tried from now on, the first being number 0.
    pub(crate) changes: Range<u64>,
    pub(crate) of: Of,
    pub(crate) error: Errno,
}

/// What is counted, and fails; everything else goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Changes,
    Syncs,
    /// Of files with this name.
    WritesTo(&'static str),
}

/// What the disk's threads and the test share.
#[derive(Debug)]
struct Inside {
    image: Image,
    steps: Vec<Step>,
    next: Id,
    fault: Option<Fault>,
    /// What is counted of changes that were tried since the fault was set.
    tried: u64,
    /// The file of each write that failed.
    failed_writes: Vec<Id>,
    /// Whether a file has only one name, as on FAT.
    refuses_links: bool,
    /// What each listing that is open lists.
    listings: serve::Listings,
    /// How long it takes to open a file.
    opening: Duration,
    /// Why nothing of it can be had, if so.
    away: Option<Errno>,
}

/// A mounted disk.
#[derive(Debug)]
pub(crate) struct Disk {
    point: PathBuf,
    inside: Arc<Mutex<Inside>>,
    session: Option<BackgroundSession>,
}

impl Disk {
    /// Mounts a disk on a directory.
    pub(crate) fn mount(point: &Path, image: Image) -> Self {
        let next = image.nodes.keys().next_back().unwrap() + 1;
        let (steps, fault, tried) = (Vec::new(), None, 0);
        let listings = serve::Listings::default();
        let inside = Inside {
            image,
            steps,
            next,
            fault,
            tried,
            failed_writes: Vec::new(),
            refuses_links: false,
            listings,
            opening: Duration::ZERO,
            away: None,
        };
        let inside = Arc::new(Mutex::new(inside));
        let mut config = fuser::Config::default();
        config.mount_options = vec![MountOption::FSName("disk".into())];
        config.n_threads = Some(2);
        let server = serve::Server(Arc::clone(&inside));
        let session = fuser::spawn_mount(server, point, &config).unwrap();
        Self { point: point.to_owned(), inside, session: Some(session) }
    }

    /// Takes it off; everything on it must be closed.
    pub(crate) fn unmount(mut self) -> Vec<Step> {
        wait_until("the disk to be unused", || {
            Command::new("umount").arg(&self.point).output().unwrap().status.success()
        });
        self.session.take().unwrap().join().unwrap();
        std::mem::take(&mut self.inside.lock().steps)
    }

    /// Steps so far: the disk's clock.
    pub(crate) fn now(&self) -> u64 {
        self.inside.lock().steps.len() as u64
    }

    /// Lets changes fail, or no more.
    pub(crate) fn fail(&self, fault: Option<Fault>) {
        let mut inside = self.inside.lock();
        (inside.fault, inside.tried) = (fault, 0);
    }

    /// Makes each opening of a file take so long, as on a disk that is far away.
    pub(crate) fn slow(&self, opening: Duration) {
        self.inside.lock().opening = opening;
    }

    /// Has nothing to be had, as on a disk of a machine that is not there, or no more.
    pub(crate) fn take_away(&self, error: Option<Errno>) {
        self.inside.lock().away = error;
    }

    /// Gives no file a second name, or does again.
    pub(crate) fn refuse_links(&self, refuses: bool) {
        self.inside.lock().refuses_links = refuses;
    }

    /// Changes tried since [`Disk::fail`], of those that its fault counts.
    pub(crate) fn tried(&self) -> u64 {
        self.inside.lock().tried
    }

    /// Writes that failed to files which have this name now.
    pub(crate) fn failed_writes_to(&self, name: &str) -> usize {
        let inside = self.inside.lock();
        inside.failed_writes.iter().filter(|id| inside.image.is_named(**id, name)).count()
    }

    /// What is on it now.
    pub(crate) fn image(&self) -> Image {
        self.inside.lock().image.clone()
    }

    /// Everything done to it so far.
    pub(crate) fn steps(&self) -> Vec<Step> {
        self.inside.lock().steps.clone()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            // Who still uses it goes on with what it has open, until the end.
            drop(Command::new("umount").arg("-l").arg(&self.point).output());
            drop(session);
        }
    }
}

/// What is read from a mounted disk is what its steps make of an empty one.
#[test]
fn the_steps_of_a_disk_are_all_that_was_done_to_it() {
    if !super::support::is_root("a disk of its own") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::mount(dir.path(), Image::empty());
    let script = r#"
        set -e; cd "$0"; mkdir -p a/b; printf one > a/one; printf two >> a/one
        ln a/one a/b/two; mv a/one three; ln -s three link; truncate -s 2 three
        dd if=/dev/urandom of=a/large bs=100k count=5 conv=fsync 2>/dev/null; sync a
        sqlite3 a/db 'pragma journal_mode=wal; create table t(x); insert into t values(1), (2)'
        rm -r a/b; cp -r a c"#;
    run("bash", &["-c", script, text(dir.path())]);
    let mut replayed = Replay::new(Image::empty(), 0);
    disk.steps().iter().for_each(|step| replayed.push(step));
    let before = super::tree::record(dir.path());
    assert!(before.len() > 8);
    disk.unmount();
    let disk = Disk::mount(dir.path(), replayed.crash(Left::All));
    super::tree::assert_same("from its steps", &before, &super::tree::record(dir.path()));
    disk.unmount();
}
