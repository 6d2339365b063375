//! Packs against the vector, both ways, and against damage.

use super::*;
use crate::codec::hostile::{whole, withstands};
use crate::crypto::block;
use crate::crypto::names;
use crate::golden::{Vector, epoch_keys, vectors};
use serde_json::Value;

fn vector() -> &'static Value {
    &vectors()["pack"]
}

fn id() -> PackId {
    PackId(vector().array("pack_id"))
}

/// The vector's blocks: where they lie, and their records.
fn blocks() -> Vec<(DirEntry, Vec<u8>)> {
    let placed = vector().items("blocks").iter().map(|placed| {
        let block = &vectors().items("blocks")[placed.number("index") as usize];
        let code = |name| u8::try_from(block.number(name)).unwrap();
        let place = BlockPlace {
            pack: id(),
            offset: placed.small("offset"),
            sealed_len: placed.small("sealed_len"),
            plain_len: block.small("plain_len"),
            epoch: block.small("epoch"),
            codec: code("codec"),
            kind: code("type"),
        };
        ((BlockId(block.array("id")), place), block.bytes("bytes"))
    });
    placed.collect()
}

fn opened(bytes: &[u8]) -> Result<(DirPlace, Vec<DirEntry>), Error> {
    let dir = PackDir::open(&epoch_keys(1), id(), &bytes[..64])?;
    let place = dir.trailer(&bytes[bytes.len() - 64..], bytes.len() as u64)?;
    let stored = &bytes[place.offset as usize..(place.offset + place.len) as usize];
    Ok((place, dir.entries(stored, place)?))
}

#[test]
fn golden_pack_opens() {
    let (vector, bytes) = (vector(), vector().bytes("bytes"));
    let (place, entries) = opened(&bytes).unwrap();
    assert_eq!((place.offset, place.len), (vector.number("dir_offset"), vector.number("dir_len")));
    assert_eq!(place.count, 3);
    let expected: Vec<_> = blocks().into_iter().map(|(entry, _)| entry).collect();
    assert_eq!(entries, expected);
    for (id, place) in entries {
        let head = BlockHead {
            block_type: BlockType::from_code(place.kind).unwrap(),
            id,
            codec: Codec::from_code(place.codec).unwrap(),
            plain_len: place.plain_len,
        };
        let start = place.offset as usize;
        let record = &bytes[start..start + place.sealed_len as usize];
        block::open(&epoch_keys(place.epoch.into()), &head, record).unwrap();
    }
    let stored = &bytes[place.offset as usize..(place.offset + place.len) as usize];
    assert_eq!(blake3::hash(stored).as_bytes(), &vector.array("dir_hash"));
    assert_eq!(names::pack(&epoch_keys(1), id()), vector.text("name"));
}

#[test]
fn golden_pack_is_made_from_the_same_inputs() {
    let (vector, dir) = (vector(), tempfile::tempdir().unwrap());
    let path = dir.path().join("pack");
    let env = Env::repeating(&vector.bytes("salt"));
    let mut pack = PackWriter::create(&epoch_keys(1), id(), &path, &env).unwrap();
    for ((block, place), record) in blocks() {
        let blank = BlockPlace { pack: PackId([0; 16]), offset: 0, ..place };
        assert_eq!(pack.append(block, blank, &record).unwrap(), place);
    }
    let nonces = [vector.bytes("dir_nonce"), vector.bytes("trailer_nonce")].concat();
    let info = pack.close(&Env::repeating(&nonces)).unwrap();
    let bytes = vector.bytes("bytes");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    let dir_hash = Hash(vector.array("dir_hash"));
    assert_eq!(info, PackInfo { pack: id(), epoch: 1, size: bytes.len() as u64, dir_hash });
}

#[test]
fn golden_directory_decodes_and_encodes() {
    let plain = vector().bytes("dir_plain");
    let mut w = Writer::new();
    let entries: Vec<_> = blocks().into_iter().map(|(entry, _)| entry).collect();
    w.list(&entries, encode_entry);
    let len = w.len();
    assert_eq!(*w.as_slice(), plain[..len]);
    assert!(plain[len..].iter().all(|&byte| byte == 0));
    withstands(&plain[4..4 + ENTRY_LEN], whole(|r| decode_entry(r, id())), |entry| {
        let mut w = Writer::new();
        encode_entry(&mut w, entry);
        w.into_vec()
    });
}

#[test]
fn damaged_packs_are_corrupt() {
    let bytes = vector().bytes("bytes");
    let dir_offset = vector().number("dir_offset") as usize;
    for at in (0..64).chain(dir_offset..bytes.len()) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(matches!(opened(&changed), Err(Error::Corrupt { .. })), "byte {at}");
    }
    let keys = epoch_keys(1);
    for len in 0..64 {
        assert!(PackDir::open(&keys, id(), &bytes[..len]).is_err());
    }
    let dir = PackDir::open(&keys, id(), &bytes[..64]).unwrap();
    let (size, place) = (bytes.len() as u64, opened(&bytes).unwrap().0);
    for len in 0..64 {
        assert!(dir.trailer(&bytes[bytes.len() - len..], size).is_err());
    }
    for len in 0..place.len as usize {
        assert!(dir.entries(&bytes[dir_offset..dir_offset + len], place).is_err());
    }
    // The trailer belongs to a pack of this length.
    for size in [size - 1, size + 1, 0, u64::MAX] {
        let trailer = dir.trailer(&bytes[bytes.len() - 64..], size);
        assert!(matches!(trailer, Err(Error::Malformed { .. })));
    }
    assert!(PackDir::open(&epoch_keys(0), id(), &bytes[..64]).is_err());
    assert!(PackDir::open(&keys, PackId([0; 16]), &bytes[..64]).is_err());
}

