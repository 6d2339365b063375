//! A store that is slow, and then away for a while, under clients of every kind: they wait,
//! none of them is given an error, what needs no store is answered as fast as ever, and
//! nothing is lost.
//!
//! The test takes a minute; the ignored one is the same for longer. Another one is no test:
//! it is the server with such a store that `scripts/kernel-clients` lets a kernel mount.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![expect(clippy::disallowed_methods, reason = "these tests run in real time")]

mod outage {
    #[path = "../stores/far.rs"]
    mod far;
    #[path = "../clients/nfs.rs"]
    #[expect(dead_code, reason = "tests of the program need more of it")]
    mod nfs;
    #[path = "../../p9-adapter/tests/p9/client.rs"]
    #[expect(dead_code, reason = "the tests of the server need more of it")]
    mod p9;
    #[path = "../engine/support.rs"]
    #[expect(dead_code, reason = "crashes and failures to open are for other tests")]
    mod vault;

    mod clients;
    mod serve;
    mod together;
    mod weather;
    mod work;
}
