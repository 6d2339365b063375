//! The listener with real sockets and, where that is allowed, real other users.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "these tests run in real time")]

#[path = "listen/life.rs"]
mod life;
#[path = "listen/limits.rs"]
mod limits;
#[path = "listen/support.rs"]
mod support;
#[path = "listen/users.rs"]
mod users;
