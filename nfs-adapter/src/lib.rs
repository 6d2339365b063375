//! Serves any [`vfs::Vfs`] to NFSv3 clients.
//!
//! [`Server::start`] speaks NFS and MOUNT, version 3 of both (RFC 1813), over TCP or a
//! Unix socket. Calls are translated and nothing else: what they mean is decided behind
//! the trait. There is no port mapper and no lock manager; a Linux client mounts with
//! `vers=3,tcp,nolock,port=P,mountport=P`, a Mac with `locallocks` instead of `nolock`.
//!
//! # How a call runs
//!
//! Each connection has a thread. It reads a call, decodes it where it lies, and polls the
//! future once: what memory can answer is answered there and then. What has to wait goes
//! to the runtime, and the thread reads on, so replies come in any order and a slow call
//! holds nobody up. At most so many calls of a connection, with so many bytes, are under
//! way, and so many bytes of all connections; beyond that it is not read. There is never an error for that, nor for taking long:
//! clients wait, but for a read that takes longer than [`Export::reads_wait_max`]: it is
//! told to come again, and makes room. What is done, and cannot be saved in two minutes
//! and more, is an error. A panic behind the trait costs the one call.
//!
//! The data of a write stays where the socket put it, and the data of a read goes to the
//! socket from where the file system keeps it. A record that is longer than any call can
//! be ends the connection before there is memory for it. So does time, for who never has
//! a handle ([`Export::strangers_wait_max`]).
//!
//! # Permissions
//!
//! Each call says who makes it (`AUTH_SYS`), and the file system decides, with the one
//! exception that owners may read and write ([`vfs::Dac::EnforceExceptOwner`]). Nothing
//! proves who a caller is: anybody who can connect can claim to be anybody. So who can
//! connect matters ([`listen::Policy`]), and [`Squash`], [`Export::match_peer_uid`] and
//! [`ExportPath::Secret`] narrow what a connection is worth. Nothing is encrypted either;
//! over a network that is not trusted, tunnel it.
//!
//! # Handles
//!
//! A handle names an inode for ever, across restarts too, and carries a keyed tag: who
//! was given none cannot make one. The export path leads to the first. Whoever has been
//! given a handle below the export's root can walk up from it.
//!
//! # What is promised about written data
//!
//! A write that is answered as stable, and a `COMMIT`, mean [`Export::fsync`]. Other
//! writes say truthfully that they are not yet safe, and their verifier is the file
//! system's own: it changes when any of them may have been lost, and clients then send
//! them again. Creating, renaming, removing and setting attributes are answered once they
//! survive a crash.
//!
//! # Calls that arrive twice
//!
//! Replies to calls that must not be done twice are kept for a while, and are sent again
//! when the call is repeated, by another connection as well if it comes from the same
//! address and port. They do not survive a restart.
//!
//! # Limits
//!
//! * **No locks**: there is no lock manager, so locks are the client's own.
//! * **No extended attributes, no access control lists**: the protocol has none.
//! * **No reading ahead**: clients read ahead by what they find worth it on a local
//!   network (Linux 128 KiB, `read_ahead_kb` of the mount's bdi), and reads by number tell
//!   a file system nothing of who reads on.
//! * **Times** before 1970 and after 2106 are shown as the nearest that can be said.
//! * **Removed files that are still open** live on only as long as the client gives them
//!   another name first, as clients of one machine do; what another client removes is
//!   gone at once.

mod buffers;
mod core;
mod dispatch;
mod export;
#[doc(hidden)]
pub mod fuzz;
mod handle;
mod late;
mod mount;
mod nfs;
mod outbox;
mod record;
mod replay;
mod rpc;
mod server;
mod service;
mod xdr;

pub use export::{Export, ExportPath, Squash};
pub use server::Server;
