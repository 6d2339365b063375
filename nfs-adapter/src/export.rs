//! What is served, to whom, and as whom they act.

use crate::rpc::{Claim, Refusal};
use listen::Peer;
use std::fmt;
use std::time::Duration;
use subtle::ConstantTimeEq;
use vfs::{Cred, Groups, Stability};
use zeroize::Zeroizing;

/// The user and group of whoever did not say who they are, by old custom "nobody".
const NOBODY: u32 = 65_534;
/// With this many groups there may have been more that did not fit.
const GROUPS_MAX: usize = 16;

/// How long a read may wait: less than the minute after which Linux asks again.
const READS_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long a connection may stay that has never named a file: clients do so at once.
const STRANGERS_WAIT_MAX: Duration = Duration::from_secs(60);

/// Whoever did not say who they are.
pub(crate) fn nobody() -> Cred {
    Cred::user(NOBODY, NOBODY)
}

/// A file system as it is offered to clients.
#[derive(Clone)]
pub struct Export {
    /// Which file system this is: part of every handle.
    pub fs_id: [u8; 16],
    /// The key that handles are made with. It is kept with the vault, so that handles
    /// survive restarts, and is wiped when it is dropped.
    pub handle_key: Zeroizing<[u8; 32]>,
    /// The path that may be mounted.
    pub path: ExportPath,
    /// Refuses every change.
    pub read_only: bool,
    /// Whose rights callers get instead of those they claim.
    pub squash: Squash,
    /// Requires that a caller on this machine is who it claims to be, as far as the
    /// socket shows its user; root may claim to be anybody, as a kernel does for its
    /// users. The groups that others claim cannot be checked and do not count. Over TCP
    /// this needs [`listen::Policy::peer_uids`]; who is not found is refused. Callers on
    /// other machines are believed all the same: squash them, or do not let them in.
    pub match_peer_uid: bool,
    /// The only user who may ask for anything, root aside, if it is for one user.
    pub only_user: Option<u32>,
    /// How safe data is when a stable write or a `COMMIT` is answered.
    pub fsync: Stability,
    /// How long a read may wait for a store that is slow before its caller is told to come
    /// again.
    pub reads_wait_max: Duration,
    /// How long a connection may stay without a call that has a handle. A call may stop in
    /// the middle for as long, but for a minute at most.
    pub strangers_wait_max: Duration,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("path", &self.path)
            .field("read_only", &self.read_only)
            .field("squash", &self.squash)
            .field("match_peer_uid", &self.match_peer_uid)
            .field("only_user", &self.only_user)
            .field("fsync", &self.fsync)
            .field("reads_wait_max", &self.reads_wait_max)
            .field("strangers_wait_max", &self.strangers_wait_max)
            .finish_non_exhaustive()
    }
}

impl Export {
    /// Everything under `/`, for reading and writing, with nobody's rights changed.
    #[must_use]
    pub fn new(fs_id: [u8; 16], handle_key: Zeroizing<[u8; 32]>) -> Self {
        Self {
            fs_id,
            handle_key,
            path: ExportPath::Open("/".to_owned()),
            read_only: false,
            squash: Squash::None,
            match_peer_uid: false,
            only_user: None,
            fsync: Stability::Journaled,
            reads_wait_max: READS_WAIT_MAX,
            strangers_wait_max: STRANGERS_WAIT_MAX,
        }
    }

    /// As whom a caller acts.
    pub(crate) fn cred(&self, peer: &Peer, claim: Claim) -> Result<Cred, Refusal> {
        let Claim::User { uid, gid, groups } = claim else {
            return match self.only_user {
                None => Ok(self.squash.apply(nobody())),
                Some(_) => Err(Refusal::WeakCredential),
            };
        };
        if uid != 0 && self.only_user.is_some_and(|only| only != uid) {
            return Err(Refusal::WeakCredential);
        }
        let is_partial = groups.len() >= GROUPS_MAX;
        let groups = if is_partial { Groups::Partial(groups) } else { Groups::Known(groups) };
        let claimed = Cred { uid, gid: Some(gid), groups };
        let is_elsewhere = matches!(peer, Peer::Tcp { is_here: false, .. });
        if !self.match_peer_uid || is_elsewhere {
            return Ok(self.squash.apply(claimed));
        }
        match peer.uid() {
            Some(0) => Ok(self.squash.apply(claimed)),
            Some(peer_uid) if peer_uid == uid => {
                let gid = match peer {
                    Peer::Unix { gid, .. } => *gid,
                    Peer::Tcp { .. } => NOBODY,
                };
                Ok(self.squash.apply(Cred::user(uid, gid)))
            }
            _ => Err(Refusal::WeakCredential),
        }
    }
}

