//! Who gets in.

use crate::cidr::Cidr;
use std::net::IpAddr;

/// Who may connect, and how often.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Who may connect over TCP; empty: everybody who reaches the address.
    pub allow: Vec<Cidr>,
    /// Users that may connect; empty: everybody. If not, a peer whose uid is not known
    /// gets in as little as one of another user.
    pub users: Vec<u32>,
    /// Connections at a time; more are closed at once.
    pub connections_max: usize,
    /// Connections of one peer at a time: an IP address, or a user of this machine whose
    /// uid is known.
    pub connections_per_peer_max: usize,
    /// Connections accepted in a second; as many may come at once after a quiet second.
    pub accepts_per_second_max: u32,
    /// Look up the uid of TCP peers on this machine. Linux only; elsewhere nothing is
    /// found.
    pub peer_uids: bool,
}

impl Default for Policy {
    /// Room for four clients with sixteen connections each.
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            users: Vec::new(),
            connections_max: 64,
            connections_per_peer_max: 16,
            accepts_per_second_max: 32,
            peer_uids: cfg!(target_os = "linux"),
        }
    }
}

impl Policy {
    /// Whether an address may connect.
    #[must_use]
    pub fn allows(&self, addr: IpAddr) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|range| range.contains(addr))
    }

    /// Whether a user may connect; `None` if it is not known who it is.
    #[must_use]
    pub fn allows_user(&self, uid: Option<u32>) -> bool {
        self.users.is_empty() || uid.is_some_and(|uid| self.users.contains(&uid))
    }
}
