//! What the fuzz targets share: fixed keys, and the properties of decoders.

use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;
use tgcryptfs::codec::{Reader, Result as DecodeResult, Writer};
use tgcryptfs::crypto::{
    Epoch, EpochKeys, EpochSecret, Key32, MasterKey, NamespaceId, NamespaceKeys, VaultId,
};
use tgcryptfs::env::Env;

/// The namespace of everything that is sealed.
pub const NS: NamespaceId = NamespaceId([4; 16]);

/// The keys of a vault.
pub static MASTER: LazyLock<MasterKey> =
    LazyLock::new(|| MasterKey::new(VaultId([1; 16]), Key32::copy_of(&[2; 32])));

/// The keys of a namespace.
pub static NAMESPACE_KEYS: LazyLock<NamespaceKeys> =
    LazyLock::new(|| NamespaceKeys::new(Key32::copy_of(&[3; 32])));

/// The keys of an epoch of [`NS`].
pub static EPOCH_KEYS: LazyLock<EpochKeys> =
    LazyLock::new(|| EpochKeys::new(NS, Epoch(0), &EpochSecret::new(Key32::copy_of(&[5; 32]))));

/// A clock that stands and randomness that repeats.
pub static ENV: LazyLock<Env> = LazyLock::new(|| Env::simulated(6).0);

/// A directory that is gone when it is dropped: in memory, where there is such a place.
pub fn scratch_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    }
    .expect("a directory can be made")
}

/// Checks that what `decode` accepts is the one encoding of what it answers.
pub fn canonical<T, E>(
    input: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<T, E>,
    encode: impl FnOnce(&T) -> Vec<u8>,
) {
    if let Ok(value) = decode(input) {
        assert_eq!(encode(&value), input);
    }
}

/// [`canonical`] for a value that others stand beside.
pub fn canonical_part<T>(
    input: &[u8],
    decode: impl FnOnce(&mut Reader<'_>) -> DecodeResult<T>,
    encode: impl FnOnce(&T, &mut Writer),
) {
    let decode = |input: &[u8]| {
        let mut reader = Reader::new(input);
        let value = decode(&mut reader)?;
        reader.finish("input").map(|()| value)
    };
    let encode = |value: &T| {
        let mut writer = Writer::new();
        encode(value, &mut writer);
        writer.into_vec()
    };
    canonical(input, decode, encode);
}
