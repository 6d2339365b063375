//! Ed25519 signatures (RFC 8032), verified with the strict rules.
//!
//! What is signed is the bytes as they are stored, behind a prefix that names
//! their kind; a verifier checks the same bytes before it decodes them. Keys of
//! small order and encodings that are not canonical are refused, so a signature
//! belongs to one key and one message and has one form.

use super::secret::Key32;
use ed25519_dalek::ed25519::signature::MultipartSigner as _;
use ed25519_dalek::{Signature, SigningKey as LibraryKey, VerifyingKey};
use std::fmt;

/// Bytes of a signature.
pub const SIGNATURE_LEN: usize = 64;

const PREFIX: &[u8] = b"tgcryptfs/v1/sig/";

/// What a signature is over; signatures of one kind mean nothing as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureKind {
    /// A membership record, by the owner.
    Membership,
    /// An incarnation record, by its machine.
    Incarnation,
    /// A segment, by its machine.
    Segment,
    /// A head, by its machine.
    Head,
    /// A checkpoint record, by its machine.
    Checkpoint,
}

impl SignatureKind {
    fn label(self) -> &'static str {
        match self {
            Self::Membership => "membership",
            Self::Incarnation => "incarnation",
            Self::Segment => "segment",
            Self::Head => "head",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// A signature that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not match the content and the signer's key")]
pub struct BadSignature;

/// A public key that nobody can have made honestly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 public key, or one of small order")]
pub struct BadPublicKey;

/// A public key that may sign: canonical and not of small order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", super::ids::hex(self.as_bytes()))
    }
}

impl PublicKey {
    /// Bytes it takes.
    pub const LEN: usize = 32;

    /// Checks and takes a public key.
    ///
    /// # Errors
    ///
    /// [`BadPublicKey`] if it is none, has another canonical form, or is of small
    /// order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, BadPublicKey> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| BadPublicKey)?;
        let is_canonical = key.to_edwards().compress().as_bytes() == bytes;
        if key.is_weak() || !is_canonical { Err(BadPublicKey) } else { Ok(Self(key)) }
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Verifies a signature over `body`.
    ///
    /// # Errors
    ///
    /// [`BadSignature`] if it does not hold.
    pub fn verify(
        &self,
        kind: SignatureKind,
        body: &[u8],
        signature: &[u8; SIGNATURE_LEN],
    ) -> Result<(), BadSignature> {
        let message = [PREFIX, kind.label().as_bytes(), &[0], body].concat();
        let signature = Signature::from_bytes(signature);
        self.0.verify_strict(&message, &signature).map_err(|_| BadSignature)
    }

    /// Verifies `body ‖ signature` and answers the body.
    ///
    /// # Errors
    ///
    /// [`BadSignature`] if the signature does not hold or is not there.
    pub fn verify_signed<'s>(
        &self,
        kind: SignatureKind,
        signed: &'s [u8],
    ) -> Result<&'s [u8], BadSignature> {
        let (body, signature) = split_signed(signed).ok_or(BadSignature)?;
        self.verify(kind, body, signature)?;
        Ok(body)
    }
}

/// Splits `body ‖ signature` without verifying, for whoever must read the body
/// to find the signer's key.
#[must_use]
pub fn split_signed(signed: &[u8]) -> Option<(&[u8], &[u8; SIGNATURE_LEN])> {
    signed.split_last_chunk()
}

/// A key that signs.
pub struct SigningKey {
    seed: Key32,
    public: PublicKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// The key with this seed. The expanded key is made for each signature and
    /// wiped after it, so that only the seed stays in memory.
    #[must_use]
    pub fn from_seed(seed: Key32) -> Self {
        let public = PublicKey(LibraryKey::from_bytes(seed.expose()).verifying_key());
        Self { seed, public }
    }

    /// The seed, for a machine to seal on its disk.
    #[must_use]
    pub fn seed(&self) -> &Key32 {
        &self.seed
    }

    /// The key that verifies what this one signs.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `body`.
    #[must_use]
    pub fn sign(&self, kind: SignatureKind, body: &[u8]) -> [u8; SIGNATURE_LEN] {
        let key = LibraryKey::from_bytes(self.seed.expose());
        key.multipart_sign(&[PREFIX, kind.label().as_bytes(), &[0], body]).to_bytes()
    }

    /// Makes `body ‖ signature` of a body.
    pub fn sign_onto(&self, kind: SignatureKind, body: &mut Vec<u8>) {
        let signature = self.sign(kind, body);
        body.extend_from_slice(&signature);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(Key32::copy_of(&[seed; 32]))
    }

    #[test]
    fn what_is_signed_verifies_as_its_kind_only() {
        let key = key(1);
        let mut signed = b"body".to_vec();
        key.sign_onto(SignatureKind::Head, &mut signed);
        let public = PublicKey::from_bytes(key.public().as_bytes()).unwrap();
        assert_eq!(public.verify_signed(SignatureKind::Head, &signed), Ok(&b"body"[..]));
        assert_eq!(public.verify_signed(SignatureKind::Segment, &signed), Err(BadSignature));
        let other = self::key(2);
        assert!(other.public().verify_signed(SignatureKind::Head, &signed).is_err());
        for byte in 0..signed.len() {
            let mut changed = signed.clone();
            changed[byte] ^= 1;
            assert!(public.verify_signed(SignatureKind::Head, &changed).is_err(), "byte {byte}");
        }
        assert!(public.verify_signed(SignatureKind::Head, &signed[..63]).is_err());
    }

    #[test]
    fn s35_low_order_keys_are_refused() {
        let low_order = [
            "0100000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000080",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
            // The same points in forms that are not canonical.
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0100000000000000000000000000000000000000000000000000000000000080",
        ];
        for text in low_order {
            let mut bytes = [0; 32];
            for (index, byte) in bytes.iter_mut().enumerate() {
                *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).unwrap();
            }
            assert_eq!(PublicKey::from_bytes(&bytes), Err(BadPublicKey), "{text}");
        }
    }

    #[test]
    fn s35_public_keys_have_one_encoding() {
        // y = 2^255 - 19 + y' for the few small y' that are on the curve.
        let mut accepted = 0;
        for low in 0xed..=0xff_u8 {
            let mut bytes = [0xff; 32];
            bytes[0] = low;
            for top in [0x7f, 0xff] {
                bytes[31] = top;
                assert!(PublicKey::from_bytes(&bytes).is_err());
                accepted += u32::from(VerifyingKey::from_bytes(&bytes).is_ok());
            }
        }
        assert!(accepted > 0, "the library alone accepts some of them");
    }

    #[test]
    fn s35_malleated_signatures_are_refused() {
        let key = key(1);
        let mut signature = key.sign(SignatureKind::Segment, b"body");
        // S + L, where L is the order of the group, satisfies the equation too.
        let order: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        assert!(key.public().verify(SignatureKind::Segment, b"body", &signature).is_ok());
        let mut carry = 0_u16;
        for (byte, add) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        assert_eq!(
            key.public().verify(SignatureKind::Segment, b"body", &signature),
            Err(BadSignature)
        );
    }
}
