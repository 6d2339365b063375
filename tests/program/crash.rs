//! Machines whose home and store are on a disk that remembers, and what a crash has
//! left of them.

use super::disk::{Disk, Image};
use super::support::{Finished, Machine, World, kill, processes_below};
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

/// An empty disk, mounted in the world.
pub(crate) fn empty_disk(world: &World) -> Disk {
    Disk::mount(&world.dir("disk"), Image::empty())
}

/// A machine whose home and store are on the disk.
pub(crate) fn machine<'w>(world: &'w World, home: &str) -> Machine<'w> {
    let disk = world.path("disk");
    let machine = Machine { world, home: disk.join(home), store: disk.join("store") };
    if !machine.home.exists() && fs::create_dir(&machine.home).is_ok() {
        File::open(disk).unwrap().sync_all().unwrap();
    }
    machine
}

/// Ends what serves mounts, as nothing can prevent, and takes them off.
pub(crate) fn take_down(world: &World) {
    for pid in processes_below(&world.path("")) {
        kill(pid);
    }
    for mount in ["mount", "new-mount"] {
        // It may have freed itself already, or never have been there.
        drop(Command::new("umount").arg("-l").arg(world.path(mount)).output());
    }
}

pub(crate) fn succeeded(finished: Finished) -> Result<Finished, String> {
    if finished.code == 0 { Ok(finished) } else { Err(format!("{finished:#?}")) }
}

/// Looks at what a crash has left on a disk; says what is wrong, also if somebody
/// panics over it.
pub(crate) fn look(
    world: &World,
    left: Image,
    check: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let disk = Disk::mount(&world.path("disk"), left);
    let checked = catch_unwind(AssertUnwindSafe(check));
    take_down(world);
    disk.unmount();
    checked.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(text.or(panic.downcast_ref().copied()).unwrap_or("a panic").to_owned())
    })
}
