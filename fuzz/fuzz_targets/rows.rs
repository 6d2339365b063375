//! Rows of the local database, and of checkpoints; names of cached packs.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tgcryptfs::codec::{Reader, Writer};
use tgcryptfs::crypto::PackId;
use tgcryptfs::data::blocks::{decode_dir_row, encode_dir_row};
use tgcryptfs::data::file::Patch;
use tgcryptfs::data::pack::{decode_entry, encode_entry};
use tgcryptfs::data::parts::parse_pack_id;
use tgcryptfs::engine::anchors::Anchors;
use tgcryptfs::meta::row::{BlockPlace, Dent, Inode, PackRow};
use tgcryptfs::meta::singles::{OwnLog, Position, Seen, Single};
use tgcryptfs::meta::state::{DentKey, decode_inode_row, encode_slot};
use tgcryptfs_fuzz::{canonical, canonical_part};

const PACK: PackId = PackId([8; 16]);

/// What older builds wrote lacks the last byte, and is read too.
fn seen(input: &[u8]) {
    let mut reader = Reader::new(input);
    let read = Seen::decode(&mut reader);
    if let (Ok(seen), Ok(())) = (read, reader.finish("input")) {
        let mut w = Writer::new();
        seen.encode(&mut w);
        assert!(w.as_slice() == input || w.into_vec() == [input, &[0]].concat());
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((which, input)) = input.split_first() else { return };
    match which % 14 {
        0 => canonical_part(input, Inode::decode, Inode::encode),
        1 => canonical(input, decode_inode_row, |(inode, parent, has_patches)| {
            encode_slot(inode, *parent, *has_patches)
        }),
        2 => canonical(input, Dent::decode, Dent::encode),
        3 => canonical(input, |input| PackRow::decode(PACK, input), PackRow::encode),
        4 => canonical(input, BlockPlace::decode, BlockPlace::encode),
        5 => canonical_part(input, |r| decode_entry(r, PACK), |entry, w| encode_entry(w, entry)),
        6 => canonical_part(input, Position::decode, Position::encode),
        7 => canonical_part(input, OwnLog::decode, OwnLog::encode),
        8 => seen(input),
        9 => canonical(input, Patch::decode, Patch::encode),
        10 => canonical(input, Anchors::decode, Anchors::encode),
        11 => canonical(input, decode_dir_row, |(pack, entries)| {
            encode_dir_row(*pack, &entries.iter().collect::<Vec<_>>())
        }),
        12 => {
            canonical(input, |input| DentKey::from_bytes(input).ok_or(()), |key| key.bytes().into())
        }
        _ => {
            let Ok(text) = std::str::from_utf8(input) else { return };
            canonical(input, |_| parse_pack_id(text).ok_or(()), |id| id.to_string().into_bytes());
        }
    }
});
