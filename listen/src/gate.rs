//! Counts who is in and decides whether there is room for another.

use crate::endpoint::{Peer, Stream};
use crate::policy::Policy;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Why a connection is closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its address is not on the list.
    NotAllowed,
    /// Its user is not on the list.
    NotOfThem,
    /// There are too many.
    Full,
    /// There are too many of that peer.
    PeerFull,
    /// Too many came in this second.
    TooFast,
}

impl Refusal {
    /// How many reasons there are.
    pub(crate) const COUNT: usize = Self::TooFast as usize + 1;

    /// For the log.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::NotAllowed => "its address is not on the list of those that are allowed",
            Self::NotOfThem => "its user is not on the list of those that are allowed",
            Self::Full => "there are as many connections as may be",
            Self::PeerFull => "that peer has as many connections as it may have",
            Self::TooFast => "too many came in a second",
        }
    }
}

/// Whose connections are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Address(IpAddr),
    User(u32),
}

fn who(peer: &Peer) -> Who {
    match peer {
        Peer::Tcp { uid: Some(uid), .. } | Peer::Unix { uid, .. } => Who::User(*uid),
        Peer::Tcp { addr, uid: None, .. } => Who::Address(addr.ip().to_canonical()),
    }
}

/// A connection that is in.
#[derive(Debug)]
struct Live {
    peer: Peer,
    stream: Arc<Stream>,
    counted: Option<Who>,
}

/// Everybody who is in.
#[derive(Debug)]
pub(crate) struct Gate {
    live: BTreeMap<u64, Live>,
    per_peer: HashMap<Who, usize>,
    bucket: Bucket,
    next_id: u64,
}

impl Gate {
    pub(crate) fn new(policy: &Policy) -> Self {
        Self {
            live: BTreeMap::new(),
            per_peer: HashMap::new(),
            bucket: Bucket::new(policy.accepts_per_second_max),
            next_id: 1,
        }
    }

    /// Lets a connection in and numbers it. Who it is may be found out later
    /// (`is_known`): until then it counts for nobody.
    ///
    /// Whoever may not come in at all takes nothing from the others: neither room nor
    /// the right to come in this second.
    pub(crate) fn admit(
        &mut self,
        policy: &Policy,
        peer: &Peer,
        stream: &Arc<Stream>,
        is_known: bool,
        now: Duration,
    ) -> Result<u64, Refusal> {
        if let Peer::Tcp { addr, .. } = peer
            && !policy.allows(addr.ip())
        {
            return Err(Refusal::NotAllowed);
        }
        if is_known && !policy.allows_user(peer.uid()) {
            return Err(Refusal::NotOfThem);
        }
        if self.live.len() >= policy.connections_max {
            return Err(Refusal::Full);
        }
        let counted = is_known.then(|| who(peer));
        if counted.is_some_and(|who| !self.has_room(policy, who)) {
            return Err(Refusal::PeerFull);
        }
        if !self.bucket.take(now) {
            return Err(Refusal::TooFast);
        }
        self.count(counted);
        let id = self.next_id;
        self.next_id += 1;
        let stream = Arc::clone(stream);
        self.live.insert(id, Live { peer: peer.clone(), stream, counted });
        Ok(id)
    }

    /// Says who a connection is; whether there is room for it.
    pub(crate) fn identify(
        &mut self,
        policy: &Policy,
        id: u64,
        peer: &Peer,
    ) -> Result<(), Refusal> {
        if !policy.allows_user(peer.uid()) {
            return Err(Refusal::NotOfThem);
        }
        let who = who(peer);
        if !self.has_room(policy, who) {
            return Err(Refusal::PeerFull);
        }
        if let Some(live) = self.live.get_mut(&id) {
            live.peer = peer.clone();
            live.counted = Some(who);
            self.count(Some(who));
        }
        Ok(())
    }

    fn has_room(&self, policy: &Policy, who: Who) -> bool {
        self.per_peer.get(&who).copied().unwrap_or(0) < policy.connections_per_peer_max
    }

    fn count(&mut self, who: Option<Who>) {
        if let Some(who) = who {
            *self.per_peer.entry(who).or_insert(0) += 1;
        }
    }

    /// Forgets a connection.
    pub(crate) fn leave(&mut self, id: u64) {
        let Some(who) = self.live.remove(&id).and_then(|live| live.counted) else { return };
        if let Some(count) = self.per_peer.get_mut(&who) {
            *count -= 1;
            if *count == 0 {
                self.per_peer.remove(&who);
            }
        }
    }

    /// How many are in.
    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// Who is in, the oldest first.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        self.live.values().map(|live| live.peer.clone()).collect()
    }

    /// The connections of all who are in.
    pub(crate) fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.live.values().map(|live| &*live.stream)
    }
}

/// So many in a second, and as many at once after a quiet one.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    left: f64,
    filled_at: Option<Duration>,
}

