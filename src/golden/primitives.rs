//! The primitives against published vectors: Wycheproof (AES-256-GCM, Ed25519),
//! RFC 8032 and BLAKE3's own. HKDF and Argon2id are tested beside their code.

use super::{Vector, unhex};
use crate::crypto::Key32;
use crate::crypto::aead::AeadKey;
use crate::crypto::ids::hex;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde_json::Value;

fn wycheproof() -> Value {
    let text = include_str!("../../tests/golden/primitives/wycheproof.json");
    serde_json::from_str(text).unwrap()
}

#[test]
fn aes_256_gcm_wycheproof() {
    let vectors = wycheproof();
    let mut valid = 0;
    for test in vectors.items("aes_256_gcm") {
        let key = AeadKey::new(&Key32::copy_of(&test.array("key")));
        let (nonce, aad, message) = (test.array("iv"), test.bytes("aad"), test.bytes("msg"));
        let sealed = [test.bytes("ct"), test.bytes("tag")].concat();
        let opened = key.open_in_place(&nonce, &aad, &mut sealed.clone()).map(|m| m.to_vec());
        let whole = [&nonce[..], &sealed].concat();
        assert_eq!(opened, key.open_copy(&aad, &whole));
        if test.text("result") == "valid" {
            assert_eq!(opened.as_ref(), Ok(&message), "test {}", test["tcId"]);
            let mut again = message;
            key.seal_in_place(&nonce, &aad, &mut again);
            assert_eq!(again, sealed, "test {}", test["tcId"]);
            valid += 1;
        } else {
            assert!(opened.is_err(), "test {}", test["tcId"]);
        }
    }
    assert!(valid > 20, "{valid} tests");
}

#[test]
fn s35_ed25519_wycheproof() {
    let vectors = wycheproof();
    let (mut valid, mut invalid) = (0, 0);
    for group in vectors.items("ed25519") {
        let public = VerifyingKey::from_bytes(&group.array("public")).unwrap();
        for test in group.items("tests") {
            let signature = Signature::from_slice(&test.bytes("sig"));
            let verified = signature
                .and_then(|signature| public.verify_strict(&test.bytes("msg"), &signature));
            assert_eq!(verified.is_ok(), test.text("result") == "valid", "test {}", test["tcId"]);
            if verified.is_ok() { valid += 1 } else { invalid += 1 }
        }
    }
    assert!(valid > 50 && invalid > 50, "{valid} valid, {invalid} invalid tests");
}

/// RFC 8032 7.1, tests 1 to 3: seed, public key, message, signature.
const RFC_8032: [[&str; 4]; 3] = [
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ],
];

#[test]
fn ed25519_rfc_8032() {
    for [seed, public, message, signature] in RFC_8032 {
        let key = SigningKey::from_bytes(&unhex(seed).try_into().unwrap());
        assert_eq!(hex(key.verifying_key().as_bytes()), public);
        assert_eq!(hex(&key.sign(&unhex(message)).to_bytes()), signature);
    }
}

/// From BLAKE3's test_vectors.json: length of the input, then the first 32 bytes
/// of hash, keyed hash and derived key.
const BLAKE3: [(usize, [&str; 3]); 4] = [
    (
        0,
        [
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
            "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26",
            "2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d",
        ],
    ),
    (
        1,
        [
            "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
            "6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b",
            "b3e2e340a117a499c6cf2398a19ee0d29cca2bb7404c73063382693bf66cb06c",
        ],
    ),
    (
        1025,
        [
            "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
            "357dc55de0c7e382c900fd6e320acc04146be01db6a8ce7210b7189bd664ea69",
            "effaa245f065fbf82ac186839a249707c3bddf6d3fdda22d1b95a3c970379bcb",
        ],
    ),
    (
        4097,
        [
            "9b4052b38f1c5fc8b1f9ff7ac7b27cd242487b3d890d15c96a1c25b8aa0fb995",
            "00df940cd36bb9fa7cbbc3556744e0dbc8191401afe70520ba292ee3ca80abbc",
            "aca51029626b55fda7117b42a7c211f8c6e9ba4fe5b7a8ca922f34299500ead8",
        ],
    ),
];

#[test]
fn blake3_in_all_three_modes() {
    for (len, [hash, keyed, derived]) in BLAKE3 {
        let input: Vec<u8> = (0..=250).cycle().take(len).collect();
        assert_eq!(hex(blake3::hash(&input).as_bytes()), hash);
        let key = b"whats the Elvish word for friend";
        assert_eq!(hex(blake3::keyed_hash(key, &input).as_bytes()), keyed);
        let context = "BLAKE3 2019-12-27 16:29:52 test vectors context";
        assert_eq!(hex(&blake3::derive_key(context, &input)), derived);
    }
}
