//! Keys from keys (HKDF-SHA256, RFC 5869) and keys from passphrases (Argon2id,
//! RFC 9106).
//!
//! Every derivation names its purpose behind the format's version, so no key is
//! ever used for two things. Argon2's parameters come from a header that may be
//! forged: [`Argon2Params`] exists only inside the bounds, so nothing outside
//! them is ever allocated or computed.

use super::secret::{Key32, Secret};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::{hkdf, hmac};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize;

/// Stands before every purpose; another version of the format has another one.
const LABEL: &[u8] = b"tgcryptfs/v1/";

/// `extract(salt, ikm)`.
#[must_use]
pub fn extract(salt: &[u8], ikm: &[u8]) -> Key32 {
    hmac_sha256(salt, ikm)
}

/// `derive(prk, purpose, context, 32)`; the parts of the context stand one
/// behind the other and all but the last have a fixed length.
#[must_use]
pub fn derive(prk: &Key32, purpose: &str, context: &[&[u8]]) -> Key32 {
    Secret::fill_with(|key| expand(prk, purpose, context, key))
}

/// `derive(prk, purpose, context, N)` for bytes that are not secret: ids and
/// commitments.
#[must_use]
pub fn derive_public<const N: usize>(prk: &Key32, purpose: &str, context: &[&[u8]]) -> [u8; N] {
    let mut bytes = [0; N];
    expand(prk, purpose, context, &mut bytes);
    bytes
}

fn expand(prk: &Key32, purpose: &str, context: &[&[u8]], out: &mut [u8]) {
    let label_len = u32::try_from(LABEL.len() + purpose.len()).expect("purposes are short");
    let label_len = label_len.to_le_bytes();
    // A context has at most four parts; more would be a new kind of derivation.
    let mut info: [&[u8]; 7] = [&[]; 7];
    info[..3].copy_from_slice(&[&label_len, LABEL, purpose.as_bytes()]);
    info[3..3 + context.len()].copy_from_slice(context);
    hkdf_expand(prk, &info, out);
}

fn hkdf_expand(prk: &Key32, info: &[&[u8]], out: &mut [u8]) {
    let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, prk.expose());
    let filled = prk.expand(info, OutputLen(out.len())).and_then(|okm| okm.fill(out));
    filled.expect("far below 255 blocks of output");
}

struct OutputLen(usize);

impl hkdf::KeyType for OutputLen {
    fn len(&self) -> usize {
        self.0
    }
}

/// HMAC-SHA256 as a key.
fn hmac_sha256(key: &[u8], message: &[u8]) -> Key32 {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    Secret::fill_with(|tag| {
        hmac::sign_to_buffer(&key, message, tag).expect("the buffer has the tag's length");
    })
}

/// HMAC-SHA256 as an authenticator.
#[must_use]
pub fn mac(key: &Key32, message: &[u8]) -> [u8; 32] {
    *hmac_sha256(key.expose(), message).expose()
}

/// Compares a message's authenticator in constant time.
#[must_use]
pub fn is_mac_valid(key: &Key32, message: &[u8], tag: &[u8; 32]) -> bool {
    mac(key, message).ct_eq(tag).into()
}

/// How much work Argon2id puts into a passphrase; always within the bounds that
/// a machine can bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argon2Params {
    m_kib: u32,
    t: u32,
    p: u32,
}

/// Parameters that no honest program has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the key derivation asks for memory {m_kib} KiB, passes {t}, lanes {p}: \
     outside 8 MiB to 1 GiB, 1 to 16, 1 to 16"
)]
pub struct KdfOutOfBounds {
    /// Memory asked for, KiB.
    pub m_kib: u32,
    /// Passes asked for.
    pub t: u32,
    /// Lanes asked for.
    pub p: u32,
}

/// The key derivation could not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not enough memory for the key derivation: {m_kib} KiB are needed")]
pub struct KdfOutOfMemory {
    /// Memory asked for, KiB.
    pub m_kib: u32,
}

impl Argon2Params {
    /// RFC 9106's second recommended option.
    pub const DEFAULT: Self = Self { m_kib: 64 << 10, t: 3, p: 4 };

    /// The weakest that may be chosen for new passphrases (OWASP's minimum).
    pub const FLOOR: Self = Self { m_kib: 19 << 10, t: 2, p: 1 };

    /// Checks the bounds.
    ///
    /// # Errors
    ///
    /// [`KdfOutOfBounds`] if a parameter is outside them.
    pub fn new(m_kib: u32, t: u32, p: u32) -> Result<Self, KdfOutOfBounds> {
        let in_bounds = (8 << 10..=1 << 20).contains(&m_kib)
            && (1..=16).contains(&t)
            && (1..=16).contains(&p)
            && m_kib >= 8 * p;
        if in_bounds { Ok(Self { m_kib, t, p }) } else { Err(KdfOutOfBounds { m_kib, t, p }) }
    }

    /// Memory, KiB.
    #[must_use]
    pub fn m_kib(self) -> u32 {
        self.m_kib
    }

    /// Passes.
    #[must_use]
    pub fn t(self) -> u32 {
        self.t
    }

    /// Lanes.
    #[must_use]
    pub fn p(self) -> u32 {
        self.p
    }

    /// Says whether every parameter is at least the other's.
    #[must_use]
    pub fn is_at_least(self, other: Self) -> bool {
        self.m_kib >= other.m_kib && self.t >= other.t && self.p >= other.p
    }
}