/// What a member who has the keys could seal.
fn forged(part: u8, plain: &[u8]) -> (PackDir, Vec<u8>) {
    let bytes = vector().bytes("bytes");
    let dir = PackDir::open(&epoch_keys(1), id(), &bytes[..64]).unwrap();
    let mut sealed = Vec::new();
    dir.keys.key.seal_onto(&[7; 12], &dir.keys.aad(part), plain, &mut sealed);
    (dir, sealed)
}

#[test]
fn trailers_that_break_the_format_are_refused() {
    let trailer = |offset: u64, len: u32, padding: u8| {
        let mut w = Writer::new();
        w.u64(offset).u32(len).u32(3).zeros(19).u8(padding);
        let (dir, sealed) = forged(PART_TRAILER, w.as_slice());
        dir.trailer(&sealed, 1 << 30)
    };
    let offset = |len: u64| (1 << 30) - 64 - len;
    assert!(trailer(offset(200), 200, 0).is_ok());
    let too_long = DIR_LEN_MAX as u32 + 1;
    for (offset, len, padding) in [
        (offset(200), 200, 1),
        (offset(200) + 1, 200, 0),
        (63, 200, 0),
        (u64::MAX, 200, 0),
        (u64::MAX - 263, 200, 0),
        (offset(too_long.into()), too_long, 0),
    ] {
        let refused = trailer(offset, len, padding);
        assert!(matches!(refused, Err(Error::Malformed { .. })), "{offset} {len} {padding}");
    }
    let mut w = Writer::new();
    w.u64(offset(200)).u32(200).u32(3).zeros(21);
    for len in [0, 35, 37] {
        let (dir, sealed) = forged(PART_TRAILER, &w.as_slice()[..len]);
        assert!(dir.trailer(&sealed, 1 << 30).is_err());
    }
}

type Change<'a> = &'a dyn Fn(&mut Vec<DirEntry>);

#[test]
fn directories_that_break_the_format_are_refused() {
    let place = opened(&vector().bytes("bytes")).unwrap().0;
    let entries: Vec<_> = blocks().into_iter().map(|(entry, _)| entry).collect();
    let read = |change: Change<'_>, count: u32, padding: &[u8]| {
        let mut entries = entries.clone();
        change(&mut entries);
        let mut w = Writer::new();
        w.list(&entries, encode_entry).raw(padding);
        let (dir, sealed) = forged(PART_DIR, w.as_slice());
        dir.entries(&sealed, DirPlace { count, ..place })
    };
    assert!(read(&|_| (), 3, &[0; 9]).is_ok());
    let bad: [(Change<'_>, u32, &[u8]); 15] = [
        (&|_| (), 2, &[]),
        (&|_| (), 3, &[0, 1]),
        (&|entries| entries.truncate(2), 3, &[]),
        (&|entries| entries.swap(0, 1), 3, &[]),
        (&|entries| entries[0].1.offset = 63, 3, &[]),
        (&|entries| entries[1].1.offset -= 1, 3, &[]),
        (&|entries| entries[2].1.offset += 1, 3, &[]),
        (&|entries| entries[2].1.offset = u32::MAX, 3, &[]),
        // Blocks that nobody can have sealed.
        (&|entries| entries[0].1.sealed_len -= 1, 3, &[]),
        (&|entries| entries[0].1.plain_len += 1, 3, &[]),
        (&|entries| entries[1].1.plain_len = entries[1].1.sealed_len - 28, 3, &[]),
        (&|entries| entries[1].1.plain_len = block::PLAIN_LEN_MAX + 1, 3, &[]),
        (&|entries| entries[1].1.plain_len = 0, 3, &[]),
        (&|entries| entries[0].1.codec = 3, 3, &[]),
        (&|entries| entries[0].1.kind = 0x31, 3, &[]),
    ];
    for (index, (change, count, padding)) in bad.into_iter().enumerate() {
        let refused = read(change, count, padding);
        assert!(matches!(refused, Err(Error::Malformed { .. })), "case {index}");
    }
    // A count that the rest cannot hold reserves no memory.
    for claim in [4, 65_537, u32::MAX] {
        let mut plain = vector().bytes("dir_plain");
        plain.truncate(4 + 3 * ENTRY_LEN);
        plain[..4].copy_from_slice(&claim.to_le_bytes());
        let (dir, sealed) = forged(PART_DIR, &plain);
        let refused = dir.entries(&sealed, DirPlace { count: claim, ..place });
        assert!(matches!(refused, Err(Error::Malformed { .. })));
    }
}
