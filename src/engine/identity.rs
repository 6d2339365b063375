//! This machine's identity and what it has pinned of the vault, on the local
//! disk, outside the cache and the database: neither clearing the one nor
//! rebuilding the other touches them.

use super::{Error, Result};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::aead::AeadKey;
use crate::crypto::{Key32, MachineId, MasterKey, PublicKey, SigningKey, VaultId};
use crate::env::Env;
use crate::vault::Pin;
use std::io::Write;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"TGCFSMCH";
const PIN_MAGIC: &[u8; 8] = b"TGCFSPIN";
const VERSION: u8 = 1;

/// Who this machine is.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) machine: MachineId,
    pub(super) signing: SigningKey,
    box_secret: Key32,
}

impl Identity {
    pub(super) fn generate(env: &Env) -> Self {
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
        let damaged = || Error::Identity { path: path.clone() };
        let parse = || -> std::result::Result<(MachineId, &[u8]), DecodeError> {
            let mut r = Reader::new(&bytes);
            let (magic, version) = (r.array::<8>("magic")?, r.u8("version")?);
            let vault = VaultId(r.array("vault")?);
            let machine = MachineId(r.array("machine")?);
            let is_ours = magic == *MAGIC && version == VERSION && vault == master.vault();
            let sealed = r.rest();
            Ok((machine, if is_ours { sealed } else { &[] }))
        };
        let (machine, sealed) = parse().map_err(|_| damaged())?;
        let key = AeadKey::new(&master.machine_key(machine));
        let plain = key.open_copy(&aad(machine), sealed).map_err(|_| damaged())?;
        let plain = zeroize::Zeroizing::new(plain);
        let (seed, box_secret) = plain.split_first_chunk::<32>().ok_or_else(damaged)?;
        let box_secret = <&[u8; 32]>::try_from(box_secret).map_err(|_| damaged())?;
        Ok(Some(Self {
            machine,
            signing: SigningKey::from_seed(Key32::copy_of(seed)),
            box_secret: Key32::copy_of(box_secret),
        }))
    }

    /// Writes the identity, sealed.
    pub(super) fn save(&self, state_dir: &Path, master: &MasterKey, env: &Env) -> Result<()> {
        let mut w = Writer::new();
        w.raw(MAGIC).u8(VERSION).raw(&master.vault().0).raw(&self.machine.0);
        let mut bytes = w.into_vec();
        let mut plain = zeroize::Zeroizing::new(self.signing.seed().expose().to_vec());
        plain.extend_from_slice(self.box_secret.expose());
        let key = AeadKey::new(&master.machine_key(self.machine));
        key.seal_onto(&env.random_array(), &aad(self.machine), &plain, &mut bytes);
        write_durably(&Self::path(state_dir), &bytes)
    }
}

fn aad(machine: MachineId) -> Vec<u8> {
    [&b"tgcryptfs/v1/identity"[..], &machine.0].concat()
}

/// What this machine holds the vault to: its id, its owner, the newest header.
pub fn load_pin(state_dir: &Path) -> Result<Option<Pin>> {
    let path = state_dir.join("pin");
    let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
    let parse = || {
        let mut r = Reader::new(&bytes);
        let (magic, version) = (r.array::<8>("magic")?, r.u8("version")?);
        let vault = VaultId(r.array("vault")?);
        let owner = r.array::<32>("owner")?;
        let generation = r.u64("generation")?;
        r.finish("pin")?;
        Ok::<_, DecodeError>(
            (magic == *PIN_MAGIC && version == VERSION).then_some((vault, owner, generation)),
        )
    };
    let parsed = parse().ok().flatten().and_then(|(vault, owner, generation)| {
        Some(Pin { vault, owner: PublicKey::from_bytes(&owner).ok()?, generation })
    });
    parsed.map(Some).ok_or(Error::Identity { path })
}

/// Pins a vault.
pub fn save_pin(state_dir: &Path, pin: &Pin) -> Result<()> {
    let mut w = Writer::new();
    w.raw(PIN_MAGIC).u8(VERSION).raw(&pin.vault.0).raw(pin.owner.as_bytes()).u64(pin.generation);
    write_durably(&state_dir.join("pin"), w.as_slice())
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Local { path: path.to_owned(), source }),
    }
}

/// Replaces a small file; a crash leaves the old or the new one.
fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
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
