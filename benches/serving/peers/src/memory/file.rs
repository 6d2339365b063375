//! The data of a file: in memory of the process, or in a file of a directory on tmpfs.

use super::PIECE_LEN;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use std::fs::File as Opened;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use vfs::{Error, ErrorKind, Result, Segments};

/// Writes below that are those of small files.
const SMALL_MAX: usize = 64 << 10;

/// Where data lies.
pub(super) enum File {
    /// In pieces, each shorter than [`PIECE_LEN`] if the rest of it is a hole.
    Pieces(Vec<Bytes>, Arc<Spare>),
    /// In a file without a name.
    Opened(Opened),
}

/// Memory for pieces that the kernel has given already: what it takes to find and clear it
/// is as much for every server, and more than what any of them does with a write.
pub(super) struct Spare(Mutex<Vec<BytesMut>>);

impl Spare {
    /// So many pieces.
    pub(super) fn new(pieces: usize) -> Arc<Self> {
        let touched = |_| {
            let mut piece = BytesMut::zeroed(PIECE_LEN as usize);
            // What is zero already may be somebody's who has not been given a page yet.
            piece.fill(1);
            piece.clear();
            piece
        };
        Arc::new(Self(Mutex::new((0..pieces).map(touched).collect())))
    }

    /// An empty piece for what is to be written into it; small ones come from elsewhere.
    fn piece(&self, len: usize) -> BytesMut {
        let taken = if len >= SMALL_MAX { self.0.lock().pop() } else { None };
        taken.unwrap_or_default()
    }
}

fn broken(error: std::io::Error) -> Error {
    Error::because(ErrorKind::Io, error)
}

impl File {
    /// An empty file, in memory or in a directory.
    pub(super) fn new(dir: Option<&Path>, spare: &Arc<Spare>, number: u64) -> Result<Self> {
        let Some(dir) = dir else { return Ok(Self::Pieces(Vec::new(), Arc::clone(spare))) };
        let path = dir.join(number.to_string());
        let opened = Opened::options().read(true).write(true).create_new(true).open(&path);
        let opened = opened.map_err(broken)?;
        std::fs::remove_file(&path).map_err(broken)?;
        Ok(Self::Opened(opened))
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> Result<Segments> {
        match self {
            Self::Pieces(pieces, _) => Ok(read_pieces(pieces, offset, len)),
            Self::Opened(opened) => {
                let mut data = Vec::with_capacity(len);
                while data.len() < len {
                    let from = offset + data.len() as u64;
                    let count = rustix::io::pread(opened, spare_capacity(&mut data), from);
                    if count.map_err(|errno| broken(errno.into()))? == 0 {
                        data.resize(len, 0);
                    }
                }
                data.truncate(len);
                Ok(Bytes::from(data).into())
            }
        }
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        match self {
            Self::Pieces(pieces, spare) => write_pieces(pieces, spare, offset, data),
            Self::Opened(opened) => opened.write_all_at(data, offset).map_err(broken)?,
        }
        Ok(())
    }

    /// Makes everything from `size` on a hole.
    pub(super) fn cut(&mut self, size: u64) -> Result<()> {
        match self {
            Self::Pieces(pieces, _) => {
                let (index, at) = place(size);
                pieces.truncate(index + 1);
                if let Some(piece) = pieces.get_mut(index) {
                    piece.truncate(at);
                }
            }
            Self::Opened(opened) => opened.set_len(size).map_err(broken)?,
        }
        Ok(())
    }
}

/// The piece that holds a byte, and where in it.
fn place(offset: u64) -> (usize, usize) {
    ((offset / PIECE_LEN) as usize, (offset % PIECE_LEN) as usize)
}

fn read_pieces(pieces: &[Bytes], mut offset: u64, len: usize) -> Segments {
    let (mut data, mut left) = (Segments::default(), len);
    while left > 0 {
        let (index, at) = place(offset);
        let len = left.min(PIECE_LEN as usize - at);
        let piece = pieces.get(index).map_or(&[][..], |piece| piece);
        let stored = piece.len().saturating_sub(at).min(len);
        if stored > 0 {
            data.push(pieces[index].slice(at..at + stored));
        }
        if stored < len {
            data.push(vec![0; len - stored].into());
        }
        offset += len as u64;
        left -= len;
    }
    data
}

fn write_pieces(pieces: &mut Vec<Bytes>, spare: &Spare, mut offset: u64, mut data: &[u8]) {
    while !data.is_empty() {
        let (index, at) = place(offset);
        let (part, rest) = data.split_at(data.len().min(PIECE_LEN as usize - at));
        if pieces.len() <= index {
            pieces.resize_with(index + 1, Bytes::new);
        }
        let piece = std::mem::take(&mut pieces[index]);
        // Copied only while somebody still reads it.
        let mut piece = if piece.is_empty() {
            spare.piece(part.len())
        } else {
            piece.try_into_mut().unwrap_or_else(|held| BytesMut::from(&held[..]))
        };
        if piece.len() < at {
            piece.resize(at, 0);
        }
        let over = part.len().min(piece.len() - at);
        piece[at..at + over].copy_from_slice(&part[..over]);
        piece.extend_from_slice(&part[over..]);
        pieces[index] = piece.freeze();
        offset += part.len() as u64;
        data = rest;
    }
}