/// Which path clients may mount.
#[derive(Clone)]
pub enum ExportPath {
    /// This one, which everybody may know.
    Open(String),
    /// One that nobody can guess. A mount of any other fails as if there were nothing.
    Secret {
        /// The name, a single component.
        name: Zeroizing<String>,
        /// Whether it is good for a single mount.
        once: bool,
    },
}

impl fmt::Debug for ExportPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(path) => f.debug_tuple("Open").field(path).finish(),
            Self::Secret { once, .. } => {
                f.debug_struct("Secret").field("once", once).finish_non_exhaustive()
            }
        }
    }
}

impl ExportPath {
    /// Whether only the first mount succeeds.
    pub(crate) fn is_once(&self) -> bool {
        matches!(self, Self::Secret { once: true, .. })
    }

    /// What of a path lies below the export; `None` if the path is another.
    pub(crate) fn below<'a>(&self, path: &'a [u8]) -> Option<Vec<&'a [u8]>> {
        let mut parts = components(path).peekable();
        match self {
            Self::Open(export) => {
                for part in components(export.as_bytes()) {
                    if parts.next() != Some(part) {
                        return None;
                    }
                }
            }
            Self::Secret { name, .. } => {
                let first = parts.next()?;
                let secret = components(name.as_bytes()).next()?;
                if !bool::from(first.ct_eq(secret)) {
                    return None;
                }
            }
        }
        Some(parts.collect())
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
}

