//! What is served, to whom, and how much of it at a time.

use std::time::Duration;
use vfs::Stability;

/// Who clients become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Squash {
    /// Themselves.
    #[default]
    None,
    /// Root becomes somebody else.
    Root {
        /// The user it becomes.
        uid: u32,
        /// And the group.
        gid: u32,
    },
    /// Everybody becomes the same user.
    All {
        /// The user they become.
        uid: u32,
        /// And the group.
        gid: u32,
    },
}

/// What a client has to call the tree (`aname`). A path behind it is followed and
/// becomes the root of what is attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TreeName {
    /// Nothing: the empty name and `/` are the whole tree.
    #[default]
    Open,
    /// A name that is not to be guessed, without slashes.
    Secret(Box<[u8]>),
}

/// What one connection may hold at a time, and what all may together. What goes beyond it
/// is refused or, for requests, not read until others are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Fids, open ones included. Linux keeps one for each name it remembers.
    pub fids_max: usize,
    /// Fids that are open; each holds a file of the file system.
    pub open_max: usize,
    /// Fids of all connections of a server.
    pub all_fids_max: usize,
    /// Those of them that are open.
    pub all_open_max: usize,
    /// Requests that wait for something.
    pub requests_max: usize,
    /// Bytes that these bring or ask for. One request may be longer.
    pub request_bytes_max: usize,
    /// Bytes of those of all connections of a server. One request of each connection may
    /// wait beyond that.
    pub all_request_bytes_max: usize,
    /// Bytes of extended attributes being read or written.
    pub xattr_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            fids_max: 1 << 16,
            open_max: 1 << 14,
            all_fids_max: 1 << 17,
            all_open_max: 1 << 15,
            requests_max: 256,
            request_bytes_max: 16 << 20,
            all_request_bytes_max: 256 << 20,
            xattr_bytes_max: 4 << 20,
        }
    }
}

/// A file system as it is shown to clients.
#[derive(Clone, Debug)]
pub struct Export {
    /// Tells this file system from others (`statfs(2)`).
    pub fs_id: [u8; 16],
    /// What clients have to call it.
    pub name: TreeName,
    /// Refuses every change.
    pub read_only: bool,
    /// Who clients become.
    pub squash: Squash,
    /// Over TCP from this machine, a client must be who it says it is; root may say
    /// anything. Who cannot be told ([`listen::Policy::peer_uids`]) is not let in. On a
    /// Unix socket that is always so. Clients on other machines are believed all the same:
    /// squash them, or do not let them in.
    pub match_peer_uid: bool,
    /// How safe data is when `fsync(2)` returns.
    pub fsync: Stability,
    /// What connections may hold at a time.
    pub bounds: Bounds,
    /// How long a connection may stay on which nobody has attached.
    pub strangers_wait_max: Duration,
}

/// Clients attach as soon as they have connected.
const STRANGERS_WAIT_MAX: Duration = Duration::from_secs(60);

impl Default for Export {
    fn default() -> Self {
        Self {
            fs_id: [0; 16],
            name: TreeName::Open,
            read_only: false,
            squash: Squash::None,
            match_peer_uid: true,
            fsync: Stability::Journaled,
            bounds: Bounds::default(),
            strangers_wait_max: STRANGERS_WAIT_MAX,
        }
    }
}
