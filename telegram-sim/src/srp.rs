//! The server's half of the second password (<https://core.telegram.org/api/srp>).

use crate::clock::random;
use hmac::Hmac;
use num_bigint::BigUint;
use sha2::{Digest as _, Sha256, Sha512};

/// The safe prime of 2048 bits that Telegram uses.
const PRIME: &[u8] = b"\
    C71CAEB9C6B1C9048E6C522F70F13F73980D40238E3E21C14934D037563D930F\
    48198A0AA7C14058229493D22530F4DBFA336F6E0AC925139543AED44CCE7C37\
    20FD51F69458705AC68CD4FE6B6B13ABDC9746512969328454F18FAF8C595F64\
    2477FE96BB2A941D5BCD1D4AC8CC49880708FA9B378E3C4F3A9060BEE67CF9A4\
    A4A695811051907E162753B56B0F6B410DBA74D8A84B2A14B3144E0EF1284754\
    FD17ED950D5965B4B9DD46582DB1178D169C6BC465B0D6FF9CA3928FEF5B9AE4\
    E418FC15E83EBEA0F87FA9FF5EED70050DED2849F47BF959D956850CE929851F\
    0D8115F635B105EE2E4E15D04B2454BF6F4FADF034B10403119CD8E3B92FCC5B";

/// Its generator.
pub(crate) const GENERATOR: u32 = 3;
/// Rounds of PBKDF2.
const ROUNDS: u32 = 100_000;

/// What the server knows of a password, and one challenge.
pub(crate) struct Account {
    pub(crate) salt1: [u8; 16],
    pub(crate) salt2: [u8; 16],
    verifier: BigUint,
    secret: BigUint,
    pub(crate) challenge: [u8; 256],
    pub(crate) id: i64,
}

pub(crate) fn prime() -> BigUint {
    BigUint::parse_bytes(PRIME, 16).unwrap_or_default()
}

/// 2048 bits, with zeros in front.
pub(crate) fn padded(number: &BigUint) -> [u8; 256] {
    let bytes = number.to_bytes_be();
    let mut padded = [0; 256];
    let start = padded.len().saturating_sub(bytes.len());
    padded[start..].copy_from_slice(&bytes[..256 - start]);
    padded
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

fn salted(data: &[u8], salt: &[u8]) -> [u8; 32] {
    hash(&[salt, data, salt])
}

impl Account {
    pub(crate) fn new(password: &str) -> Self {
        let (salt1, salt2) = (random::<16>(), random::<16>());
        let first = salted(&salted(password.as_bytes(), &salt1), &salt2);
        let mut stretched = [0; 64];
        pbkdf2::pbkdf2::<Hmac<Sha512>>(&first, &salt1, ROUNDS, &mut stretched)
            .expect("HMAC takes keys of any length");
        let x = BigUint::from_bytes_be(&salted(&stretched, &salt2));
        let (p, g) = (prime(), BigUint::from(GENERATOR));
        let verifier = g.modpow(&x, &p);
        let secret = BigUint::from_bytes_be(&random::<256>());
        let k = BigUint::from_bytes_be(&hash(&[&padded(&p), &padded(&g)]));
        let challenge = (k * &verifier + g.modpow(&secret, &p)) % &p;
        Self { salt1, salt2, verifier, secret, challenge: padded(&challenge), id: 77 }
    }

    /// Whether a client that answered `a` and `proof` knows the password.
    pub(crate) fn is_proved(&self, id: i64, a: &[u8], proof: &[u8]) -> bool {
        if id != self.id || a.len() != 256 {
            return false;
        }
        let (p, g) = (prime(), padded(&BigUint::from(GENERATOR)));
        let u = BigUint::from_bytes_be(&hash(&[a, &self.challenge]));
        let base = BigUint::from_bytes_be(a) * self.verifier.modpow(&u, &p) % &p;
        let key = hash(&[&padded(&base.modpow(&self.secret, &p))]);
        let (hash_p, hash_g) = (hash(&[&padded(&p)]), hash(&[&g]));
        let mixed: Vec<u8> = hash_p.iter().zip(hash_g).map(|(a, b)| a ^ b).collect();
        let (salt1, salt2) = (hash(&[&self.salt1]), hash(&[&self.salt2]));
        hash(&[&mixed, &salt1, &salt2, a, &self.challenge, &key]) == proof
    }
}
