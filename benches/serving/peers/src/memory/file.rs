//! The data of a file.

use super::PIECE_LEN;
use bytes::{Bytes, BytesMut};
use vfs::Segments;

/// Pieces of a file, each shorter than [`PIECE_LEN`] if the rest of it is a hole.
#[derive(Default)]
pub(super) struct File {
    pieces: Vec<Bytes>,
}

/// The piece that holds a byte, and where in it.
fn place(offset: u64) -> (usize, usize) {
    ((offset / PIECE_LEN) as usize, (offset % PIECE_LEN) as usize)
}

impl File {
    pub(super) fn read(&self, mut offset: u64, len: usize) -> Segments {
        let (mut data, mut left) = (Segments::default(), len);
        while left > 0 {
            let (index, at) = place(offset);
            let len = left.min(PIECE_LEN as usize - at);
            let piece = self.pieces.get(index).map_or(&[][..], |piece| piece);
            let stored = piece.len().saturating_sub(at).min(len);
            if stored > 0 {
                data.push(self.pieces[index].slice(at..at + stored));
            }
            if stored < len {
                data.push(vec![0; len - stored].into());
            }
            offset += len as u64;
            left -= len;
        }
        data
    }

    pub(super) fn write(&mut self, mut offset: u64, mut data: &[u8]) {
        while !data.is_empty() {
            let (index, at) = place(offset);
            let (part, rest) = data.split_at(data.len().min(PIECE_LEN as usize - at));
            if self.pieces.len() <= index {
                self.pieces.resize_with(index + 1, Bytes::new);
            }
            let piece = std::mem::take(&mut self.pieces[index]);
            // Copied only while somebody still reads it.
            let mut piece = piece.try_into_mut().unwrap_or_else(|held| BytesMut::from(&held[..]));
            if piece.len() < at {
                piece.resize(at, 0);
            }
            let over = part.len().min(piece.len() - at);
            piece[at..at + over].copy_from_slice(&part[..over]);
            piece.extend_from_slice(&part[over..]);
            self.pieces[index] = piece.freeze();
            offset += part.len() as u64;
            data = rest;
        }
    }

    /// Makes everything from `size` on a hole.
    pub(super) fn cut(&mut self, size: u64) {
        let (index, at) = place(size);
        self.pieces.truncate(index + 1);
        if let Some(piece) = self.pieces.get_mut(index) {
            piece.truncate(at);
        }
    }
}
