//! This machine's identity and what it has pinned of the vault, on the local
//! disk, outside the cache and the database: neither clearing the one nor
//! rebuilding the other touches them.

use super::{Error, Result};
use crate::codec::{Reader, Writer};
use crate::crypto::aead::AeadKey;
use crate::crypto::{Key32, MachineId, MasterKey, SigningKey};
use crate::env::Env;
use crate::vault::Pin;
use std::io::Write;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"TGCFSMCH";
const VERSION: u8 = 1;

/// Who this machine is.
#[derive(Debug)]
pub struct Identity {
    pub(super) machine: MachineId,
    pub(super) signing: SigningKey,
    box_secret: Key32,
}

impl Identity {
    /// A new machine.
    #[must_use]
    pub fn generate(env: &Env) -> Self {
        Self {
            machine: MachineId::random(env),
            signing: SigningKey::from_seed(Key32::random(env)),
            box_secret: Key32::random(env),
        }
    }

    /// The X25519 public key.
    pub(super) fn box_key(&self) -> [u8; 32] {
        let secret = x25519_dalek::StaticSecret::from(*self.box_secret.expose());
        x25519_dalek::PublicKey::from(&secret).to_bytes()
    }

    fn path(state_dir: &Path) -> PathBuf {
        state_dir.join("machine")
    }

    /// Reads the identity; `None` if this machine has none yet.
    pub(super) fn load(state_dir: &Path, master: &MasterKey) -> Result<Option<Self>> {
        let path = Self::path(state_dir);
        let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
        Self::decode(&bytes, master).map(Some).ok_or(Error::Identity { path })
    }

    /// Writes the identity, sealed.
    pub(super) fn save(&self, state_dir: &Path, master: &MasterKey, env: &Env) -> Result<()> {
        write_durably(&Self::path(state_dir), &self.encode(master, env))
    }

    /// Reads what [`Self::encode`] made; `None` if it is something else.
    #[must_use]
    pub fn decode(bytes: &[u8], master: &MasterKey) -> Option<Self> {
        let mut r = Reader::new(bytes);
        let is_ours = r.array("magic") == Ok(*MAGIC)
            && r.u8("version") == Ok(VERSION)
            && r.array("vault") == Ok(master.vault().0);
        let machine = MachineId(r.array("machine").ok().filter(|_| is_ours)?);
        let key = AeadKey::new(&master.machine_key(machine));
        let plain = zeroize::Zeroizing::new(key.open_copy(&aad(machine), r.rest()).ok()?);
        let (seed, box_secret) = plain.split_first_chunk::<32>()?;
        Some(Self {
            machine,
            signing: SigningKey::from_seed(Key32::copy_of(seed)),
            box_secret: Key32::copy_of(box_secret.try_into().ok()?),
        })
    }

    /// The bytes to keep: everything secret is sealed.
    #[must_use]
    pub fn encode(&self, master: &MasterKey, env: &Env) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(MAGIC).u8(VERSION).raw(&master.vault().0).raw(&self.machine.0);
        let mut bytes = w.into_vec();
        let mut plain = zeroize::Zeroizing::new(self.signing.seed().expose().to_vec());
        plain.extend_from_slice(self.box_secret.expose());
        let key = AeadKey::new(&master.machine_key(self.machine));
        key.seal_onto(&env.random_array(), &aad(self.machine), &plain, &mut bytes);
        bytes
    }
}

fn aad(machine: MachineId) -> Vec<u8> {
    [&b"tgcryptfs/v1/identity"[..], &machine.0].concat()
}

/// What this machine holds the vault to: its id, its owner, the newest header.
pub fn load_pin(state_dir: &Path) -> Result<Option<Pin>> {
    let path = state_dir.join("pin");
    let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
    Pin::decode(&bytes).map(Some).ok_or(Error::Identity { path })
}

/// Pins a vault.
pub fn save_pin(state_dir: &Path, pin: &Pin) -> Result<()> {
    write_durably(&state_dir.join("pin"), &pin.encode())
}

pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Local { path: path.to_owned(), source }),
    }
}

/// Replaces a small file; a crash leaves the old or the new one.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let new = path.with_extension("new");
    let write = || {
        let mut options = std::fs::File::options();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        std::fs::File::open(dir)?.sync_all()
    };
    write().map_err(|source| Error::Local { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hostile::withstands;
    use crate::crypto::VaultId;

    fn master() -> MasterKey {
        MasterKey::new(VaultId([1; 16]), Key32::copy_of(&[2; 32]))
    }

    #[test]
    fn an_identity_opens_as_it_was_made_and_nowhere_else() {
        let env = Env::simulated(5).0;
        let made = Identity::generate(&env);
        let bytes = made.encode(&master(), &env);
        let read = Identity::decode(&bytes, &master()).unwrap();
        assert_eq!(read.machine, made.machine);
        assert_eq!(read.signing.public(), made.signing.public());
        assert_eq!(read.box_key(), made.box_key());
        for len in 0..bytes.len() {
            assert!(Identity::decode(&bytes[..len], &master()).is_none());
        }
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Identity::decode(&changed, &master()).is_none());
        }
        let other = MasterKey::new(VaultId([1; 16]), Key32::copy_of(&[3; 32]));
        assert!(Identity::decode(&bytes, &other).is_none());
    }

    #[test]
    fn a_damaged_pin_is_none() {
        let env = Env::simulated(5).0;
        let pin = Pin {
            vault: VaultId([1; 16]),
            owner: *Identity::generate(&env).signing.public(),
            generation: 7,
        };
        withstands(&pin.encode(), |bytes| Pin::decode(bytes).ok_or(()), Pin::encode);
    }
}
