//! The server's side of MTProto 2.0: keys, encryption and message numbers.
//!
//! The client library exports only its own direction of the key derivation; this is the
//! other one (<https://core.telegram.org/mtproto/description>).

use crate::clock::{random, wall};
use grammers_crypto::aes;
use sha1::Digest as _;
use sha2::Sha256;
use std::io;

/// Several messages in one.
pub(crate) const MSG_CONTAINER: u32 = 0x73f1_f8dc;
/// A message that is compressed.
pub(crate) const GZIP_PACKED: u32 = 0x3072_cfa1;
/// The answer to a request.
pub(crate) const RPC_RESULT: u32 = 0xf35c_6d01;

/// Bytes before the encrypted part: key id and message key.
pub(crate) const ENVELOPE_LEN: usize = 24;
/// Longest message that is unpacked.
const UNPACKED_LEN_MAX: u64 = 4 << 20;

/// Which of a message's two directions a derived key is for.
#[derive(Clone, Copy)]
enum Direction {
    FromClient = 0,
    FromServer = 8,
}

/// An authorization key that client and server know.
#[derive(Clone)]
pub(crate) struct AuthKey {
    bytes: [u8; 256],
    id: [u8; 8],
}

impl AuthKey {
    pub(crate) fn random() -> Self {
        Self::new(random())
    }

    pub(crate) fn new(bytes: [u8; 256]) -> Self {
        let hash: [u8; 20] = sha1::Sha1::digest(bytes).into();
        let mut id = [0; 8];
        id.copy_from_slice(&hash[12..]);
        Self { bytes, id }
    }

    pub(crate) fn id(&self) -> [u8; 8] {
        self.id
    }

    pub(crate) fn bytes(&self) -> [u8; 256] {
        self.bytes
    }

    fn cipher_key(&self, message_key: &[u8; 16], direction: Direction) -> ([u8; 32], [u8; 32]) {
        let x = direction as usize;
        let hash = |first: &[u8], second: &[u8]| -> [u8; 32] {
            Sha256::new().chain_update(first).chain_update(second).finalize().into()
        };
        let a = hash(message_key, &self.bytes[x..x + 36]);
        let b = hash(&self.bytes[40 + x..76 + x], message_key);
        let weave = |outer: &[u8; 32], inner: &[u8; 32]| {
            let mut woven = *outer;
            woven[8..24].copy_from_slice(&inner[8..24]);
            woven
        };
        (weave(&a, &b), weave(&b, &a))
    }

    fn message_key(&self, plain: &[u8], direction: Direction) -> [u8; 16] {
        let x = direction as usize;
        let hash = Sha256::new().chain_update(&self.bytes[88 + x..120 + x]).chain_update(plain);
        let hash: [u8; 32] = hash.finalize().into();
        let mut key = [0; 16];
        key.copy_from_slice(&hash[8..24]);
        key
    }

    /// Opens what a client sent, in place, and answers the plain text.
    pub(crate) fn open<'a>(&self, payload: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let Some((envelope, sealed)) = payload.split_at_mut_checked(ENVELOPE_LEN) else {
            return Err(io::Error::other("shorter than its envelope"));
        };
        let mut message_key = [0; 16];
        message_key.copy_from_slice(&envelope[8..]);
        if sealed.len() < 32 || !sealed.len().is_multiple_of(16) {
            return Err(io::Error::other("not a number of cipher blocks"));
        }
        let (key, iv) = self.cipher_key(&message_key, Direction::FromClient);
        aes::ige_decrypt(sealed, &key, &iv);
        if self.message_key(sealed, Direction::FromClient) != message_key {
            return Err(io::Error::other("the message key does not match"));
        }
        Ok(sealed)
    }

    /// Seals salt, session, message number and body for the client.
    pub(crate) fn seal(&self, mut plain: Vec<u8>) -> Vec<u8> {
        let padding = 12 + (4 + 16 - plain.len() % 16) % 16;
        plain.extend_from_slice(&random::<28>()[..padding]);
        let message_key = self.message_key(&plain, Direction::FromServer);
        let (key, iv) = self.cipher_key(&message_key, Direction::FromServer);
        aes::ige_encrypt(&mut plain, &key, &iv);
        let mut payload = Vec::with_capacity(plain.len() + ENVELOPE_LEN);
        payload.extend_from_slice(&self.id);
        payload.extend_from_slice(&message_key);
        payload.extend_from_slice(&plain);
        payload
    }
}

/// Numbers of the server's messages: they grow with time and tell answers from the rest.
#[derive(Default)]
pub(crate) struct MessageNumbers(i64);

impl MessageNumbers {
    pub(crate) fn next(&mut self, is_answer: bool) -> i64 {
        let now = wall();
        let by_time = (now.as_secs() as i64) << 32 | i64::from(now.subsec_nanos()) << 2;
        let free = by_time.max((self.0 & !3) + 4) & !3;
        self.0 = free | if is_answer { 1 } else { 3 };
        self.0
    }
}

pub(crate) fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(packed).take(UNPACKED_LEN_MAX).read_to_end(&mut plain)?;
    Ok(plain)
}

/// The first four bytes: which constructor follows.
pub(crate) fn constructor_of(body: &[u8]) -> Option<u32> {
    body.first_chunk().map(|id| u32::from_le_bytes(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_padded_to_blocks_and_never_alike() {
        let key = AuthKey::random();
        for len in 0..64 {
            let sealed = key.seal(vec![7; len]);
            let padding = sealed.len() - ENVELOPE_LEN - len;
            assert!((12..28).contains(&padding), "{len}: {padding}");
            assert!((sealed.len() - ENVELOPE_LEN).is_multiple_of(16));
            assert_ne!(sealed, key.seal(vec![7; len]));
        }
    }

    #[test]
    fn garbage_is_refused() {
        let key = AuthKey::random();
        for len in [0, 23, 24, 40, 56, 72] {
            assert!(key.open(&mut vec![1; len]).is_err(), "{len}");
        }
    }

    #[test]
    fn numbers_grow() {
        let mut numbers = MessageNumbers::default();
        let drawn: Vec<i64> = (0..1000).map(|n| numbers.next(n % 2 == 0)).collect();
        assert!(drawn.is_sorted() && drawn.iter().all(|n| n % 2 == 1));
    }
}
