//! The server over real TCP, with the model file system behind it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what is not as it must be fails the test")]

#[path = "nfs/answers.rs"]
mod answers;
#[path = "nfs/client.rs"]
mod client;
#[path = "nfs/handles.rs"]
mod handles;
#[path = "nfs/libnfs.rs"]
mod libnfs;
#[path = "nfs/listing.rs"]
mod listing;
#[path = "nfs/probe.rs"]
mod probe;
#[path = "nfs/program.rs"]
mod program;
#[path = "nfs/repeats.rs"]
mod repeats;
#[path = "nfs/rpc.rs"]
mod rpc;
#[path = "nfs/stream.rs"]
mod stream;
#[path = "nfs/suite.rs"]
mod suite;
#[path = "nfs/support.rs"]
mod support;
#[path = "nfs/trouble.rs"]
mod trouble;
#[path = "nfs/who.rs"]
mod who;
#[path = "nfs/wire.rs"]
mod wire;
#[path = "nfs/words.rs"]
mod words;
