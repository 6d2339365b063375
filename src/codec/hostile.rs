//! What every decoder must withstand, as a test that takes the decoder.

use super::{Reader, Result};
use std::fmt;

/// Checks that `decode` reads `valid` and nothing shorter or longer, and that
/// whatever else it accepts is the one encoding of what it answers.
#[track_caller]
pub(crate) fn withstands<T, E: fmt::Debug>(
    valid: &[u8],
    decode: impl Fn(&[u8]) -> std::result::Result<T, E>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    assert_eq!(encode(&decode(valid).unwrap()), valid);
    for len in 0..valid.len() {
        assert!(decode(&valid[..len]).is_err(), "the first {len} bytes alone");
    }
    assert!(decode(&[valid, &[0]].concat()).is_err(), "one byte more");
    let mut changed = valid.to_vec();
    for at in 0..valid.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff, valid[at] ^ 1, valid[at].wrapping_add(1)] {
            changed[at] = byte;
            if let Ok(value) = decode(&changed) {
                assert_eq!(encode(&value), changed, "byte {at} is {byte}");
            }
        }
        changed[at] = valid[at];
    }
}

/// Makes a decoder of whole inputs from one of their front.
pub(crate) fn whole<T>(
    decode: impl Fn(&mut Reader<'_>) -> Result<T>,
) -> impl Fn(&[u8]) -> Result<T> {
    move |bytes| {
        let mut reader = Reader::new(bytes);
        let value = decode(&mut reader)?;
        reader.finish("value")?;
        Ok(value)
    }
}