impl Bucket {
    fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, left: per_second, filled_at: None }
    }

    fn take(&mut self, now: Duration) -> bool {
        if let Some(filled_at) = self.filled_at.replace(now) {
            let passed = now.saturating_sub(filled_at).as_secs_f64();
            self.left = (self.left + passed * self.per_second).min(self.per_second);
        }
        let is_there = self.left >= 1.0;
        if is_there {
            self.left -= 1.0;
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::{Gate, Refusal};
    use crate::endpoint::{Peer, Stream};
    use crate::policy::Policy;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::time::Duration;

    const NOW: Duration = Duration::from_secs(100);

    fn policy() -> Policy {
        Policy {
            allow: vec!["10.0.0.0/8".parse().unwrap()],
            users: Vec::new(),
            connections_max: 5,
            connections_per_peer_max: 2,
            accepts_per_second_max: 4,
            peer_uids: true,
        }
    }

    fn tcp(addr: &str, uid: Option<u32>) -> Peer {
        Peer::Tcp { addr: format!("{addr}:1000").parse().unwrap(), is_here: uid.is_some(), uid }
    }

    fn stream() -> Arc<Stream> {
        Arc::new(Stream::Unix(UnixStream::pair().unwrap().0))
    }

    #[test]
    fn strangers_take_nothing_from_those_who_may() {
        let (policy, stream) = (policy(), stream());
        let mut gate = Gate::new(&policy);
        for _ in 0..1000 {
            let refused = gate.admit(&policy, &tcp("11.0.0.1", None), &stream, true, NOW);
            assert_eq!(refused, Err(Refusal::NotAllowed));
        }
        for _ in 0..2 {
            gate.admit(&policy, &tcp("10.0.0.1", None), &stream, true, NOW).unwrap();
        }
        for _ in 0..1000 {
            let refused = gate.admit(&policy, &tcp("10.0.0.1", None), &stream, true, NOW);
            assert_eq!(refused, Err(Refusal::PeerFull));
        }
        gate.admit(&policy, &tcp("10.0.0.2", None), &stream, true, NOW).unwrap();
        assert_eq!(gate.len(), 3);
    }

    #[test]
    fn room_is_made_by_leaving_and_time_fills_the_bucket() {
        let (policy, stream) = (policy(), stream());
        let mut gate = Gate::new(&policy);
        let admit = |gate: &mut Gate, last: u8, now| {
            gate.admit(&policy, &tcp(&format!("10.0.0.{last}"), None), &stream, true, now)
        };
        let first = admit(&mut gate, 1, NOW).unwrap();
        for last in 2..5 {
            admit(&mut gate, last, NOW).unwrap();
        }
        assert_eq!(admit(&mut gate, 5, NOW), Err(Refusal::TooFast));
        let later = NOW + Duration::from_millis(250);
        admit(&mut gate, 5, later).unwrap();
        assert_eq!(admit(&mut gate, 6, later), Err(Refusal::Full));
        gate.leave(first);
        gate.leave(first);
        let later = NOW + Duration::from_secs(3600);
        admit(&mut gate, 6, later).unwrap();
        assert_eq!(admit(&mut gate, 7, later), Err(Refusal::Full));
        for id in 2..7 {
            gate.leave(id);
        }
        assert_eq!((gate.len(), gate.per_peer.len()), (0, 0));
        // An hour of quiet lets in no more than a second.
        let admitted = (10..20).filter(|last| admit(&mut gate, *last, later).is_ok()).count();
        assert_eq!(admitted, 3);
    }

    #[test]
    fn users_of_one_address_are_counted_one_by_one() {
        let (policy, stream) = (policy(), stream());
        let mut gate = Gate::new(&policy);
        let mut enter = |uid: u32| {
            let id = gate.admit(&policy, &tcp("10.0.0.1", None), &stream, false, NOW).unwrap();
            let known = gate.identify(&policy, id, &tcp("10.0.0.1", Some(uid)));
            if known.is_err() {
                gate.leave(id);
            }
            known
        };
        assert_eq!(enter(1000), Ok(()));
        assert_eq!(enter(1000), Ok(()));
        assert_eq!(enter(1000), Err(Refusal::PeerFull));
        assert_eq!(enter(0), Ok(()));
        assert_eq!(gate.peers().last(), Some(&tcp("10.0.0.1", Some(0))));
    }

    #[test]
    fn who_is_not_known_is_nobody_on_a_list_of_users() {
        let policy = Policy { users: vec![0, 7], ..policy() };
        let mut gate = Gate::new(&policy);
        let here = |uid| tcp("10.0.0.1", uid);
        let remote = gate.admit(&policy, &here(None), &stream(), true, NOW);
        assert_eq!(remote, Err(Refusal::NotOfThem));
        let id = gate.admit(&policy, &here(None), &stream(), false, NOW).unwrap();
        for uid in [None, Some(8)] {
            assert_eq!(gate.identify(&policy, id, &here(uid)), Err(Refusal::NotOfThem));
        }
        assert_eq!(gate.identify(&policy, id, &here(Some(7))), Ok(()));
    }
}
