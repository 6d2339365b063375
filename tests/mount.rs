//! The engine behind a kernel mount, used through system calls: the conformance suite,
//! and what programs do that the suite has no words for.
//!
//! They need root and `/dev/fuse`; without them they fail and say so.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod mount {
    pub(crate) mod client;
    pub(crate) mod support;
    #[path = "../engine/support.rs"]
    #[expect(dead_code, reason = "crashes and failures to open are for other tests")]
    pub(crate) mod vault;

    mod programs;
    mod suite;
}
