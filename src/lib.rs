//! The engine behind the `Vfs` trait, and the command line in front of it.
//!
//! Modules depend on each other in one direction only:
//!
//! ```text
//! cli → engine → { meta, log, data } → { store, crypto } → env
//! ```
//!
//! Nothing under `engine` prints, reads the environment or `$HOME`, or touches a
//! clock, a random source or a thread except through [`env`].

pub use vfs;

pub mod cli;
pub mod codec;
pub mod config;
pub mod crypto;
pub mod data;
pub mod engine;
pub mod env;
#[cfg(test)]
pub(crate) mod golden;
pub mod ids;
pub mod log;
pub mod meta;
pub mod store;
pub mod vault;
