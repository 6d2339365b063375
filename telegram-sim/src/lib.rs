//! A fake Telegram data centre for tests.
//!
//! A [`Sim`] listens on loopback and speaks MTProto 2.0 over TCP, so that an unmodified
//! client library talks to it: frames, encryption, containers, server salts, pings. What
//! it remembers is a [`World`]: users, channels with messages, documents, uploaded parts.
//! A test looks into it and changes it while clients are connected.
//!
//! ```ignore
//! let sim = Sim::start(&[2, 4])?;
//! let user = sim.world().add_user("+100", "12345", None);
//! let dcs = sim.logged_in(user); // addresses and keys for a client's session
//! sim.world().fault(Fault::new("messages.sendMedia", Action::LoseAnswer));
//! ```
//!
//! # Keys
//!
//! A client trusts only the RSA keys of Telegram itself, so the key exchange cannot be
//! played. Clients start with a key that both sides know ([`Sim::new_keys`]); one that
//! comes without is turned away as by a server whose fingerprints it does not know.
//!
//! # What it knows
//!
//! Login by code, second password (SRP) and bot token; export and import of a login to
//! another data centre; private channels and Saved Messages: `sendMessage`, `sendMedia`,
//! `getHistory` by pages, `getMessages`, `deleteMessages`, `getDialogs`; `saveFilePart`,
//! `saveBigFilePart` and `getFile` with its rules for ranges.
//!
//! # What goes wrong
//!
//! One at a time by a [`Fault`]: an error of any kind, a connection that ends before or
//! after the work is done, an answer that never comes. Always by [`Limits`]: floods by
//! token bucket, parts and file references that expire, a bound on how many messages of
//! a channel can be reached, messages that show up late, a short memory for repeated
//! sends, bans. At random but repeatable by [`Chaos`]. All at once by
//! [`Sim::disconnect_all`] and [`Sim::set_down`].
//!
//! # What it is not
//!
//! It follows the public documentation as far as that goes and cannot prove how the real
//! service behaves. It pushes no updates. Memory is all the storage it has; a world lives
//! as long as its `Sim`.

mod clock;
mod connection;
mod faults;
mod frame;
mod limits;
mod rpc;
mod server;
mod srp;
mod wire;
mod world;

pub use clock::Clock;
pub use faults::{Action, Chaos, Fault};
pub use limits::{Bucket, Limits};
pub use server::{Dc, Sim};
pub use world::{Place, StoredMessage, World};

/// An error that the client is told: a code like those of HTTP, and a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// As in HTTP, with 420 for floods.
    pub code: i32,
    /// Name in capitals; a number in it is a parameter.
    pub name: String,
}

impl RpcError {
    /// An error of this code and name.
    #[must_use]
    pub fn new(code: i32, name: impl Into<String>) -> Self {
        Self { code, name: name.into() }
    }

    /// A request that makes no sense: code 400.
    fn bad(name: impl Into<String>) -> Self {
        Self::new(400, name)
    }
}
