//! Real mounts of the model file system, used through system calls.
//!
//! They need `/dev/fuse`, and root or `fusermount3`; without them they fail and say so.

#![expect(clippy::unwrap_used, reason = "what these helpers unwrap fails the test that uses them")]

#[path = "mount/caches.rs"]
mod caches;
#[path = "mount/data.rs"]
mod data;
#[path = "mount/life.rs"]
mod life;
#[path = "mount/names.rs"]
mod names;
#[path = "mount/probe.rs"]
mod probe;
#[path = "mount/support.rs"]
mod support;
#[path = "mount/trouble.rs"]
mod trouble;
