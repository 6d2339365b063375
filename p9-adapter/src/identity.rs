//! Who a client is taken for.
//!
//! A client says who it is (`n_uname`), and nothing on the wire proves it. What is known
//! of the peer decides whether it is believed: see [`Identity::claimed`].

use crate::export::{Export, Squash};
use crate::wire::NO_ID;
use listen::Peer;
use std::borrow::Cow;
use vfs::{Cred, ErrorKind, Groups, Result};

/// Who asks when nobody says who it is.
const NOBODY: u32 = 65_534;

/// Somebody who attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    cred: Cred,
    /// Whether the group that comes with a request to create something is believed.
    takes_group: bool,
    /// What becomes of the group of the superuser, if it is squashed.
    root_group: Option<u32>,
}

impl Identity {
    /// Decides who `uid`, or else the user called `user`, is for this peer.
    ///
    /// * On a Unix socket the kernel knows who connected: root may be anybody, others
    ///   only themselves.
    /// * So over TCP from this machine, with [`Export::match_peer_uid`].
    /// * Otherwise everybody is believed: whoever can send packets can also lie.
    pub(crate) fn claimed(export: &Export, peer: &Peer, uid: u32, user: &[u8]) -> Result<Self> {
        let asked = if uid == NO_ID { uid_of(user) } else { Some(uid) };
        let known = match *peer {
            Peer::Unix { uid, gid, .. } => Some((uid, Some(gid))),
            Peer::Tcp { uid, is_here: true, .. } if export.match_peer_uid => {
                Some((uid.ok_or(ErrorKind::Permission)?, None))
            }
            Peer::Tcp { .. } => None,
        };
        let (uid, gid, takes_group) = match known {
            None | Some((0, _)) => (asked.unwrap_or(NOBODY), None, true),
            Some((uid, gid)) if asked.is_none_or(|asked| asked == uid) => (uid, gid, false),
            Some(_) => return Err(ErrorKind::Permission.into()),
        };
        let (uid, gid, takes_group) = match export.squash {
            Squash::All { uid, gid } => (uid, Some(gid), false),
            Squash::Root { uid: to, gid } if uid == 0 => (to, Some(gid), false),
            _ => (uid, gid, takes_group),
        };
        let cred = Cred { uid, gid, groups: Groups::Partial(Box::new([])) };
        let root_group = match export.squash {
            Squash::Root { gid, .. } => Some(gid),
            _ => None,
        };
        Ok(Self { cred, takes_group, root_group })
    }

    /// As whom to act.
    pub(crate) fn cred(&self) -> &Cred {
        &self.cred
    }

    /// As whom to create something for the group `gid`.
    pub(crate) fn cred_in(&self, gid: u32) -> Cow<'_, Cred> {
        if self.takes_group && gid != NO_ID {
            let gid = self.root_group.filter(|_| gid == 0).unwrap_or(gid);
            Cow::Owned(Cred { gid: Some(gid), ..self.cred.clone() })
        } else {
            Cow::Borrowed(&self.cred)
        }
    }
}

/// The user behind a name that is a number or means the same everywhere.
fn uid_of(user: &[u8]) -> Option<u32> {
    if user == b"root" {
        return Some(0);
    }
    let uid = std::str::from_utf8(user).ok()?.parse().ok()?;
    Some(uid).filter(|uid| *uid != NO_ID)
}

#[cfg(test)]
mod tests {
    use super::{Identity, NOBODY};
    use crate::export::{Export, Squash};
    use crate::wire::NO_ID;
    use listen::Peer;

    fn tcp(addr: &str, uid: Option<u32>) -> Peer {
        Peer::Tcp { addr: format!("{addr}:1000").parse().unwrap(), is_here: true, uid }
    }

    fn unix(uid: u32) -> Peer {
        Peer::Unix { uid, gid: uid + 1, pid: None }
    }

    /// User, group and group for a request that names group 7; `None` if refused.
    fn who(
        export: &Export,
        peer: &Peer,
        uid: u32,
        user: &[u8],
    ) -> Option<(u32, Option<u32>, Option<u32>)> {
        let identity = Identity::claimed(export, peer, uid, user).ok()?;
        let cred = identity.cred();
        Some((cred.uid, cred.gid, identity.cred_in(7).gid))
    }

    #[test]
    fn a_local_peer_is_itself_and_root_is_anybody() {
        let export = Export::default();
        assert_eq!(who(&export, &unix(5), 5, b""), Some((5, Some(6), Some(6))));
        assert_eq!(who(&export, &unix(5), NO_ID, b"nobody"), Some((5, Some(6), Some(6))));
        assert_eq!(who(&export, &unix(5), 0, b""), None);
        assert_eq!(who(&export, &unix(5), NO_ID, b"root"), None);
        assert_eq!(who(&export, &unix(0), 9, b""), Some((9, None, Some(7))));
        assert_eq!(who(&export, &unix(0), NO_ID, b"root"), Some((0, None, Some(7))));
        assert_eq!(who(&export, &unix(0), NO_ID, b"12"), Some((12, None, Some(7))));
        assert_eq!(who(&export, &unix(0), NO_ID, b"nobody"), Some((NOBODY, None, Some(7))));
    }

    #[test]
    fn over_tcp_from_this_machine_the_uid_must_be_the_sockets() {
        let export = Export::default();
        for here in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"] {
            assert_eq!(who(&export, &tcp(here, Some(5)), 5, b""), Some((5, None, None)));
            assert_eq!(who(&export, &tcp(here, Some(5)), 6, b""), None);
            assert_eq!(who(&export, &tcp(here, None), 5, b""), None, "not found out");
            assert_eq!(who(&export, &tcp(here, Some(0)), 6, b""), Some((6, None, Some(7))));
        }
        let trusting = Export { match_peer_uid: false, ..Export::default() };
        assert_eq!(who(&trusting, &tcp("127.0.0.1", Some(5)), 6, b""), Some((6, None, Some(7))));
        // A program of this machine may come from any of its addresses.
        assert_eq!(who(&export, &tcp("10.0.0.1", None), 6, b""), None, "unknown");
        assert_eq!(who(&export, &tcp("10.0.0.1", Some(5)), 6, b""), None, "no lie helps");
        assert_eq!(who(&trusting, &tcp("10.0.0.1", None), 6, b""), Some((6, None, Some(7))));
        let addr = "10.0.0.2:1000".parse().unwrap();
        let elsewhere = Peer::Tcp { addr, is_here: false, uid: None };
        assert_eq!(who(&export, &elsewhere, 6, b""), Some((6, None, Some(7))));
    }

    #[test]
    fn squashed_clients_are_who_they_are_told() {
        let root = Export { squash: Squash::Root { uid: 8, gid: 9 }, ..Export::default() };
        assert_eq!(who(&root, &unix(0), 0, b""), Some((8, Some(9), Some(9))));
        assert_eq!(who(&root, &unix(0), 3, b""), Some((3, None, Some(7))));
        let squashed = Identity::claimed(&root, &unix(0), 3, b"").unwrap();
        assert_eq!(squashed.cred_in(0).gid, Some(9), "the superuser's group neither");
        let all = Export { squash: Squash::All { uid: 8, gid: 9 }, ..Export::default() };
        assert_eq!(who(&all, &unix(5), 5, b""), Some((8, Some(9), Some(9))));
        assert_eq!(who(&all, &unix(5), 4, b""), None, "no lie helps");
    }
}
