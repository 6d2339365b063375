//! What is written: random, so that nothing compresses or is stored twice.

/// As much as is streamed, with a seed of its own for each time it is written.
pub(crate) struct Content(Vec<u8>);

impl Content {
    /// `len` bytes, a multiple of eight.
    pub(crate) fn new(seed: u64, len: usize) -> Self {
        let mut content = Self(vec![0; len]);
        content.renew(seed);
        content
    }

    /// Other bytes in their place (xorshift64).
    pub(crate) fn renew(&mut self, seed: u64) {
        let mut word = seed | 1;
        for place in self.0.as_chunks_mut().0 {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            *place = word.to_le_bytes();
        }
    }

    /// How much there is.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The bytes of a range, less what lies beyond the end.
    pub(crate) fn at(&self, offset: usize, len: usize) -> &[u8] {
        &self.0[offset..self.0.len().min(offset + len)]
    }

    /// Whether what was read is what was written. Of much only both ends are compared:
    /// the client is to cost little.
    pub(crate) fn matches(&self, offset: usize, len: usize, read: &[u8]) -> bool {
        let (written, ends) = (self.at(offset, len), 64.min(len));
        read.len() == written.len()
            && read[..ends] == written[..ends]
            && read[read.len() - ends..] == written[written.len() - ends..]
    }
}
