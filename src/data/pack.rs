//! Packs: many sealed blocks in one object (`docs/FORMAT.md` §6).
//!
//! A pack is written once, front to back, into a file that is the source of the
//! upload and afterwards the cache. Its directory and trailer come last; until
//! then the local database knows what it holds.

use crate::codec::{DecodeError, Problem, Reader, Writer};
use crate::crypto::aead::AeadKey;
use crate::crypto::block::{BlockHead, BlockType};
use crate::crypto::compress::Codec;
use crate::crypto::context::pack_context;
use crate::crypto::envelope::padme;
use crate::crypto::{EpochKeys, kdf};
use crate::env::Env;
use crate::ids::{BlockId, Hash, PackId};
use crate::log::record::PackInfo;
use crate::meta::row::BlockPlace;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use subtle::ConstantTimeEq;

#[cfg(test)]
mod tests;

/// Bytes before the first block: salt and commitment.
pub const HEADER_LEN: u64 = 64;
/// Bytes of the trailer.
pub const TRAILER_LEN: u64 = 64;
/// Longest pack, bytes: offsets of blocks have 32 bits, and a directory follows.
pub const LEN_MAX: u64 = 1 << 33;
/// Most blocks in a pack.
pub const ENTRIES_MAX: usize = 65_536;
/// Longest directory as stored, bytes: every entry, and the padding of a large pack.
pub const DIR_LEN_MAX: u64 = 64 << 20;

const ENTRY_LEN: usize = 50;
/// Nonce and tag.
const SEAL_LEN: u64 = 28;
const TRAILER_PLAIN_LEN: usize = 36;

/// Why a pack cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its bytes are not those that were sealed.
    #[error("pack {pack} is corrupt: its {part} does not authenticate")]
    Corrupt {
        /// The pack.
        pack: PackId,
        /// Which part of it.
        part: &'static str,
    },
    /// The store does not have it as it was announced.
    #[error("pack {pack}: the store has lost it or part of it")]
    Lost {
        /// The pack.
        pack: PackId,
    },
    /// It opened but breaks the format.
    #[error("pack {pack} is malformed: {source}")]
    Malformed {
        /// The pack.
        pack: PackId,
        /// How.
        source: DecodeError,
    },
}

/// The keys of one pack.
struct PackKeys {
    context: Vec<u8>,
    commit: [u8; 32],
    key: AeadKey,
}

impl PackKeys {
    fn new(keys: &EpochKeys, pack: PackId, salt: &[u8; 32]) -> Self {
        let context = pack_context(keys.namespace(), keys.epoch(), pack);
        let prk = kdf::extract(salt, keys.data_key().expose());
        let commit = kdf::derive_public(&prk, "pack-commit", &[&context]);
        let key = AeadKey::new(&kdf::derive(&prk, "pack-key", &[&context]));
        Self { context, commit, key }
    }

    fn aad(&self, part: u8) -> Vec<u8> {
        let mut aad = self.context.clone();
        aad.push(part);
        aad
    }
}

const PART_DIR: u8 = 0x11;
const PART_TRAILER: u8 = 0x12;

/// Where a block lies in a pack, and which.
pub type DirEntry = (BlockId, BlockPlace);

/// Appends one directory entry.
pub fn encode_entry(w: &mut Writer, (id, place): &DirEntry) {
    w.raw(&id.0).u32(place.offset).u32(place.sealed_len).u32(place.plain_len);
    w.u32(place.epoch).u8(place.codec).u8(place.kind);
}

/// Reads one directory entry of `pack`.
pub fn decode_entry(r: &mut Reader<'_>, pack: PackId) -> Result<DirEntry, DecodeError> {
    let at = r.offset();
    let id = BlockId(r.array("block id")?);
    let (offset, sealed_len) = (r.u32("offset")?, r.u32("sealed length")?);
    let (plain_len, epoch) = (r.u32("plain length")?, r.u32("epoch")?);
    let codec = r.code("codec", Codec::from_code)?;
    let block_type = r.code("type", BlockType::from_code)?;
    // Whoever has the keys could ask for any amount of memory otherwise.
    if !(BlockHead { block_type, id, codec, plain_len }).allows_record_len(sealed_len as usize) {
        let rule = "a record has the length that its block allows";
        return Err(r.error_at(at, "directory entry", Problem::Invalid { rule }));
    }
    let (codec, kind) = (codec.code(), block_type.code());
    Ok((id, BlockPlace { pack, offset, sealed_len, plain_len, epoch, codec, kind }))
}

