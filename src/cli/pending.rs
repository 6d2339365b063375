//! STUB, removed at merge: what other branches provide. At merge, delete this file
//! and let `session` and `vault_ops` use `crate::store`, `crate::vault` and
//! `fuse_adapter` instead.

#![expect(missing_docs, reason = "a stub")]

/// The stores.
pub mod store {
    use std::fmt;
    use std::str::FromStr;
    use std::sync::Arc;

    #[derive(Debug, thiserror::Error)]
    pub enum Error {
        #[error("{0}: not a store URL; use file:///path")]
        Url(String),
        #[error("this build has no stores yet")]
        NotBuilt,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Create {
        Yes,
        No,
    }

    pub trait BlobStore: Send + Sync {}

    #[derive(Clone, Debug)]
    pub struct StoreUrl(String);

    impl FromStr for StoreUrl {
        type Err = Error;
        fn from_str(text: &str) -> Result<Self, Error> {
            let is_known = text.starts_with("file:///") || text.starts_with("memory:");
            if is_known { Ok(Self(text.to_owned())) } else { Err(Error::Url(text.to_owned())) }
        }
    }

    impl fmt::Display for StoreUrl {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0)
        }
    }

    pub fn open(_url: &StoreUrl, _create: Create) -> Result<Arc<dyn BlobStore>, Error> {
        Err(Error::NotBuilt)
    }
}

/// The vault header.
pub mod vault {
    use std::fmt;
    use zeroize::Zeroizing;

    #[derive(Debug, thiserror::Error)]
    pub enum Error {
        #[error("{0}")]
        Code(&'static str),
        #[error("this build has no vault yet")]
        NotBuilt,
    }

    #[derive(Clone, Copy, Debug)]
    pub struct KdfParams {
        pub m_kib: u32,
        pub t: u32,
        pub p: u32,
    }

    #[derive(Debug)]
    pub struct RecoveryCode(Zeroizing<String>);

    impl fmt::Display for RecoveryCode {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0)
        }
    }

    impl RecoveryCode {
        pub fn parse(text: &str) -> Result<Self, Error> {
            if text.len() < 36 {
                return Err(Error::Code("a recovery code has nine groups of four"));
            }
            Ok(Self(Zeroizing::new(text.to_owned())))
        }
    }

    pub enum Credential {
        Passphrase(Zeroizing<String>),
        Recovery(RecoveryCode),
        KeyFile(Zeroizing<Vec<u8>>),
    }

    impl fmt::Debug for Credential {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Credential")
        }
    }

    /// Reading password files.
    pub mod password {
        use std::path::Path;
        use zeroize::Zeroizing;

        pub fn read_file(path: &Path) -> std::io::Result<Zeroizing<String>> {
            let mut text = Zeroizing::new(std::fs::read_to_string(path)?);
            if text.ends_with('\n') {
                text.pop();
            }
            Ok(text)
        }
    }

    /// Changes to key slots.
    pub mod ops {
        use super::{Credential, Error, KdfParams, RecoveryCode};
        use crate::cli::pending::store::BlobStore;
        use crate::env::Env;
        use std::sync::Arc;

        #[derive(Clone, Debug)]
        pub struct SlotInfo {
            pub id: [u8; 8],
            pub kind: &'static str,
            pub created_s: u64,
        }

        pub type Store = Arc<dyn BlobStore>;

        pub async fn exists(_store: &Store) -> Result<bool, Error> {
            Err(Error::NotBuilt)
        }

        pub async fn unlock(_store: &Store, _current: &Credential) -> Result<[u8; 16], Error> {
            Err(Error::NotBuilt)
        }

        pub async fn list(_store: &Store, _current: &Credential) -> Result<Vec<SlotInfo>, Error> {
            Err(Error::NotBuilt)
        }

        pub async fn add(
            _store: &Store,
            _current: &Credential,
            _new: &Credential,
            _kdf: KdfParams,
            _env: &Env,
        ) -> Result<SlotInfo, Error> {
            Err(Error::NotBuilt)
        }

        pub async fn remove(
            _store: &Store,
            _current: &Credential,
            _id: [u8; 8],
            _env: &Env,
        ) -> Result<(), Error> {
            Err(Error::NotBuilt)
        }

        pub async fn change_passphrase(
            _store: &Store,
            _current: &Credential,
            _new: &Credential,
            _kdf: KdfParams,
            _env: &Env,
        ) -> Result<(), Error> {
            Err(Error::NotBuilt)
        }

        pub async fn rotate_recovery(
            _store: &Store,
            _current: &Credential,
            _env: &Env,
        ) -> Result<RecoveryCode, Error> {
            Err(Error::NotBuilt)
        }
    }
}

/// The kernel mount.
pub mod fuse {
    use crate::engine::Engine;
    use std::path::Path;

    #[derive(Clone, Debug)]
    pub struct Options {
        pub allow_other: bool,
        pub read_only: bool,
        pub threads: u32,
        pub writeback_cache: bool,
        pub source: String,
    }

    #[derive(Debug)]
    pub struct Mount {}

    pub fn mount(_engine: Engine, _path: &Path, _options: &Options) -> std::io::Result<Mount> {
        Err(std::io::Error::other("this build cannot mount yet"))
    }

    impl Mount {
        pub fn wait(&self) -> std::io::Result<()> {
            Ok(())
        }
        pub fn unmount(&self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
