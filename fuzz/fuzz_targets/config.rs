//! Configuration files, in both formats, and sizes as people write them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use tgcryptfs::config::{format_size, parse, parse_size};

fuzz_target!(|text: &str| {
    for path in ["x.json", "x.yaml"] {
        match parse(Path::new(path), text) {
            Ok(values) => assert!(values.iter().all(|(key, _)| !key.name.is_empty())),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    if let Some(size) = parse_size(text) {
        let shown = format_size(size);
        if !shown.contains('.') {
            assert_eq!(parse_size(&shown), Some(size));
        }
    }
});
