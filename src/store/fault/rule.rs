//! What is to go wrong, and when.

use crate::env::Random;
use crate::store::{ErrorKind, ObjectName};
use bytes::Bytes;
use std::sync::Arc;

/// An operation of a store, as rules and counters see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultOp {
    /// `put` and `put_file`.
    Put,
    /// `get`.
    Get,
    /// `size`.
    Size,
    /// `list`.
    List,
    /// `delete`.
    Delete,
}

impl FaultOp {
    /// Every operation, in order.
    pub const ALL: [Self; 5] = [Self::Put, Self::Get, Self::Size, Self::List, Self::Delete];
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and the call fails. Any operation.
    Fail(ErrorKind),
    /// Everything is done, and the call fails: the answer was lost. Any operation.
    FailAfter(ErrorKind),
    /// Nothing is done, and the call succeeds. Put, delete.
    Ignore,
    /// The object ends early. Put (what is stored is short), get, size.
    Truncate {
        /// How many bytes are left.
        len: usize,
    },
    /// Random bytes follow the object. Put, get, size.
    Extend {
        /// How many.
        by: usize,
    },
    /// One bit, chosen by the seed, is not what it was. Put, get.
    FlipBit,
    /// Other bytes altogether. Put, get, size.
    Replace(Bytes),
    /// Another object under this name. Get, size.
    Swap(ObjectName),
    /// What the object was before it was overwritten or deleted. Get, size.
    Replay {
        /// How many versions ago; 1 is the one before this.
        back: usize,
    },
    /// The object is there and is not shown. Get, size; list, for each entry.
    Missing,
    /// The object is listed twice. List, for each entry.
    Duplicate,
}

impl Fault {
    /// Whether it happens to entries of a listing rather than to the listing.
    pub(super) fn is_of_entries(&self) -> bool {
        matches!(self, Self::Missing | Self::Duplicate)
    }

    fn can_happen_to(&self, op: FaultOp) -> bool {
        use FaultOp::{Delete, Get, List, Put, Size};
        match self {
            Self::Fail(_) | Self::FailAfter(_) => true,
            Self::Ignore => matches!(op, Put | Delete),
            Self::Truncate { .. } | Self::Extend { .. } | Self::Replace(_) => {
                matches!(op, Put | Get | Size)
            }
            Self::FlipBit => matches!(op, Put | Get),
            Self::Swap(_) | Self::Replay { .. } => matches!(op, Get | Size),
            Self::Missing => matches!(op, Get | Size | List),
            Self::Duplicate => op == List,
        }
    }
}

type NameFilter = Arc<dyn Fn(&ObjectName) -> bool + Send + Sync>;

/// One thing that goes wrong: every time, with every object, unless narrowed.
#[derive(Clone)]
pub struct FaultRule {
    op: FaultOp,
    fault: Fault,
    names: Option<NameFilter>,
    skip: u64,
    times: u64,
    chance_permille: u16,
}

impl std::fmt::Debug for FaultRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { op, fault, skip, times, .. } = self;
        write!(f, "FaultRule({op:?}: {fault:?}, skip {skip}, times {times})")
    }
}

impl FaultRule {
    /// `fault` at each `op`.
    #[must_use]
    pub fn new(op: FaultOp, fault: Fault) -> Self {
        Self { op, fault, names: None, skip: 0, times: u64::MAX, chance_permille: 1000 }
    }

    /// Only with this object.
    #[must_use]
    pub fn named(self, name: ObjectName) -> Self {
        self.matching(move |other| *other == name)
    }

    /// Only with objects that `names` accepts; never with calls that have no name.
    #[must_use]
    pub fn matching(mut self, names: impl Fn(&ObjectName) -> bool + Send + Sync + 'static) -> Self {
        self.names = Some(Arc::new(names));
        self
    }

    /// Lets this many calls pass first.
    #[must_use]
    pub fn skip(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }

    /// Acts at most this often.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Acts on this many of a thousand calls, drawn by the store's seed.
    #[must_use]
    pub fn chance_permille(mut self, permille: u16) -> Self {
        self.chance_permille = permille;
        self
    }
}

/// Names a rule of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FaultRuleId(usize);

/// The rules of one store, in the order they were added.
#[derive(Default)]
pub(super) struct Rules(Vec<Slot>);

struct Slot {
    rule: FaultRule,
    fired: u64,
    is_removed: bool,
}

impl Rules {
    #[track_caller]
    pub(super) fn add(&mut self, rule: FaultRule) -> FaultRuleId {
        assert!(rule.fault.can_happen_to(rule.op), "{rule:?} can never act");
        self.0.push(Slot { rule, fired: 0, is_removed: false });
        FaultRuleId(self.0.len() - 1)
    }

    pub(super) fn remove(&mut self, id: FaultRuleId) {
        if let Some(slot) = self.0.get_mut(id.0) {
            slot.is_removed = true;
        }
    }

    pub(super) fn clear(&mut self) {
        for slot in &mut self.0 {
            slot.is_removed = true;
        }
    }

    pub(super) fn fired(&self, id: FaultRuleId) -> u64 {
        self.0.get(id.0).map_or(0, |slot| slot.fired)
    }

    /// The fault of the first rule that applies, which has then acted once more.
    pub(super) fn pick(
        &mut self,
        random: &Random,
        op: FaultOp,
        name: Option<&ObjectName>,
        suits: impl Fn(&Fault) -> bool,
    ) -> Option<Fault> {
        self.0.iter_mut().find_map(|slot| {
            let rule = &mut slot.rule;
            let is_named = match (&rule.names, name) {
                (None, _) => true,
                (Some(names), Some(name)) => names(name),
                (Some(_), None) => false,
            };
            if slot.is_removed || rule.op != op || !is_named || !suits(&rule.fault) {
                return None;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                return None;
            }
            if slot.fired >= rule.times || !draw(random, rule.chance_permille) {
                return None;
            }
            slot.fired += 1;
            Some(rule.fault.clone())
        })
    }
}

fn draw(random: &Random, permille: u16) -> bool {
    // Certainty draws nothing, so that adding a certain rule does not change
    // what the uncertain ones do.
    if permille >= 1000 {
        return true;
    }
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    u64::from_le_bytes(bytes) % 1000 < u64::from(permille)
}
