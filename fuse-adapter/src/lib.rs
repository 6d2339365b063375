//! Serves any [`vfs::Vfs`] through the kernel's FUSE driver.
//!
//! [`mount()`] puts a file system on a directory and gives a [`Mount`]. Requests are
//! translated and nothing else: what they mean is decided behind the trait.
//!
//! # How a request runs
//!
//! The adapter speaks the kernel's protocol itself (`wire`, `device`, `session`), because
//! what a request costs is decided there. One thread at a time reads. It polls the
//! request's future once, inside the runtime's context: what memory can answer is
//! answered there and then, and the thread looks for the next request for a moment
//! before it sleeps. What has to wait goes to the runtime. Before what takes long, or if
//! more requests are waiting, another thread begins to read. A panic behind the trait
//! costs the one request, which is answered with `EIO`.
//!
//! # Permissions
//!
//! The kernel checks them (`default_permissions`), because FUSE requests carry no
//! supplementary groups; the trait is told so ([`vfs::Dac::Delegated`],
//! [`vfs::Groups::Partial`]). Mounted by root, set-id bits and device nodes work;
//! `fusermount3` forbids both to everybody else. The kernel also applies the umask
//! (`DONT_MASK` is not asked for). Without [`Options::allow_other`] only the mounting
//! user gets in, not even root.
//!
//! # Who may mount, and what happens when the process dies
//!
//! Root mounts by `mount(2)`. Anybody else needs the set-user-id program `fusermount3`
//! (package `fuse3`), a `/dev/fuse` that they may open (mode 0666 nearly everywhere),
//! and a directory that is theirs; `allow_other` needs `user_allow_other` in
//! `/etc/fuse.conf`.
//!
//! A process that is killed leaves a mount that answers "Transport endpoint is not
//! connected". Two things are done about it:
//!
//! * [`Options::unmount_on_death`]: a small shell, our child in a process group of its
//!   own, waits at a pipe that only we hold open and unmounts when it closes. It runs as
//!   the mounting user and works for root and others alike. `fusermount3 -o auto_unmount`
//!   does not: it has to see from inside that the mount is dead, as root, and is let
//!   into a user's mount only with `allow_other`.
//! * A dead mount of the same type that is found on the mount point is removed before
//!   mounting there. Dead mounts of other types are left alone
//!   ([`MountError::LeftOver`]).
//!
//! # What the kernel caches
//!
//! Attributes, names, the absence of names, listings, links and pages stay in the kernel
//! as long as the file system vouches for them: [`vfs::Validity::UntilChanged`] means
//! [`Options::validity_max`], and [`vfs::Vfs::changes`] is passed on as invalidations.
//! With [`vfs::Validity::For`] pages and listings are dropped at each open instead
//! (close-to-open). The feed must not contain what this mount did itself: the kernel
//! knows, and would drop what it has just cached. An implementation must not make an
//! operation wait until its feed is read, because an invalidation may have to wait for
//! the operation.
//!
//! # Features asked of the kernel
//!
//! | feature | asked for | why |
//! |---|---|---|
//! | `ASYNC_READ`, `BIG_WRITES`, `MAX_PAGES` | yes | reads and writes of 1 MiB |
//! | `ATOMIC_O_TRUNC` | yes | open and truncate are one request |
//! | `EXPORT_SUPPORT` | yes | inode numbers are for ever, so `.` and `..` can be answered and the mount can be exported by NFS |
//! | `ASYNC_DIO` | yes | direct reads and writes overlap |
//! | `PARALLEL_DIROPS` | yes | the trait allows any concurrency |
//! | `DO_READDIRPLUS`, `READDIRPLUS_AUTO` | yes | a listing brings attributes when they are wanted |
//! | `CACHE_SYMLINKS` | yes | a link never changes its target |
//! | `EXPLICIT_INVAL_DATA` | yes | pages go when a change is announced, not whenever a time has moved; before Linux 5.2 `AUTO_INVAL_DATA` |
//! | `HANDLE_KILLPRIV_V2` | yes | the trait drops set-id bits and capabilities (`vfs::rules`), and without it the kernel asks for `security.capability` before every write; the request says whether the writer may keep the bits |
//! | `WRITEBACK_CACHE` | by option | see [`Options::writeback_cache`] |
//! | `POSIX_LOCKS`, `FLOCK_LOCKS` | no | see below |
//! | `DONT_MASK`, `POSIX_ACL` | no | the kernel applies the umask; ACLs would be kept but not enforced, so setting one is refused |
//! | `NO_OPEN_SUPPORT`, `NO_OPENDIR_SUPPORT` | no | handles carry authority and keep removed files alive |
//! | `SPLICE_*` | no | data is hashed and sealed here, so it has to be read |
//!
//! Access times are the file system's (relatime); a read that the kernel answers from
//! its pages does not arrive, and leaves none. Read-ahead is 128 KiB in the kernel
//! and FUSE can only ask for less; root may raise it, and does
//! ([`Options::read_ahead`]). `O_DIRECT` needs nothing from here: the kernel passes such
//! requests on and keeps them coherent with its pages and with mappings, which
//! `FOPEN_DIRECT_IO` would not.
//!
//! With the write-back cache `lseek(SEEK_DATA)` and `SEEK_HOLE` are answered by the
//! kernel, which then calls a whole file data: the file system has not seen the
//! unwritten pages and would call them a hole. Times are then the kernel's, by a clock
//! that ticks some milliseconds behind; and a write beyond the longest length fails only
//! when it is written back. Times that are written back for a file that was removed
//! meanwhile are taken for written, so that `sync(2)` has nothing to complain of.
//!
//! # Limits
//!
//! * **Locks stay in the kernel**: they work between all processes of this machine that
//!   use this mount, not across front ends or machines.
//! * **Waiting cannot be interrupted**: `FUSE_INTERRUPT` is answered with `ENOSYS`. A
//!   process whose request waits dies only when the request is answered, so waiting must
//!   be bounded behind the trait.
//! * **`syncfs(2)` and `sync(2)` do not arrive**: the kernel sends `FUSE_SYNCFS` only to
//!   virtiofs and block-device mounts. They write the kernel's own dirty pages out and
//!   return. `fsync(2)` of a file or directory arrives and means [`Options::fsync`].
//! * **`close(2)` is no request**: it writes the kernel's pages back and tells what comes
//!   of that; what fails behind the trait later is told by `fsync(2)`. A request of its
//!   own would make opening, reading and closing a file slower.
//! * **Nothing in this process may keep files of its own mount open**, nor run in it:
//!   killed, it would wait for itself to close them, and the mount would hang until
//!   `umount -f`. The same can happen when it is killed while the kernel makes an
//!   announced change wait for a request.
//! * `copy_file_range(2)` copies less than 4 GiB per call, and `ioctl(2)` offers nothing.

mod agree;
mod convert;
mod core;
mod device;
mod dispatch;
mod error;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod handles;
mod mount;
mod options;
mod service;
mod session;
mod wire;

pub use error::MountError;
pub use mount::{Mount, mount};
pub use options::Options;
