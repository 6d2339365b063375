//! The program as its users run it: the real binary, real kernel mounts, stores in
//! directories. Each test has a home directory, store and mount points of its own, and
//! takes its mounts and daemons down however it ends.
//!
//! They need `/dev/fuse`, and root or `fusermount3`; what needs root says so and is
//! left out without it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![expect(clippy::disallowed_methods, reason = "these tests run in real time")]

mod program {
    #[path = "../stores/far.rs"]
    mod far;
    #[path = "../engine/support.rs"]
    #[expect(dead_code, reason = "crashes and the like are for other tests")]
    mod vault;

    mod cache;
    mod command_line;
    mod crash;
    mod disk;
    mod errors;
    mod faults;
    mod flood;
    mod kill;
    mod lifecycle;
    mod power;
    mod probes;
    mod round_trip;
    mod saves;
    mod scale;
    mod serve;
    mod slow;
    mod steps;
    mod support;
    mod together;
    mod tree;
    mod workload;
}
