//! What must not be found where others can look: names, contents, and what follows from
//! them without a key. And the search for it, in every spelling.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512, digest};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Bytes by which a spelling is found before it is compared.
const KEY_LEN: usize = 8;
/// Bytes of content that nobody has by chance.
const WINDOW: usize = 16;

/// Everything to look for.
#[derive(Default)]
pub(crate) struct Secrets {
    /// Spellings by their first bytes, with what they spell.
    spellings: HashMap<[u8; KEY_LEN], Vec<(Vec<u8>, String)>>,
    windows: HashSet<[u8; WINDOW]>,
}

impl Secrets {
    /// A name, word or path, at least eight bytes long.
    pub(crate) fn text(mut self, text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut reversed = bytes.to_vec();
        reversed.reverse();
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let upper = text.to_uppercase();
        let of_case = [text.to_lowercase().into_bytes(), upper.into_bytes()];
        let plain = [bytes.to_vec(), reversed, little, big];
        let scrambled = [0x20, 0xff].map(|mask| bytes.iter().map(|byte| byte ^ mask).collect());
        for spelling in plain.into_iter().chain(of_case).chain(scrambled) {
            self.spell(&spelling, text);
        }
        self.encoded(bytes, text);
        self.hashed(bytes, text);
        self
    }

    /// A key, and each half of it.
    pub(crate) fn key(mut self, key: &[u8; 32], what: &str) -> Self {
        for half in key.chunks(WINDOW) {
            self.spell(half, what);
            self.encoded(half, what);
        }
        self
    }

    /// A number, in eight bytes.
    pub(crate) fn number(mut self, number: u64) -> Self {
        self.spell(&number.to_le_bytes(), &format!("the number {number}"));
        self.spell(&number.to_be_bytes(), &format!("the number {number}"));
        self
    }

    /// Hashes that others can compute.
    fn hashed(&mut self, bytes: &[u8], what: &str) {
        let hashes = [&SHA1_FOR_LEGACY_USE_ONLY, &SHA256, &SHA512];
        let hashes = hashes.map(|kind| digest(kind, bytes).as_ref().to_vec());
        let blake = blake3::hash(bytes).as_bytes().to_vec();
        for hash in hashes.into_iter().chain([blake]) {
            // A prefix, as object names would hold it.
            self.spell(&hash[..WINDOW], &format!("a hash of {what}"));
            self.encoded(&hash[..WINDOW], &format!("a hash of {what}"));
        }
    }

    /// Bytes, as they are and in hexadecimal and base 64.
    fn encoded(&mut self, bytes: &[u8], what: &str) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.spell(hex.to_uppercase().as_bytes(), what);
        self.spell(hex.as_bytes(), what);
        for start in 0..3_usize.min(bytes.len()) {
            self.spell(base64(&bytes[start..]).as_bytes(), what);
        }
    }

    fn spell(&mut self, spelling: &[u8], what: &str) {
        if let Some(key) = spelling.first_chunk() {
            let known = self.spellings.entry(*key).or_default();
            known.push((spelling.to_vec(), what.to_owned()));
        }
    }

    /// A file's content: any part of it that does not repeat, and hashes that others can
    /// compute, of all of it and of each block.
    pub(crate) fn content(mut self, content: &[u8], block: usize, what: &str) -> Self {
        for window in content.windows(WINDOW) {
            let window: [u8; WINDOW] = window.try_into().unwrap();
            if window.iter().collect::<HashSet<_>>().len() > 4 {
                self.windows.insert(window);
            }
        }
        for part in std::iter::once(content).chain(content.chunks(block)) {
            self.hashed(part, what);
        }
        self
    }

    /// What of it is in these bytes.
    pub(crate) fn found_in(&self, bytes: &[u8]) -> Option<String> {
        for (at, key) in bytes.windows(KEY_LEN).enumerate() {
            let key: &[u8; KEY_LEN] = key.try_into().unwrap();
            for (spelling, what) in self.spellings.get(key).into_iter().flatten() {
                if bytes[at..].starts_with(spelling) {
                    return Some(format!("{what:?} at byte {at}"));
                }
            }
        }
        let is_content = |window: &[u8]| self.windows.contains(window);
        let at = bytes.windows(WINDOW).position(is_content)?;
        Some(format!("a piece of content at byte {at}"))
    }

    /// Every file below a directory, and its name, without any of it.
    #[track_caller]
    pub(crate) fn are_not_below(&self, dir: &Path) -> usize {
        let mut bytes = 0;
        for path in files_below(dir) {
            let content = std::fs::read(&path).unwrap();
            let name = path.to_string_lossy().into_owned();
            for place in [&content[..], name.as_bytes()] {
                if let Some(found) = self.found_in(place) {
                    panic!("{}: {found}", path.display());
                }
            }
            bytes += content.len();
        }
        bytes
    }
}

/// Every regular file below a directory.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let (mut files, mut left) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => left.push(entry.path()),
                kind if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

/// Without its end, which depends on what follows.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks_exact(3).map(|group| {
        let value = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        [18, 12, 6, 0].map(|shift| char::from(DIGITS[(value >> shift) as usize & 63]))
    });
    groups.flatten().collect()
}

#[test]
fn what_is_looked_for_is_found() {
    let content = super::vault::noise(100_000, 5);
    let secrets = Secrets::default().text("Kontoauszug").content(&content, 4096, "a file");
    let key: [u8; 32] = super::vault::noise(32, 7).try_into().unwrap();
    let secrets = secrets.key(&key, "a key");
    let key_hex: String = key[16..].iter().map(|byte| format!("{byte:02X}")).collect();
    let hidden = |bytes: &[u8]| {
        let around = super::vault::noise(50, 6);
        secrets.found_in(&[&around[..], bytes, &around].concat()).is_some()
    };
    assert!(!hidden(b"nothing of the kind"));
    let sha: Vec<u8> = digest(&SHA256, &content[4096..8192]).as_ref().to_vec();
    let sha_hex: String = sha.iter().map(|byte| format!("{byte:02x}")).collect();
    for found in [
        &b"Kontoauszug"[..],
        b"KONTOAUSZUG",
        b"guzsuaotnoK",
        b"4b6f6e746f6175737a7567",
        b"K\0o\0n\0t\0o\0a\0u\0s\0z\0u\0g\0",
        &content[5001..5017],
        &sha,
        sha_hex.as_bytes(),
        &blake3::hash(b"Kontoauszug").as_bytes()[..],
        &key,
        key_hex.as_bytes(),
        base64(&key).as_bytes(),
    ] {
        assert!(hidden(found), "{found:?}");
    }
    assert!(base64(b"any carnal pleas").starts_with("YW55IGNhcm5hbCBwbGVh"));
}
