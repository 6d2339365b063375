//! Names of objects.
//!
//! A store sees two shapes of name and no others: 32 lower-case hexadecimal
//! characters, which tell nothing, and `vault.<generation>`. Whatever else lies
//! in the same place is not ours. A name is parsed once, at the border, and is
//! safe as a file name or a URL path from then on.

use std::fmt;
use std::str::FromStr;

/// Bytes of the keyed hash that a name spells.
const PRF_LEN: usize = 16;
/// Longest name; `vault.` and a `u64` are shorter.
const TEXT_LEN_MAX: usize = 2 * PRF_LEN;
const VAULT_PREFIX: &str = "vault.";

/// The name of one object in a store.
///
/// Held in place and `Copy`, because listings and indexes hold millions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// ASCII, padded with zeros, so that the order is the order of the texts.
    text: [u8; TEXT_LEN_MAX],
    len: u8,
}

/// Why a text is not an object name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Neither of the two shapes.
    #[error(
        "{text:?} is not an object name; names are 32 lower-case hexadecimal characters or vault.<generation>"
    )]
    Shape {
        /// What was given, cut to a length fit for a message.
        text: String,
    },
    /// `vault.` is not followed by a number in its shortest form.
    #[error("{text:?} is not the name of a vault header: the generation is not a plain number")]
    Generation {
        /// What was given, cut to a length fit for a message.
        text: String,
    },
}

impl ObjectName {
    /// The name that a keyed hash spells.
    #[must_use]
    pub fn from_prf(prf: &[u8; PRF_LEN]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; TEXT_LEN_MAX];
        for (pair, byte) in text.chunks_exact_mut(2).zip(prf) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        Self { text, len: TEXT_LEN_MAX as u8 }
    }

    /// The name of one generation of the vault header.
    #[must_use]
    pub fn vault(generation: u64) -> Self {
        Self::from_ascii(&format!("{VAULT_PREFIX}{generation}"))
    }

    /// Which generation of the vault header this names, if it names one.
    #[must_use]
    pub fn vault_generation(&self) -> Option<u64> {
        self.as_str().strip_prefix(VAULT_PREFIX)?.parse().ok()
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..usize::from(self.len)])
            .expect("names are ASCII by construction")
    }

    /// `ascii` has been checked to be one of the two shapes, which both fit.
    fn from_ascii(ascii: &str) -> Self {
        let mut text = [0; TEXT_LEN_MAX];
        text[..ascii.len()].copy_from_slice(ascii.as_bytes());
        Self { text, len: ascii.len() as u8 }
    }
}

impl FromStr for ObjectName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let shown = || text.chars().take(80).collect();
        if let Some(digits) = text.strip_prefix(VAULT_PREFIX) {
            let generation = digits.parse().map_err(|_| NameError::Generation { text: shown() })?;
            let name = Self::vault(generation);
            // One spelling per name: `vault.007` and `vault.+7` are not ours.
            return if name.as_str() == text {
                Ok(name)
            } else {
                Err(NameError::Generation { text: shown() })
            };
        }
        let is_prf = text.len() == TEXT_LEN_MAX
            && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_prf { Ok(Self::from_ascii(text)) } else { Err(NameError::Shape { text: shown() }) }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectName({self})")
    }
}

impl AsRef<str> for ObjectName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::{NameError, ObjectName};
    use proptest::prelude::*;

    #[test]
    fn prf_names_are_lower_case_hex() {
        let prf = [0x00, 0x1f, 0xa0, 0xff, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xbe];
        let name = ObjectName::from_prf(&prf);
        assert_eq!(name.as_str(), "001fa0ff0405060708090a0b0c0d0ebe");
        assert_eq!(name.as_str().parse(), Ok(name));
        assert_eq!(name.vault_generation(), None);
    }

    #[test]
    fn vault_names_round_trip() {
        for generation in [0, 1, 9, 10, u64::MAX] {
            let name = ObjectName::vault(generation);
            assert_eq!(name.to_string(), format!("vault.{generation}"));
            assert_eq!(name.vault_generation(), Some(generation));
            assert_eq!(name.as_str().parse(), Ok(name));
        }
    }

    #[test]
    fn nothing_else_is_a_name() {
        for text in [
            "",
            "abc",
            "001FA0FF0405060708090a0b0c0d0ebe",
            "001fa0ff0405060708090a0b0c0d0eb",
            "001fa0ff0405060708090a0b0c0d0ebe0",
            "../1fa0ff0405060708090a0b0c0d0ebe",
            "ä01fa0ff0405060708090a0b0c0d0eb",
            "Vault.1",
        ] {
            assert!(matches!(text.parse::<ObjectName>(), Err(NameError::Shape { .. })), "{text:?}");
        }
        for text in ["vault.", "vault.+1", "vault.01", "vault.-1", "vault.18446744073709551616"] {
            assert!(
                matches!(text.parse::<ObjectName>(), Err(NameError::Generation { .. })),
                "{text:?}"
            );
        }
    }

    #[test]
    fn long_texts_are_cut_in_messages() {
        let text = "x".repeat(1 << 20);
        let message = text.parse::<ObjectName>().unwrap_err().to_string();
        assert!(message.len() < 300, "{}", message.len());
    }

    proptest! {
        #[test]
        fn order_is_the_order_of_the_texts(
            prf in any::<[u8; 16]>(), other in any::<[u8; 16]>(), generation in any::<u64>()
        ) {
            let names =
                [ObjectName::from_prf(&prf), ObjectName::from_prf(&other), ObjectName::vault(generation)];
            for a in names {
                for b in names {
                    prop_assert_eq!(a.cmp(&b), a.as_str().cmp(b.as_str()));
                }
            }
        }

        #[test]
        fn whatever_parses_is_spelled_that_way(text in "(vault\\.)?[0-9a-f.+A]{0,33}") {
            if let Ok(name) = text.parse::<ObjectName>() {
                prop_assert_eq!(name.as_str(), text);
            }
        }
    }
}
