//! The log: what machines exchange. Codecs of ops, segments and the records
//! beside them; sealing, signing and verifying them.

pub mod op;
pub mod record;
pub mod segment;
#[cfg(test)]
mod tests;

use crate::store::ObjectName;

/// The store's name for a keyed hash in hexadecimal.
#[must_use]
pub fn object_name(hex: &str) -> ObjectName {
    hex.parse().expect("a keyed hash is written as 32 hexadecimal characters")
}
