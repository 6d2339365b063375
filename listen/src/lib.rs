//! Accepts connections for servers of network protocols.
//!
//! A [`Listener`] takes a socket that is already bound, decides with a [`Policy`] who
//! gets in, finds out who that is ([`Peer`]) and calls [`Serve::connection`] on a thread
//! of the connection's own. What is said on the connection is none of its business.
//!
//! # Threads, not tasks
//!
//! One thread reads, answers and reads again, because waking another core costs more
//! than most answers. Their number is bounded ([`Policy::connections_max`]): what comes
//! beyond it is closed at once and never waits in a queue of ours.
//!
//! # What happens to a connection
//!
//! 1. Over TCP its address must be in [`Policy::allow`].
//! 2. There must be room: in all, for its peer, and in this second.
//! 3. It gets a thread. There the uid of a peer on this machine is looked up, and the
//!    room for that user is counted.
//! 4. A panic ends the one connection.
//!
//! How long somebody may stay who shows no sign of belonging here is for the server of the
//! protocol, which knows such signs, to say ([`Probation`]).
//!
//! What is turned away is reset, so that neither this process nor the kernel keeps
//! anything of it, and is told to the log, a line now and then for each reason.
//!
//! # What a uid is worth
//!
//! On a Unix socket the kernel says who connected. On a TCP connection from this machine
//! Linux lists the owner of the client's socket in `/proc/net/tcp`; the connections of
//! the kernel itself, a mounted NFS for one, belong to root. That is asked of every peer
//! on this machine, by whichever of its addresses it comes. Of a peer on another machine
//! nothing is known but its address.

mod cidr;
mod endpoint;
mod gate;
mod listener;
mod load;
mod policy;
mod probation;
mod proc_net;
mod throttle;

pub use cidr::{Cidr, CidrError};
pub use endpoint::{Endpoint, Peer, Stream, has_hung_up};
pub use listener::{Listener, Serve};
pub use load::Load;
pub use policy::Policy;
pub use probation::Probation;
