//! What people type to open a vault or to check which one it is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tgcryptfs::vault::{KeyFile, Passphrase, Pin, RecoveryCode, SlotId};
use tgcryptfs_fuzz::MASTER;

fuzz_target!(|text: &str| {
    match RecoveryCode::parse(text) {
        Ok(code) => {
            let again = RecoveryCode::parse(&code.to_text()).expect("its own text");
            assert_eq!(again.bytes(), code.bytes());
        }
        Err(error) => assert!(error.to_string().len() < 200),
    }
    if let Some(id) = SlotId::parse(text) {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
    }
    if let Ok(passphrase) = Passphrase::new(text) {
        assert!(!text.is_empty() && passphrase.is_equal(&passphrase));
    }
    let key_file = KeyFile::new(text.as_bytes().to_vec().into());
    assert_eq!(key_file.is_ok(), (32..=65_536).contains(&text.len()));
    let owner = *MASTER.owner_signing_key().public();
    let print = Pin { vault: MASTER.vault(), owner, generation: 1 }.fingerprint();
    if print.matches(text) {
        assert!(text.len() >= 20);
    }
});
