//! File data and how safe it is.

use crate::{At, Ino, Wcc};
use bytes::Bytes;

/// File data as a list of reference-counted slices: a read hands out the cache's
/// own memory, a write hands over the network's.
#[derive(Clone, Debug, Default)]
pub struct Segments(Vec<Bytes>);

impl Segments {
    /// The slices, in order.
    #[must_use]
    pub fn as_slices(&self) -> &[Bytes] {
        &self.0
    }

    /// Bytes in all slices together.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    /// Appends a slice.
    pub fn push(&mut self, slice: Bytes) {
        if !slice.is_empty() {
            self.0.push(slice);
        }
    }

    /// The data as one slice, copied only when it was in several.
    #[must_use]
    pub fn into_contiguous(mut self) -> Bytes {
        if self.0.len() == 1 { self.0.swap_remove(0) } else { self.0.concat().into() }
    }
}

impl From<Bytes> for Segments {
    fn from(bytes: Bytes) -> Self {
        Self(vec![bytes])
    }
}

impl From<Vec<Bytes>> for Segments {
    fn from(slices: Vec<Bytes>) -> Self {
        Self(slices)
    }
}

/// The answer to a read.
#[derive(Clone, Debug)]
pub struct ReadData {
    /// What was read.
    pub data: Segments,
    /// Whether it reached the end of the file.
    pub eof: bool,
}

/// How safe written data is. Ordered: each level implies those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stability {
    /// In memory: lost if this process dies.
    Buffered,
    /// On this machine's disk: survives a crash, lost with the disk.
    Journaled,
    /// In the store, and reachable from a published log segment.
    Uploaded,
}

/// Changes whenever buffered data may have been lost since it was last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteVerifier(pub u64);

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteAt {
    /// At this offset.
    Offset(u64),
    /// At the end of the file, wherever that is when the write is applied.
    End,
    /// At this offset, out of a cache of the caller's that keeps the modification time
    /// itself and sets it on its own: the write leaves it alone.
    Late(u64),
}

/// The answer to a write.
#[derive(Clone, Debug)]
pub struct Written {
    /// Bytes taken: always all of them.
    pub count: u32,
    /// The file around the write.
    pub wcc: Wcc,
    /// How safe the data already is: at least what was asked for.
    pub stability: Stability,
    /// Which life of this server took it.
    pub verifier: WriteVerifier,
}

/// What to make durable.
#[derive(Debug)]
pub enum Scope<'a, H> {
    /// A byte range of a file; `data_only` may skip times.
    Range {
        /// The file.
        file: At<'a, H>,
        /// First byte.
        offset: u64,
        /// Number of bytes; 0 means to the end, as in NFSv3 `COMMIT`.
        len: u64,
        /// Whether times may be left out (`fdatasync`).
        data_only: bool,
    },
    /// A directory's entries.
    Directory(Ino),
    /// Everything.
    Volume,
}

/// What [`crate::Vfs::allocate`] does to a range (`fallocate(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Makes sure that later writes there find space; extends the file unless
    /// `keep_size`.
    Reserve {
        /// Leaves the length alone.
        keep_size: bool,
    },
    /// Gives the range back: it reads as zeros, the length stays.
    PunchHole,
    /// Makes it read as zeros; extends the file unless `keep_size`.
    Zero {
        /// Leaves the length alone.
        keep_size: bool,
    },
}

/// What [`crate::Vfs::seek`] looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// The next byte that is stored.
    Data,
    /// The next byte that is not; the end of the file counts as a hole.
    Hole,
}
