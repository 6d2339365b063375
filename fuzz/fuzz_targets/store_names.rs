//! Texts that come from a store's listing, or from whoever types a URL: parsing
//! answers, and what it accepts has one spelling.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tgcryptfs::store::{ObjectName, StoreUrl};

fuzz_target!(|text: &str| {
    if let Ok(name) = text.parse::<ObjectName>() {
        assert_eq!(name.as_str(), text);
        assert!(!text.contains('/'));
    }
    match text.parse::<StoreUrl>() {
        Ok(url) => assert_eq!(url.to_string().parse::<StoreUrl>().ok(), Some(url)),
        // A message never repeats more than the scheme.
        Err(error) => assert!(error.to_string().len() < 300),
    }
});
