//! Attacks on a vault, by whoever runs its store and by whoever has its disk, each named
//! by the id it has in the design:
//!
//! | id | test | what it shows |
//! |---|---|---|
//! | S01 | `objects::s01_*` | any bit of any object: a typed error that names it, or `EIO` for the range of one block; all else reads |
//! | S02 | `objects::s02_*` | any two objects exchanged |
//! | S03 | `objects::s03_*` | each object as each older one of its kind, the store of every moment of the past, any object withheld |
//! | S01, S03, S04 | `live::s01_s03_s04_*` | the same under a vault that is open, reads and writes; then the store is honest again |
//! | S04 | `objects::s04_*` | cut, extended, emptied, blown up |
//! | S05 | `objects::s05_*` | objects of another vault, keys of another namespace |
//! | S06 | `objects::s06_*` | each kind of object as each other |
//! | S07 | `chance::s07_*` | a ciphertext that authenticates under two keys is neither object nor block |
//! | S08 … S12 | `header::s08_*` … `header::s12_*` | hostile parameters, weak ones, another vault, lying counts, old headers; how long it takes |
//! | S20 | `leaks::s20_*` | a store that knows the files finds nothing of them; names and lengths tell nothing |
//! | S21 | `chance::s21_*` | a million objects share no salt or nonce; every byte is uniform |
//! | S22 | `members::s22_*` | a pack whose blocks expand to more, less or something else |
//! | S23 | `members::s23_*` | signed ops with names and shapes that no author makes |
//! | S29 | `kill::s29_*` and `power`, `steps` in `tests/program` | killed, or without power, at any point: a prefix, with all that was fsynced |
//! | S30 | `faults::s30_*`, `cache::s30_*` in `tests/program` | a disk that is full or fails at any write; the cache's alone |
//! | S31 | `machine::s31_*` | nothing of names, content or keys on the disk, in a core dump, or after unmounting |
//! | S32 | `machine::s32_*` | password files that others could read or replace |
//! | S33 | `who::s33_*` in `nfs-adapter`, `people::s33_*` in `p9-adapter`, `limits::s33_*` in `listen`, `serve::s33_*` in `tests/program`, `session::serving` in the library | without a handle that was given, or one of another server or mount, nothing; paths that are secret are not told; other addresses are closed out; users are those of their sockets; other machines only if it is asked for; read-only changes nothing and says so |
//! | S34 | `header::s34_*` | a wrong passphrase and a tampered slot look and take the same |
//! | S39 | `machine::s39_*` | names that would draw on the terminal |
//!
//! `disk` damages what lies on the machine between two mounts, which the design has no id for. What is tested here through
//! the engine is tested closer to its code as well, under the same ids.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![expect(clippy::disallowed_methods, reason = "some of these tests run in real time")]

mod attacks {
    pub(crate) mod adversary;
    #[path = "../program/support.rs"]
    #[expect(dead_code, reason = "kills, quotas and the like are for other tests")]
    pub(crate) mod program;
    #[path = "../engine/support.rs"]
    #[expect(dead_code, reason = "crashes and removals are for other tests")]
    pub(crate) mod vault;

    mod chance;
    mod disk;
    mod header;
    mod leaks;
    mod live;
    mod machine;
    mod members;
    mod objects;
    mod secrets;
}