/// A pack that blocks are appended to.
pub struct PackWriter {
    /// Its id.
    pub id: PackId,
    /// Its key epoch.
    pub epoch: u32,
    file: Arc<File>,
    keys: PackKeys,
    len: u64,
    entries: Vec<DirEntry>,
}

impl std::fmt::Debug for PackWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackWriter")
            .field("id", &self.id)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl PackWriter {
    /// Starts a pack in a new file at `path`.
    pub fn create(epoch: &EpochKeys, id: PackId, path: &Path, env: &Env) -> io::Result<Self> {
        let salt = env.random_array::<32>();
        let keys = PackKeys::new(epoch, id, &salt);
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        file.write_all_at(&[salt, keys.commit].concat(), 0)?;
        let file = Arc::new(file);
        Ok(Self { id, epoch: epoch.epoch().0, file, keys, len: HEADER_LEN, entries: Vec::new() })
    }

    /// Goes on with a pack after a restart: what lies behind `len` was never
    /// committed and is cut off.
    pub fn resume(
        epoch: &EpochKeys,
        id: PackId,
        path: &Path,
        len: u64,
        entries: Vec<DirEntry>,
    ) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        let mut salt = [0; 32];
        file.read_exact_at(&mut salt, 0)?;
        if file.metadata()?.len() < len {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the open pack is shorter than committed",
            ));
        }
        file.set_len(len)?;
        let keys = PackKeys::new(epoch, id, &salt);
        // A salt that was damaged here is as good as any, if what follows from it fits.
        file.write_all_at(&keys.commit, 32)?;
        let epoch = epoch.epoch().0;
        Ok(Self { id, epoch, file: Arc::new(file), keys, len, entries })
    }

    /// The file, for reading what was appended.
    #[must_use]
    pub fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no block was appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a record of `len` bytes still fits into `size_max`.
    #[must_use]
    pub fn has_room(&self, len: usize, size_max: u64) -> bool {
        let dir = SEAL_LEN + 4 + (ENTRY_LEN * (self.entries.len() + 1)) as u64;
        let size = self.len + len as u64 + dir + TRAILER_LEN;
        self.entries.len() < ENTRIES_MAX && padme(size as usize) as u64 <= size_max
    }

    /// Appends a sealed block; `place` lacks pack and offset.
    pub fn append(
        &mut self,
        id: BlockId,
        place: BlockPlace,
        record: &[u8],
    ) -> io::Result<BlockPlace> {
        self.file.write_all_at(record, self.len)?;
        let offset = u32::try_from(self.len)
            .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "pack beyond 4 GiB"))?;
        let place = BlockPlace { pack: self.id, offset, ..place };
        self.len += record.len() as u64;
        self.entries.push((id, place));
        Ok(place)
    }

    /// Writes directory and trailer; the file is to be synced then. Can be done
    /// again after a failure.
    pub fn close(&self, env: &Env) -> io::Result<PackInfo> {
        let count = self.entries.len();
        let plain_len = 4 + ENTRY_LEN * count;
        let size = self.len + SEAL_LEN + plain_len as u64 + TRAILER_LEN;
        let padding = padme(size as usize) - size as usize;
        let mut plain = Writer::with_capacity(plain_len + padding);
        plain.list(&self.entries, encode_entry);
        plain.zeros(padding);
        let mut tail = Vec::with_capacity(plain.len() + 128);
        let nonce = env.random_array();
        self.keys.key.seal_onto(&nonce, &self.keys.aad(PART_DIR), plain.as_slice(), &mut tail);
        let dir_hash = Hash(*blake3::hash(&tail).as_bytes());
        let mut trailer = Writer::with_capacity(TRAILER_PLAIN_LEN);
        trailer.u64(self.len).u32(tail.len() as u32).u32(count as u32).zeros(20);
        let nonce = env.random_array();
        self.keys.key.seal_onto(
            &nonce,
            &self.keys.aad(PART_TRAILER),
            trailer.as_slice(),
            &mut tail,
        );
        self.file.write_all_at(&tail, self.len)?;
        let size = self.len + tail.len() as u64;
        self.file.set_len(size)?;
        Ok(PackInfo { pack: self.id, epoch: self.epoch, size, dir_hash })
    }
}

