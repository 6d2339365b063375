//! Access to the test vectors of the format, which another implementation made
//! from `docs/FORMAT.md`: see `tests/golden/v1/make_vectors.py` for what they
//! hold.

use crate::crypto::{Epoch, EpochKeys, EpochSecret, Key32, NamespaceId, NamespaceKeys};
use serde_json::Value;
use std::sync::OnceLock;

mod crypto;
mod primitives;

/// All vectors of version 1.
pub(crate) fn vectors() -> &'static Value {
    static VECTORS: OnceLock<Value> = OnceLock::new();
    VECTORS.get_or_init(|| {
        serde_json::from_str(include_str!("../tests/golden/v1/vectors.json")).unwrap()
    })
}

/// The namespace that the vectors are about.
pub(crate) fn ns() -> NamespaceId {
    NamespaceId(vectors()["keys"].array("ns_id"))
}

/// Its lasting keys.
pub(crate) fn namespace_keys() -> NamespaceKeys {
    NamespaceKeys::new(Key32::copy_of(&vectors()["keys"].array("nsk")))
}

/// Its keys of one epoch.
pub(crate) fn epoch_keys(epoch: u64) -> EpochKeys {
    let vector = &vectors()["keys"]["epochs"][usize::try_from(epoch).unwrap()];
    let secret = EpochSecret::new(Key32::copy_of(&vector.array("es")));
    EpochKeys::new(ns(), Epoch(vector.small("epoch")), &secret)
}

/// Reads the fields of a vector; a field that is missing fails the test.
pub(crate) trait Vector {
    /// A byte string.
    fn bytes(&self, key: &str) -> Vec<u8>;
    /// A number.
    fn number(&self, key: &str) -> u64;
    /// A text.
    fn text(&self, key: &str) -> &str;
    /// A list.
    fn items(&self, key: &str) -> &[Value];

    /// A byte string of known length.
    fn array<const N: usize>(&self, key: &str) -> [u8; N] {
        self.bytes(key).try_into().unwrap()
    }

    /// A number of 32 bits.
    fn small(&self, key: &str) -> u32 {
        self.number(key).try_into().unwrap()
    }
}

impl Vector for Value {
    fn bytes(&self, key: &str) -> Vec<u8> {
        unhex(self.text(key))
    }

    fn number(&self, key: &str) -> u64 {
        self[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {self}"))
    }

    fn text(&self, key: &str) -> &str {
        self[key].as_str().unwrap_or_else(|| panic!("no text {key} in {self}"))
    }

    fn items(&self, key: &str) -> &[Value] {
        self[key].as_array().unwrap_or_else(|| panic!("no list {key} in {self}"))
    }
}

/// Bytes from hexadecimal.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2) && text.is_ascii());
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}
