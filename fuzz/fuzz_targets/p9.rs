//! A whole 9P session over the model: messages one behind the other, as a client that
//! may be anybody sends them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use tgcryptfs_p9::{Bounds, Export, fuzz};
use vfs::model::{ManualClock, ModelFs};

fuzz_target!(|input: &[u8]| {
    let fs = Arc::new(ModelFs::new(ManualClock::new(1_800_000_000).ticking()));
    let bounds = Bounds { fids_max: 64, xattr_bytes_max: 1 << 16, ..Bounds::default() };
    let answers = fuzz(fs, Export { bounds, ..Export::default() }, input);
    // Answers are messages, too, and nothing that could be asked.
    assert!(answers.len() < 7 || answers[4] % 2 == 1);
});
