//! Identifiers that appear in formats: newtypes, so that one is never taken for
//! another.

pub use crate::crypto::ids::{BlockId, Incarnation, MachineId, NamespaceId, PackId, VaultId};

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for byte in self.0 {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }
    };
}

id!(
    /// A directory entry, for as long as it exists under any name.
    LinkId,
    16
);
id!(
    /// A BLAKE3 hash of something public to every member.
    Hash,
    32
);

/// Hybrid logical time: 48 bits of milliseconds since the Unix epoch, then a
/// 16-bit counter, so that it rises with every event and follows the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The time of an event after `self` that happens at `now`; never lower
    /// than `self`, however the clock jumps.
    #[must_use]
    pub fn next(self, now: vfs::Timestamp) -> Self {
        let seconds = u64::try_from(now.seconds).unwrap_or(0);
        let now_ms = seconds.saturating_mul(1000) + u64::from(now.nanoseconds / 1_000_000);
        let physical = now_ms.min((1 << 48) - 1) << 16;
        Self(physical.max(self.0.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::Hlc;
    use vfs::Timestamp;

    #[test]
    fn hybrid_time_never_falls() {
        let at = |seconds| Timestamp { seconds, nanoseconds: 0 };
        let first = Hlc(0).next(at(1000));
        assert_eq!(first.0, 1_000_000 << 16);
        let second = first.next(at(500));
        assert_eq!(second.0, first.0 + 1);
        assert!(second.next(at(1001)) > second);
        assert_eq!(Hlc(7).next(at(-5)).0, 8);
    }
}
