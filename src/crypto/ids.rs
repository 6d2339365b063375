//! Names for the byte strings that tell things apart, so that no two of them can
//! be mixed up in a call.

use crate::env::Env;
use std::fmt;

/// Defines a newtype over `[u8; N]`.
macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Bytes it takes.
            pub const LEN: usize = $len;

            /// A new one, which nobody has had before.
            #[must_use]
            pub fn random(env: &Env) -> Self {
                Self(env.random_array())
            }

            /// Its bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

byte_id! {
    /// One vault.
    VaultId, 16
}
byte_id! {
    /// One namespace of a vault.
    NamespaceId, 16
}
byte_id! {
    /// One machine that takes part in a vault.
    MachineId, 16
}
byte_id! {
    /// One life of a machine's local state.
    Incarnation, 8
}
byte_id! {
    /// One pack.
    PackId, 16
}
byte_id! {
    /// The keyed hash of a block's plaintext.
    BlockId, 32
}

/// A key epoch of a namespace, counted from 0; it rises when a member is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_shown_in_hex() {
        let id = Incarnation([0x00, 0x01, 0xab, 0xff, 0x10, 0, 0, 9]);
        assert_eq!(id.to_string(), "0001abff10000009");
        assert_eq!(format!("{id:?}"), "Incarnation(0001abff10000009)");
    }
}