/// Whose rights callers get instead of those they claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Squash {
    /// Everybody acts as who they claim to be.
    None,
    /// Root acts as this user and group, and root's group counts as this group.
    Root {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// Everybody acts as this user and group.
    All {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

impl Squash {
    fn apply(self, cred: Cred) -> Cred {
        match self {
            Self::None => cred,
            Self::All { uid, gid } => Cred::user(uid, gid),
            Self::Root { uid, gid } if cred.uid == 0 => Cred::user(uid, gid),
            Self::Root { gid, .. } => {
                let swap = |claimed: &u32| if *claimed == 0 { gid } else { *claimed };
                let groups = match &cred.groups {
                    Groups::Known(groups) => Groups::Known(groups.iter().map(swap).collect()),
                    Groups::Partial(groups) => Groups::Partial(groups.iter().map(swap).collect()),
                };
                Cred { uid: cred.uid, gid: cred.gid.as_ref().map(swap), groups }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Export, ExportPath, NOBODY, Squash};
    use crate::rpc::{Claim, Refusal};
    use listen::Peer;
    use vfs::{Cred, Groups};
    use zeroize::Zeroizing;

    fn export() -> Export {
        Export::new([1; 16], Zeroizing::new([2; 32]))
    }

    fn user(uid: u32, gid: u32, groups: &[u32]) -> Claim {
        Claim::User { uid, gid, groups: groups.into() }
    }

    fn cred(uid: u32, gid: u32, groups: &[u32]) -> Cred {
        Cred { uid, gid: Some(gid), groups: Groups::Known(groups.into()) }
    }

    fn at(addr: &str, uid: Option<u32>) -> Peer {
        Peer::Tcp { addr: addr.parse().unwrap(), is_here: false, uid }
    }

    fn here(addr: &str, uid: Option<u32>) -> Peer {
        Peer::Tcp { addr: addr.parse().unwrap(), is_here: true, uid }
    }

    #[test]
    fn who_says_nothing_is_nobody() {
        let peer = at("10.0.0.1:700", None);
        let nobody = export().cred(&peer, Claim::Nobody).unwrap();
        assert_eq!(nobody, cred(NOBODY, NOBODY, &[]));
        let many = [7; 16];
        let of_many = export().cred(&peer, user(5, 6, &many)).unwrap();
        assert_eq!(of_many.groups, Groups::Partial(Box::new(many)), "there may be more");
    }

    #[test]
    fn what_is_for_one_user_is_for_that_user_and_root() {
        let export = Export { only_user: Some(5), ..export() };
        let peer = at("127.0.0.1:700", Some(0));
        for uid in [0, 5] {
            assert_eq!(export.cred(&peer, user(uid, 6, &[])).unwrap(), cred(uid, 6, &[]));
        }
        assert_eq!(export.cred(&peer, user(7, 6, &[])), Err(Refusal::WeakCredential));
        assert_eq!(export.cred(&peer, Claim::Nobody), Err(Refusal::WeakCredential));
    }

    #[test]
    fn squashing_takes_roots_rights_or_everybodys() {
        let peer = at("10.0.0.1:700", None);
        let act = |squash, claim| {
            let export = Export { squash, ..export() };
            export.cred(&peer, claim).unwrap()
        };
        let root = Squash::Root { uid: 7, gid: 8 };
        assert_eq!(act(Squash::None, user(0, 0, &[])), cred(0, 0, &[]));
        assert_eq!(act(root, user(0, 0, &[0, 5])), cred(7, 8, &[]));
        assert_eq!(act(root, user(5, 0, &[0, 6])), cred(5, 8, &[8, 6]));
        let all = Squash::All { uid: 7, gid: 8 };
        assert_eq!(act(all, user(5, 6, &[9])), cred(7, 8, &[]));
        assert_eq!(act(all, Claim::Nobody), cred(7, 8, &[]));
    }

    #[test]
    fn a_neighbour_is_who_its_socket_says() {
        let strict = Export { match_peer_uid: true, ..export() };
        let local = |uid| here("127.0.0.1:700", uid);
        let ask = |peer: &Peer, uid| strict.cred(peer, user(uid, 50, &[0]));
        assert_eq!(ask(&local(Some(1000)), 0), Err(Refusal::WeakCredential));
        assert_eq!(ask(&local(Some(1000)), 1001), Err(Refusal::WeakCredential));
        assert_eq!(ask(&local(None), 1000), Err(Refusal::WeakCredential), "not found");
        assert_eq!(ask(&local(Some(1000)), 1000), Ok(cred(1000, NOBODY, &[])), "no groups");
        assert_eq!(ask(&local(Some(0)), 1000), Ok(cred(1000, 50, &[0])), "a kernel");
        let path = Peer::Unix { uid: 1000, gid: 100, pid: None };
        assert_eq!(ask(&path, 1000), Ok(cred(1000, 100, &[])));
        assert_eq!(ask(&path, 0), Err(Refusal::WeakCredential));
        // A program of this machine may come from any of its addresses.
        assert_eq!(ask(&here("10.0.0.1:700", None), 0), Err(Refusal::WeakCredential), "unknown");
        let lies = ask(&here("10.0.0.1:700", Some(1000)), 1001);
        assert_eq!(lies, Err(Refusal::WeakCredential));
        assert_eq!(ask(&at("10.0.0.2:700", None), 1000), Ok(cred(1000, 50, &[0])), "elsewhere");
        assert_eq!(strict.cred(&local(Some(1000)), Claim::Nobody), Ok(cred(NOBODY, NOBODY, &[])));
    }

    #[test]
    fn a_path_is_split_into_what_is_exported_and_what_lies_below() {
        let below = |export: &str, path: &str| {
            let parts = ExportPath::Open(export.to_owned()).below(path.as_bytes())?;
            Some(parts.concat())
        };
        assert_eq!(below("/", "/"), Some(vec![]));
        assert_eq!(below("/", ""), Some(vec![]));
        assert_eq!(below("/", "//a/b/"), Some(b"ab".to_vec()));
        assert_eq!(below("/vault", "/vault/a"), Some(b"a".to_vec()));
        assert_eq!(below("/vault", "/vaults"), None);
        assert_eq!(below("/vault", "/"), None);
        let secret = ExportPath::Secret { name: Zeroizing::new("s3cret".to_owned()), once: true };
        assert_eq!(secret.below(b"/s3cret"), Some(vec![]));
        assert_eq!(secret.below(b"s3cret/d"), Some(vec![&b"d"[..]]));
        for guess in ["/", "", "/S3cret", "/s3cre", "/s3crets", "/d/s3cret"] {
            assert_eq!(secret.below(guess.as_bytes()), None, "{guess}");
        }
        assert!(!format!("{secret:?}").contains("s3cret"));
    }
}
