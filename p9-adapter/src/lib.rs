//! Serves any [`vfs::Vfs`] by 9P2000.L, over TCP and Unix sockets.
//!
//! [`Server::start`] takes a file system, a bound socket and an [`Export`]. Requests are
//! translated and nothing else: what they mean is decided behind the trait. Linux mounts
//! what is served:
//!
//! ```text
//! mount -t 9p -o trans=tcp,port=PORT,version=9p2000.L,msize=1048576,access=client,cache=none ADDRESS DIR
//! mount -t 9p -o trans=unix,version=9p2000.L,msize=1048576,access=client,cache=none PATH DIR
//! ```
//!
//! # How a request runs
//!
//! Each connection has a thread. It reads a request and polls its future once: what
//! memory can answer is answered there and then (`connection`). What has to wait goes to
//! the runtime, and its answer is written by a second thread, in whatever order answers
//! come. A panic behind the trait costs the one request, which is answered with `EIO`.
//! Data of a write stays in the message it came with, and data of a read goes out from
//! where the file system keeps it.
//!
//! # What a fid is
//!
//! An inode, and an open handle once it is opened: no names, which go stale. So what was
//! removed while open can be read, written and asked about, and a fid survives every
//! rename. The two messages that name a fid where they mean a name (`Tremove`,
//! `Trename`, which Linux does not send) look for the name it has now.
//!
//! The version in a qid is always zero, which tells Linux (from 6.4 on) not to keep
//! data: other machines change files, and the protocol cannot announce it. The change
//! counter is among the attributes (`data_version`).
//!
//! # Who may do what
//!
//! The file system checks permissions ([`vfs::Dac::Enforce`]) for whoever attached.
//! Who that is, is the client's word, as far as it is believed:
//!
//! | peer | attaches as |
//! |---|---|
//! | Unix socket, root | anybody |
//! | Unix socket, anybody else | itself, in its own group |
//! | TCP from this machine, with [`Export::match_peer_uid`] | the owner of its socket, which must be found; root as anybody |
//! | TCP, otherwise | anybody: keep such addresses to networks where that is right |
//!
//! and then [`Squash`]. The protocol carries no supplementary groups, so what only they
//! would allow is refused. The group of a request to create something is believed where
//! the user is. Nothing is encrypted or signed on the way.
//!
//! # What is bounded
//!
//! A message by what was agreed on (4 KiB to 1 MiB), which is checked before memory is
//! taken for it; fids, open files, waiting requests and extended attributes by [`Bounds`],
//! fids and open files of all connections together as well.
//! A client that does not read its answers for a minute is cut off.
//!
//! # Messages
//!
//! | message | what it does here |
//! |---|---|
//! | `Tauth` | is refused: there is nothing to authenticate by |
//! | `Tversion` | begins anew: cancels what waits as `Tflush` does, drops fids and locks |
//! | `Tflush` | cancels the request if it waits and changes nothing, and is answered when it is over. A cancelled request is not answered |
//! | `Twalk` | up to 16 names, `..` up to what was attached; a part of the way makes no fid |
//! | `Tlopen`, `Tlcreate` | `O_APPEND` is honoured for every write, `O_SYNC` and `O_DSYNC` too |
//! | `Tclunk` | sets an extended attribute that was written, and drops locks taken through the fid |
//! | `Tfsync` | is answered when the data is as safe as [`Export::fsync`] says; tells what failed of earlier writes |
//! | `Tlock` | never waits: who wants to is told to ask again |
//! | `Txattrcreate` | takes 64 KiB; to replace by nothing is to remove, as Linux says it. ACLs are refused |
//!
//! # Limits
//!
//! * Linux asks again for a lock it waits for every 30 seconds
//!   (`locktimeout=` of the mount makes it more often).
//! * A connection on which nobody attaches is closed after [`Export::strangers_wait_max`].
//! * `flock(2)` and `fcntl(2)` locks are the same thing on the wire.
//! * There are no messages for holes, space allocation, copying, and renaming without
//!   replacing: clients do without.
//! * Linux cuts the times that `utimensat(2)` sets to whole seconds.

mod connection;
mod export;
mod fids;
mod fuzz;
mod identity;
mod locks;
mod pending;
mod places;
mod receive;
mod server;
mod session;
mod wire;
mod xattrs;

pub use export::{Bounds, Export, Squash, TreeName};
#[doc(hidden)]
pub use fuzz::{fuzz, fuzz_stream};
pub use server::Server;
