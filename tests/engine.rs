//! The engine as a whole, over stores in memory and on disk: the conformance
//! suite, random operations beside the model with crashes in between, and the
//! state made again from nothing but the store and the password.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod engine {
    pub(crate) mod support;

    mod machines;
    mod packs;
    mod pieces;
    mod promises;
    mod rebuild;
    mod suite;
    mod survival;
    mod waiting;
    mod writes;
}
