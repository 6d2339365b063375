//! The vault header, which is read before there is a key.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tgcryptfs::vault::{Pin, VaultHeader, check_pin};
use tgcryptfs_fuzz::{MASTER, canonical};

fuzz_target!(|input: &[u8]| {
    canonical(input, VaultHeader::parse, VaultHeader::encode);
    if let Ok(header) = VaultHeader::parse(input) {
        assert!((1..=16).contains(&header.slots().len()));
        assert!(header.check(&MASTER).is_err());
        assert_eq!(check_pin(&header, &Pin::of(&header)), Ok(()));
    }
});
