//! AES-256-GCM (SP 800-38D).
//!
//! The 16-byte tag is never shortened, and nothing of a message that fails to
//! authenticate is ever seen: buffers are wiped. Whoever seals chooses the
//! nonce at random; the format gives nearly every message a key of its own, so
//! chance has nothing to collide with.

use super::secret::Key32;
use super::{NONCE_LEN, Nonce, TAG_LEN};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce as LibraryNonce, UnboundKey};
use std::fmt;
use zeroize::Zeroize;

/// The message, its nonce or its associated data were changed, or the key is
/// another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed")]
pub struct Unauthentic;

/// A key made ready for many messages; preparing it costs more than sealing a
/// short one.
pub struct AeadKey(LessSafeKey);

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AeadKey(…)")
    }
}

impl AeadKey {
    /// Prepares a key.
    #[must_use]
    pub fn new(key: &Key32) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key.expose());
        Self(LessSafeKey::new(key.expect("the key has the length that the algorithm wants")))
    }

    /// Replaces the message by its ciphertext and adds the tag.
    pub fn seal_in_place(&self, nonce: &Nonce, aad: &[u8], message: &mut Vec<u8>) {
        self.seal_tail(nonce, aad, message, 0);
    }

    /// Seals what `buffer` holds from `start` on and adds the tag.
    pub fn seal_tail(&self, nonce: &Nonce, aad: &[u8], buffer: &mut Vec<u8>, start: usize) {
        let nonce = LibraryNonce::assume_unique_for_key(*nonce);
        let message = &mut buffer[start..];
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), message);
        buffer.extend_from_slice(tag.expect("messages are far below 2^36 bytes").as_ref());
    }

    /// Adds to `out`: nonce, ciphertext of `message`, tag.
    pub fn seal_onto(&self, nonce: &Nonce, aad: &[u8], message: &[u8], out: &mut Vec<u8>) {
        out.reserve(NONCE_LEN + message.len() + TAG_LEN);
        out.extend_from_slice(nonce);
        let start = out.len();
        out.extend_from_slice(message);
        self.seal_tail(nonce, aad, out, start);
    }

    /// Opens ciphertext and tag where they lie and answers the message, which is
    /// 16 bytes shorter; on failure the buffer is wiped.
    ///
    /// # Errors
    ///
    /// [`Unauthentic`] if anything is not as it was sealed.
    pub fn open_in_place<'m>(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        sealed: &'m mut [u8],
    ) -> Result<&'m mut [u8], Unauthentic> {
        let nonce = LibraryNonce::assume_unique_for_key(*nonce);
        let Some(len) = sealed.len().checked_sub(TAG_LEN) else { return Err(Unauthentic) };
        let (message, tag) = sealed.split_at_mut(len);
        if self.0.open_in_place_separate_tag(nonce, Aad::from(aad), tag, message).is_err() {
            message.zeroize();
            return Err(Unauthentic);
        }
        Ok(message)
    }

    /// Opens `nonce ‖ ciphertext ‖ tag` into a new buffer.
    ///
    /// # Errors
    ///
    /// [`Unauthentic`] if anything is not as it was sealed.
    pub fn open_copy(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Unauthentic> {
        let (nonce, rest) = sealed.split_first_chunk().ok_or(Unauthentic)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(Unauthentic)?;
        let nonce = LibraryNonce::assume_unique_for_key(*nonce);
        let mut message = vec![0; ciphertext.len()];
        let aad = Aad::from(aad);
        let opened = self.0.open_separate_gather(nonce, aad, ciphertext, tag, &mut message);
        if opened.is_err() {
            message.zeroize();
            return Err(Unauthentic);
        }
        Ok(message)
    }
}

/// Seals one message under a key that is used once.
pub fn seal_in_place(key: &Key32, nonce: &Nonce, aad: &[u8], message: &mut Vec<u8>) {
    AeadKey::new(key).seal_in_place(nonce, aad, message);
}

/// Opens one message under a key that is used once.
///
/// # Errors
///
/// [`Unauthentic`] if anything is not as it was sealed.
pub fn open_in_place<'m>(
    key: &Key32,
    nonce: &Nonce,
    aad: &[u8],
    sealed: &'m mut [u8],
) -> Result<&'m mut [u8], Unauthentic> {
    AeadKey::new(key).open_in_place(nonce, aad, sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> (Key32, Nonce, Vec<u8>) {
        let (key, nonce) = (Key32::copy_of(&[1; 32]), [2; 12]);
        let mut message = b"message".to_vec();
        seal_in_place(&key, &nonce, b"aad", &mut message);
        (key, nonce, message)
    }

    #[test]
    fn what_is_sealed_opens() {
        let (key, nonce, mut sealed) = sealed();
        assert_eq!(sealed.len(), 7 + TAG_LEN);
        assert_eq!(open_in_place(&key, &nonce, b"aad", &mut sealed).unwrap(), b"message");
    }

    #[test]
    fn every_change_is_noticed_and_nothing_is_released() {
        let (key, nonce, sealed) = sealed();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open_in_place(&key, &nonce, b"aad", &mut changed), Err(Unauthentic));
            assert_eq!(changed[..7], [0; 7]);
        }
        assert!(open_in_place(&key, &nonce, b"aaD", &mut sealed.clone()).is_err());
        assert!(open_in_place(&key, &[3; 12], b"aad", &mut sealed.clone()).is_err());
        let other = Key32::copy_of(&[9; 32]);
        assert!(open_in_place(&other, &nonce, b"aad", &mut sealed.clone()).is_err());
        for len in 0..sealed.len() {
            assert!(open_in_place(&key, &nonce, b"aad", &mut sealed[..len].to_vec()).is_err());
        }
    }

    #[test]
    fn the_two_ways_to_open_agree() {
        let key = AeadKey::new(&Key32::copy_of(&[1; 32]));
        let mut out = vec![0xee];
        key.seal_onto(&[7; 12], b"aad", b"hello", &mut out);
        assert_eq!(out[0], 0xee);
        assert_eq!(key.open_copy(b"aad", &out[1..]).unwrap(), b"hello");
        out[20] ^= 1;
        assert_eq!(key.open_copy(b"aad", &out[1..]), Err(Unauthentic));
        for len in 0..NONCE_LEN + TAG_LEN {
            assert_eq!(key.open_copy(b"aad", &out[1..=len]), Err(Unauthentic));
        }
    }
}
