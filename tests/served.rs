//! The engine behind NFS and 9P: the conformance suite, and what two clients see of each other,
//! by the clients that the tests of the servers have, which know nothing of the engine.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what is not as it must be fails the test")]

#[path = "../nfs-adapter/tests/nfs/client.rs"]
mod client;
#[path = "../nfs-adapter/tests/nfs/handles.rs"]
mod handles;
#[path = "served/p9.rs"]
mod p9;
#[path = "../nfs-adapter/tests/nfs/program.rs"]
#[expect(dead_code, reason = "files by paths are tried elsewhere")]
mod program;
#[path = "served/renames.rs"]
mod renames;
#[path = "served/slow.rs"]
mod slow;
#[path = "../nfs-adapter/tests/nfs/stream.rs"]
mod stream;
#[path = "served/suite.rs"]
mod suite;
#[path = "served/support.rs"]
mod support;
#[path = "engine/support.rs"]
#[expect(dead_code, reason = "the tests of the engine need more of it")]
mod vault;
#[path = "../nfs-adapter/tests/nfs/wire.rs"]
#[expect(dead_code, reason = "the tests of the server need more of it")]
mod wire;
#[path = "../nfs-adapter/tests/nfs/words.rs"]
mod words;