/// Argon2id version 1.3; takes the time and memory the parameters say, so it
/// does not belong on a thread that others wait for.
///
/// # Errors
///
/// [`KdfOutOfMemory`] if there is not that much memory.
pub fn argon2id(
    passphrase: &[u8],
    salt: &[u8; 16],
    params: Argon2Params,
) -> Result<Key32, KdfOutOfMemory> {
    let mut memory = Memory::new(params.m_kib)?;
    let inner = Params::new(params.m_kib, params.t, params.p, Some(32))
        .expect("the bounds are inside the algorithm's own");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, inner);
    Ok(Secret::fill_with(|key| {
        argon2
            .hash_password_into_with_memory(passphrase, salt, key, &mut memory.0[..])
            .expect("passphrase, salt and output have lengths that are allowed");
    }))
}

/// Argon2's working memory, wiped when dropped.
struct Memory(Vec<Block>);

impl Memory {
    fn new(m_kib: u32) -> Result<Self, KdfOutOfMemory> {
        let blocks = usize::try_from(m_kib).unwrap_or(usize::MAX);
        let mut memory = Vec::new();
        memory.try_reserve_exact(blocks).map_err(|_| KdfOutOfMemory { m_kib })?;
        memory.resize(blocks, Block::new());
        Ok(Self(memory))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(Zeroize::zeroize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<_> = text.chars().filter(|c| !c.is_whitespace()).collect();
        let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
        digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
    }

    fn rfc5869(ikm: &[u8], salt: &[u8], info: &[u8], prk: &str, okm: &str) {
        let extracted = extract(salt, ikm);
        assert_eq!(extracted.expose()[..], unhex(prk)[..]);
        let expected = unhex(okm);
        let mut out = vec![0; expected.len()];
        hkdf_expand(&extracted, &[info], &mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn hkdf_follows_rfc_5869() {
        let range = |from: u8, to: u8| (from..=to).collect::<Vec<u8>>();
        rfc5869(
            &[0x0b; 22],
            &range(0x00, 0x0c),
            &range(0xf0, 0xf9),
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        );
        rfc5869(
            &range(0x00, 0x4f),
            &range(0x60, 0xaf),
            &range(0xb0, 0xff),
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c6\
             5e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        );
        rfc5869(
            &[0x0b; 22],
            &[],
            &[],
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        );
    }

    #[test]
    fn argon2id_follows_rfc_9106() {
        // The RFC's vector has a secret and associated data, which our function
        // does not offer, so it goes to the library directly.
        let params = argon2::ParamsBuilder::new()
            .m_cost(32)
            .t_cost(3)
            .p_cost(4)
            .data(argon2::AssociatedData::new(&[4; 12]).unwrap())
            .build()
            .unwrap();
        let argon2 =
            Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params).unwrap();
        let mut tag = [0; 32];
        argon2.hash_password_into(&[1; 32], &[2; 16], &mut tag).unwrap();
        let expected = unhex("0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659");
        assert_eq!(tag[..], expected[..]);
    }

    #[test]
    fn argon2id_depends_on_every_input() {
        let params = Argon2Params::new(8 << 10, 1, 1).unwrap();
        let key = argon2id(b"pass", &[1; 16], params).unwrap();
        let others = [
            argon2id(b"pasS", &[1; 16], params),
            argon2id(b"pass", &[2; 16], params),
            argon2id(b"pass", &[1; 16], Argon2Params::new((8 << 10) + 8, 1, 1).unwrap()),
            argon2id(b"pass", &[1; 16], Argon2Params::new(8 << 10, 2, 1).unwrap()),
            argon2id(b"pass", &[1; 16], Argon2Params::new(8 << 10, 1, 2).unwrap()),
        ];
        assert!(others.iter().all(|other| !key.is_equal(other.as_ref().unwrap())));
        assert!(key.is_equal(&argon2id(b"pass", &[1; 16], params).unwrap()));
    }

    #[test]
    fn s08_argon2_parameters_outside_the_bounds_do_not_exist() {
        let outside = [
            (u32::MAX, 1, 1),
            ((1 << 20) + 1, 1, 1),
            ((8 << 10) - 1, 1, 1),
            (8, 1, 1),
            (0, 0, 0),
            (64 << 10, u32::MAX, 1),
            (64 << 10, 17, 1),
            (64 << 10, 0, 1),
            (64 << 10, 1, 0),
            (64 << 10, 1, 17),
            (64 << 10, 1, u32::MAX),
        ];
        for (m_kib, t, p) in outside {
            assert_eq!(Argon2Params::new(m_kib, t, p), Err(KdfOutOfBounds { m_kib, t, p }));
        }
        for (m_kib, t, p) in [(8 << 10, 1, 1), (1 << 20, 16, 16)] {
            assert!(Argon2Params::new(m_kib, t, p).is_ok());
        }
    }

    #[test]
    fn purposes_and_contexts_separate_keys() {
        let prk = Key32::copy_of(&[5; 32]);
        let key = derive(&prk, "meta", &[b"ab"]);
        assert!(!key.is_equal(&derive(&prk, "data", &[b"ab"])));
        assert!(!key.is_equal(&derive(&prk, "meta", &[b"ac"])));
        assert!(!key.is_equal(&derive(&prk, "metaa", &[b"b"])));
        assert!(key.is_equal(&derive(&prk, "meta", &[b"a", b"b"])));
        assert_eq!(derive_public::<16>(&prk, "meta", &[b"ab"])[..], key.expose()[..16]);
    }

    #[test]
    fn macs_are_checked_in_full() {
        let key = Key32::copy_of(&[5; 32]);
        let tag = mac(&key, b"message");
        assert!(is_mac_valid(&key, b"message", &tag));
        assert!(!is_mac_valid(&key, b"messagE", &tag));
        for byte in 0..32 {
            let mut wrong = tag;
            wrong[byte] ^= 1;
            assert!(!is_mac_valid(&key, b"message", &wrong));
        }
    }
}