/// Reads the directory of a pack from pieces of it.
pub struct PackDir {
    pack: PackId,
    keys: PackKeys,
}

impl std::fmt::Debug for PackDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackDir").field("pack", &self.pack).finish_non_exhaustive()
    }
}

/// Where the directory of a pack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirPlace {
    /// First byte.
    pub offset: u64,
    /// Length as stored.
    pub len: u64,
    /// Entries in it.
    pub count: u32,
}

impl PackDir {
    /// Checks the first 64 bytes of a pack.
    pub fn open(epoch: &EpochKeys, pack: PackId, header: &[u8]) -> Result<Self, Error> {
        let corrupt = || Error::Corrupt { pack, part: "header" };
        let (salt, commit) = header.split_first_chunk::<32>().ok_or_else(corrupt)?;
        let keys = PackKeys::new(epoch, pack, salt);
        if !bool::from(keys.commit.ct_eq(commit)) {
            return Err(corrupt());
        }
        Ok(Self { pack, keys })
    }

    /// Opens the last 64 bytes of a pack of `size` bytes.
    pub fn trailer(&self, trailer: &[u8], size: u64) -> Result<DirPlace, Error> {
        let pack = self.pack;
        let malformed = |source| Error::Malformed { pack, source };
        let plain = self
            .keys
            .key
            .open_copy(&self.keys.aad(PART_TRAILER), trailer)
            .map_err(|_| Error::Corrupt { pack, part: "trailer" })?;
        let mut r = Reader::new(&plain);
        let mut read = || {
            let place = DirPlace {
                offset: r.u64("directory offset")?,
                len: r.u32("directory length")?.into(),
                count: r.u32("entries")?,
            };
            r.zeros("trailer padding", 20)?;
            r.clone().finish("trailer")?;
            let fits = place.offset >= HEADER_LEN
                && place.len <= DIR_LEN_MAX
                && place.offset.checked_add(place.len + TRAILER_LEN) == Some(size);
            let rule = "the directory lies between the blocks and the trailer";
            if fits {
                Ok(place)
            } else {
                Err(r.error_at(0, "directory offset", Problem::Invalid { rule }))
            }
        };
        read().map_err(malformed)
    }

    /// Opens the directory.
    pub fn entries(&self, dir: &[u8], place: DirPlace) -> Result<Vec<DirEntry>, Error> {
        let pack = self.pack;
        let malformed = |source| Error::Malformed { pack, source };
        let plain = self
            .keys
            .key
            .open_copy(&self.keys.aad(PART_DIR), dir)
            .map_err(|_| Error::Corrupt { pack, part: "directory" })?;
        let mut r = Reader::new(&plain);
        let entries = r
            .list("directory", ENTRIES_MAX, ENTRY_LEN, |r| decode_entry(r, pack))
            .map_err(malformed)?;
        let padding = r.left();
        r.zeros("directory padding", padding).map_err(malformed)?;
        let mut at = HEADER_LEN;
        let in_order = entries.iter().all(|(_, place)| {
            let start = u64::from(place.offset);
            let fits = start >= at;
            at = start + u64::from(place.sealed_len);
            fits
        });
        if !in_order || at > place.offset || entries.len() != place.count as usize {
            let rule = "records lie in order, apart, before the directory";
            return Err(malformed(r.error_at(0, "directory", Problem::Invalid { rule })));
        }
        Ok(entries)
    }
}
