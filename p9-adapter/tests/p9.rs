//! Served model file systems, used through real sockets by a client that knows nothing
//! of the server's code.

#![expect(clippy::unwrap_used, reason = "what these helpers unwrap fails the test that uses them")]

mod p9 {
    pub(crate) mod client;
    pub(crate) mod probe;
    pub(crate) mod remote;
    pub(crate) mod support;
    pub(crate) mod words;

    mod files;
    mod flush;
    mod hostile;
    mod locks;
    mod people;
    mod suite;
    mod xattrs;
}
