//! Compression of single blocks, before they are sealed.
//!
//! Every block is compressed on its own: a codec never sees two files' bytes
//! together, so sizes tell nothing about one through the other. Decompression
//! writes into a buffer of exactly the promised length and never beyond it.

use lz4_flex::block::CompressTable;
use std::borrow::Cow;
use std::cell::RefCell;
use zstd::bulk::{Compressor, Decompressor};

/// How a block's body is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    Raw = 0,
    /// One LZ4 block.
    Lz4 = 1,
    /// One zstd frame.
    Zstd = 2,
}

impl Codec {
    /// The codec with that code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Raw, Self::Lz4, Self::Zstd].into_iter().find(|codec| codec.code() == code)
    }

    /// Its code in the format.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// What a writer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Nothing.
    None,
    /// Fast.
    Lz4,
    /// Small.
    Zstd {
        /// zstd's level, 1 to 19.
        level: i32,
    },
}

thread_local! {
    /// Tables that would cost more to make than a block takes to compress.
    static LZ4: RefCell<CompressTable> = RefCell::new(CompressTable::large());
    static ZSTD: RefCell<Option<(i32, Compressor<'static>)>> = const { RefCell::new(None) };
    static UNZSTD: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Compresses if that saves at least a sixteenth; otherwise the body is the
/// plaintext itself.
#[must_use]
pub fn compress(plaintext: &[u8], wanted: Compression) -> (Codec, Cow<'_, [u8]>) {
    let len_max = plaintext.len() - plaintext.len().div_ceil(16);
    let compressed = match wanted {
        Compression::None => None,
        Compression::Lz4 => lz4(plaintext).map(|body| (Codec::Lz4, body)),
        Compression::Zstd { level } => {
            zstd(plaintext, level, len_max).map(|body| (Codec::Zstd, body))
        }
    };
    match compressed {
        Some((codec, body)) if body.len() <= len_max => (codec, Cow::Owned(body)),
        _ => (Codec::Raw, Cow::Borrowed(plaintext)),
    }
}

fn lz4(plaintext: &[u8]) -> Option<Vec<u8>> {
    let mut body = vec![0; lz4_flex::block::get_maximum_output_size(plaintext.len())];
    let len = LZ4.with_borrow_mut(|table| {
        lz4_flex::block::compress_into_with_table(plaintext, &mut body, table)
    });
    body.truncate(len.ok()?);
    Some(body)
}

/// Answers `None` if the frame would be longer than `len_max`.
fn zstd(plaintext: &[u8], level: i32, len_max: usize) -> Option<Vec<u8>> {
    let mut body = Vec::with_capacity(len_max);
    ZSTD.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|(made_for, _)| *made_for != level) {
            *slot = Some((level, Compressor::new(level).ok()?));
        }
        slot.as_mut()?.1.compress_to_buffer(plaintext, &mut body).ok()
    })?;
    Some(body)
}

/// Decompresses a body to exactly `plain_len` bytes; answers `None` if it is
/// not the codec's encoding of so many.
#[must_use]
pub fn decompress(codec: Codec, body: Vec<u8>, plain_len: usize) -> Option<Vec<u8>> {
    let plaintext = match codec {
        Codec::Raw => body,
        Codec::Lz4 => {
            let mut plaintext = vec![0; plain_len];
            let len = lz4_flex::block::decompress_into(&body, &mut plaintext).ok()?;
            plaintext.truncate(len);
            plaintext
        }
        Codec::Zstd => unzstd(&body, plain_len)?,
    };
    (plaintext.len() == plain_len).then_some(plaintext)
}

fn unzstd(body: &[u8], plain_len: usize) -> Option<Vec<u8>> {
    let mut plaintext = Vec::with_capacity(plain_len);
    UNZSTD.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Some(Decompressor::new().ok()?);
        }
        slot.as_mut()?.decompress_to_buffer(body, &mut plaintext).ok()
    })?;
    Some(plaintext)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 3] =
        [Compression::None, Compression::Lz4, Compression::Zstd { level: 3 }];

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn blocks_come_back() {
        let text = b"the same words again and again ".repeat(5000);
        for plaintext in [&text[..], &noise(70_000), b"x", &[0; 4 << 20]] {
            for wanted in ALL {
                let (codec, body) = compress(plaintext, wanted);
                let back = decompress(codec, body.into_owned(), plaintext.len()).unwrap();
                assert!(back == plaintext);
            }
        }
    }

    #[test]
    fn compression_must_save_a_sixteenth() {
        for wanted in ALL {
            assert_eq!(compress(&noise(10_000), wanted).0, Codec::Raw);
            assert_eq!(compress(b"ab", wanted).0, Codec::Raw);
        }
        assert_eq!(compress(&[0; 4096], Compression::Lz4).0, Codec::Lz4);
        assert_eq!(compress(&[0; 4096], Compression::Zstd { level: 3 }).0, Codec::Zstd);

        // 16 000 bytes of which the last `n` are zeros: the switch is where the
        // saving reaches a sixteenth.
        for n in (900..1200).step_by(10) {
            let mut bytes = noise(16_000);
            bytes[16_000 - n..].fill(0);
            let (codec, body) = compress(&bytes, Compression::Lz4);
            assert_eq!(codec == Codec::Lz4, body.len() <= 15_000);
            assert!(codec == Codec::Raw || body.len() <= 15_000);
        }
    }

    #[test]
    fn s22_bombs_are_bounded() {
        let bomb = vec![0; 64 << 20];
        for wanted in [Compression::Lz4, Compression::Zstd { level: 3 }] {
            let (codec, body) = compress(&bomb, wanted);
            assert_ne!(codec, Codec::Raw);
            let body = body.into_owned();
            assert!(decompress(codec, body.clone(), 4 << 20).is_none());
            assert!(decompress(codec, body.clone(), (64 << 20) - 1).is_none());
            assert!(decompress(codec, body, (64 << 20) + 1).is_none());
        }
        assert!(decompress(Codec::Raw, vec![0; 5], 4).is_none());
    }

    #[test]
    fn garbage_does_not_decompress_or_panic() {
        for len in 0..200 {
            for codec in [Codec::Lz4, Codec::Zstd] {
                let _ = decompress(codec, noise(len), 4096);
            }
        }
        assert!(decompress(Codec::Zstd, noise(200), 4096).is_none());
    }
}
