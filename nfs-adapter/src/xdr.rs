//! External data representation (RFC 4506): what is read borrows from the record, what
//! is written goes straight into the reply.
//!
//! Every length is held against what is left before anything is made of it.

/// The arguments end too early or say what they may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Shorthand for what is decoded.
pub(crate) type Decoded<T> = Result<T, Malformed>;

/// Bytes that fill `len` up to a whole number of words.
pub(crate) const fn padding(len: usize) -> usize {
    len.wrapping_neg() & 3
}

/// `len` bytes with their padding.
pub(crate) const fn padded(len: usize) -> usize {
    len.saturating_add(padding(len))
}

/// Takes values off the front of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) const fn new(record: &'a [u8]) -> Self {
        Self { rest: record }
    }

    /// What has not been taken yet.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// As many bytes as the protocol fixes; their number is a multiple of four.
    pub(crate) fn fixed<const LEN: usize>(&mut self) -> Decoded<[u8; LEN]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u32(&mut self) -> Decoded<u32> {
        self.fixed().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Decoded<u64> {
        self.fixed().map(u64::from_be_bytes)
    }

    pub(crate) fn bool(&mut self) -> Decoded<bool> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    /// A byte string of at most `len_max` bytes.
    pub(crate) fn opaque(&mut self, len_max: usize) -> Decoded<&'a [u8]> {
        let len = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        if len > len_max {
            return Err(Malformed);
        }
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest.get(padding(len)..).ok_or(Malformed)?;
        Ok(taken)
    }
}

/// Appends values to a reply.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn into_vec(self) -> Vec<u8> {
        self.bytes
    }

    /// Forgets everything from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    pub(crate) fn fixed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.fixed(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.fixed(&value.to_be_bytes());
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.u32(value.into());
    }

    /// A byte string. Names, links and handles are all far below 4 GiB.
    pub(crate) fn opaque(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.fixed(bytes);
        self.zeros(padding(bytes.len()));
    }

    pub(crate) fn zeros(&mut self, count: usize) {
        self.bytes.resize(self.bytes.len() + count, 0);
    }

    /// Writes over four bytes that were appended earlier.
    pub(crate) fn set_u32(&mut self, at: usize, value: u32) {
        if let Some(place) = self.bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Decoder, Encoder, Malformed, padded, padding};
    use proptest::prelude::*;

    #[test]
    fn byte_strings_are_padded_to_words() {
        for (len, fill) in [(0, 0), (1, 3), (2, 2), (3, 1), (4, 0), (5, 3)] {
            assert_eq!((padding(len), padded(len)), (fill, len + fill));
            let mut encoder = Encoder::default();
            encoder.opaque(&[7; 5][..len]);
            let bytes = encoder.into_vec();
            assert_eq!(bytes.len(), 4 + len + fill);
            assert!(bytes[4 + len..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn lengths_are_held_against_what_is_there() {
        let opaque = |bytes: &[u8], len_max| Decoder::new(bytes).opaque(len_max).map(<[u8]>::len);
        assert_eq!(opaque(&[0, 0, 0, 3, 1, 2, 3, 0], 3), Ok(3));
        assert_eq!(opaque(&[0, 0, 0, 3, 1, 2, 3, 0], 2), Err(Malformed), "over the limit");
        assert_eq!(opaque(&[0, 0, 0, 3, 1, 2, 3], 3), Err(Malformed), "no padding");
        assert_eq!(opaque(&[0, 0, 0, 4, 1, 2, 3], 4), Err(Malformed), "cut off");
        assert_eq!(opaque(&[255, 255, 255, 255, 0], usize::MAX), Err(Malformed), "4 GiB");
        assert_eq!(opaque(&[0, 0, 0], 8), Err(Malformed), "no length");
        assert_eq!(Decoder::new(&[0, 0, 0, 2]).bool(), Err(Malformed), "neither false nor true");
        assert_eq!(Decoder::new(&[0; 7]).u64(), Err(Malformed));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            a in any::<u32>(),
            b in any::<u64>(),
            c in any::<bool>(),
            d in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut encoder = Encoder::with_capacity(8);
            encoder.u32(a);
            encoder.opaque(&d);
            encoder.u64(b);
            encoder.bool(c);
            let bytes = encoder.into_vec();
            prop_assert_eq!(bytes.len() % 4, 0);
            let mut decoder = Decoder::new(&bytes);
            prop_assert_eq!(decoder.u32(), Ok(a));
            prop_assert_eq!(decoder.opaque(100), Ok(&d[..]));
            prop_assert_eq!(decoder.u64(), Ok(b));
            prop_assert_eq!(decoder.bool(), Ok(c));
            prop_assert!(decoder.rest().is_empty());
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut decoder = Decoder::new(&bytes);
            while decoder.opaque(16).is_ok() && !decoder.rest().is_empty() {}
            let _ = (decoder.u32(), decoder.bool(), decoder.u64());
        }
    }
}
