//! The client of 9P that the tests of the server have.

#[path = "../../p9-adapter/tests/p9/client.rs"]
#[expect(dead_code, reason = "the tests of the server need more of it")]
pub(crate) mod client;
#[path = "../../p9-adapter/tests/p9/remote.rs"]
pub(crate) mod remote;
#[path = "../../p9-adapter/tests/p9/words.rs"]
pub(crate) mod words;
