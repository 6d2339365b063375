//! A whole 9P session over the model: messages one behind the other, as a client that
//! may be anybody sends them. The first byte says in which pieces they come through a
//! socket; however that is, the answers are the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use tgcryptfs_p9::{Bounds, Export, fuzz, fuzz_stream};
use vfs::model::{ManualClock, ModelFs};

fn model() -> Arc<ModelFs> {
    Arc::new(ModelFs::new(ManualClock::new(1_800_000_000).ticking()))
}

fn export() -> Export {
    let bounds = Bounds { fids_max: 64, xattr_bytes_max: 1 << 16, ..Bounds::default() };
    Export { bounds, ..Export::default() }
}

fuzz_target!(|input: &[u8]| {
    let Some((step, input)) = input.split_first() else { return };
    let answers = fuzz(model(), export(), input);
    // Answers are messages, too, and nothing that could be asked.
    assert!(answers.len() < 7 || answers[4] % 2 == 1);
    // From a few bytes to more than any message has; not so small that a long input
    // takes long.
    let step = (7_usize << (step % 18)).max(input.len() / 1000);
    assert!(fuzz_stream(model(), export(), input, step) == answers, "in steps of {step}");
});
