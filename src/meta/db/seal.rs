//! Seals rows of the local database.
//!
//! Each opening of the file draws a salt and derives a key of its own, so that
//! a copy of the file that is brought back (a virtual machine's snapshot) never
//! makes two different rows share key and nonce, and so that no key seals more
//! than the 2^32 messages that SP 800-38D allows with random nonces.

use super::{Error, Key, Result, Table};
use crate::crypto::aead::AeadKey;
use crate::crypto::kdf;
use crate::crypto::secret::Key32;
use crate::env::Env;
use std::collections::HashMap;

const SESSION_LEN: usize = 4;

/// Seals and opens rows.
pub struct RowSeal {
    keys: HashMap<u32, AeadKey>,
    session: u32,
    env: Env,
}

impl std::fmt::Debug for RowSeal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowSeal").field("session", &self.session).finish_non_exhaustive()
    }
}

impl RowSeal {
    /// With the `sessions` of a file, number and salt, of which `session` is this one.
    #[must_use]
    pub fn new(key: &Key32, sessions: &[(i64, Vec<u8>)], session: i64, env: Env) -> Self {
        let prk = kdf::extract(b"tgcryptfs/v1/database", key.expose());
        let keys = sessions
            .iter()
            .map(|(id, salt)| {
                let key = kdf::derive(&prk, "database-session", &[salt]);
                (*id as u32, AeadKey::new(&key))
            })
            .collect();
        Self { keys, session: session as u32, env }
    }

    fn aad(table: Table, key: Key<'_>) -> Vec<u8> {
        let mut aad = Vec::with_capacity(64);
        aad.extend_from_slice(b"tgcryptfs/v1/row");
        aad.push(table.code());
        match key {
            Key::Int(number) => aad.extend_from_slice(&number.to_be_bytes()),
            Key::Bytes(bytes) => aad.extend_from_slice(bytes),
        }
        aad
    }

    /// Seals a row for its place.
    #[must_use]
    pub fn seal(&self, table: Table, key: Key<'_>, plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(SESSION_LEN + plain.len() + 28);
        sealed.extend_from_slice(&self.session.to_le_bytes());
        let nonce = self.env.random_array();
        if let Some(session_key) = self.keys.get(&self.session) {
            session_key.seal_onto(&nonce, &Self::aad(table, key), plain, &mut sealed);
        }
        sealed
    }

    /// Opens a row that was sealed for this place by any session of the file.
    pub fn open(&self, table: Table, key: Key<'_>, sealed: &[u8]) -> Result<Vec<u8>> {
        let broken = || Error::Seal { table: table.name() };
        let (session, sealed) = sealed.split_first_chunk::<SESSION_LEN>().ok_or_else(broken)?;
        let key_of = self.keys.get(&u32::from_le_bytes(*session)).ok_or_else(broken)?;
        key_of.open_copy(&Self::aad(table, key), sealed).map_err(|_| broken())
    }
}
