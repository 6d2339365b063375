//! The notation of `docs/FORMAT.md` §1, read and written strictly.
//!
//! Everything a [`Reader`] is given may have been forged. It checks a length
//! before it uses it, never lets a caller allocate for more items than the
//! input could hold, and refuses values that another encoder would not have
//! written: unknown tags, nanoseconds of a second or more, bytes left over. So
//! there is exactly one encoding of every value, and what was signed is what
//! was understood.

use std::fmt;
use vfs::Timestamp;

#[cfg(test)]
pub(crate) mod hostile;

/// Nanoseconds of a `time` are below this.
const NANOSECONDS_END: u32 = 1_000_000_000;

/// Input that does not follow the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} at byte {offset} {problem}")]
pub struct DecodeError {
    /// Where the field starts, bytes from the start of the input.
    pub offset: usize,
    /// The field that was being read.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The input ends inside it.
    Truncated {
        /// Bytes it takes.
        needed: usize,
        /// Bytes there are.
        left: usize,
    },
    /// It is longer than the format allows.
    TooLong {
        /// Its length, bytes or items.
        len: usize,
        /// The most the format allows.
        max: usize,
    },
    /// It has a value the format does not know.
    Unknown {
        /// That value.
        value: u64,
    },
    /// It breaks a rule of the format.
    Invalid {
        /// The rule.
        rule: &'static str,
    },
    /// The value ends before the input does.
    Trailing {
        /// Bytes left over.
        left: usize,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, left } => write!(f, "takes {needed} bytes, {left} are left"),
            Self::TooLong { len, max } => write!(f, "has length {len}, at most {max} is allowed"),
            Self::Unknown { value } => write!(f, "has the unknown value {value}"),
            Self::Invalid { rule } => write!(f, "breaks a rule: {rule}"),
            Self::Trailing { left } => write!(f, "is followed by {left} bytes too many"),
        }
    }
}

/// Shorthand for a decoder's result.
pub type Result<T> = std::result::Result<T, DecodeError>;

/// Takes fields off the front of a byte string.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    input: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Reads `input` from its start.
    #[must_use]
    pub fn new(input: &'a [u8]) -> Self {
        Self { input, offset: 0 }
    }

    /// Bytes read so far.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.input.len() - self.offset
    }

    /// What was read since `start`, an earlier [`Self::offset`]; for hashes and
    /// signatures over the bytes as they came.
    #[must_use]
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.input[start.min(self.offset)..self.offset]
    }

    /// An error about the field that starts at `offset`.
    #[must_use]
    pub fn error_at(&self, offset: usize, field: &'static str, problem: Problem) -> DecodeError {
        DecodeError { offset, field, problem }
    }

    fn error(&self, field: &'static str, problem: Problem) -> DecodeError {
        self.error_at(self.offset, field, problem)
    }

    /// The next `len` bytes.
    pub fn raw(&mut self, field: &'static str, len: usize) -> Result<&'a [u8]> {
        let left = self.left();
        if len > left {
            return Err(self.error(field, Problem::Truncated { needed: len, left }));
        }
        let bytes = &self.input[self.offset..self.offset + len];
        self.offset += len;
        Ok(bytes)
    }

    /// `x[N]`.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.raw(field, N)?);
        Ok(array)
    }

    /// `u8`.
    pub fn u8(&mut self, field: &'static str) -> Result<u8> {
        Ok(self.array::<1>(field)?[0])
    }

    /// `u16`.
    pub fn u16(&mut self, field: &'static str) -> Result<u16> {
        self.array(field).map(u16::from_le_bytes)
    }

    /// `u32`.
    pub fn u32(&mut self, field: &'static str) -> Result<u32> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// `u64`.
    pub fn u64(&mut self, field: &'static str) -> Result<u64> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// `u64be`.
    pub fn u64be(&mut self, field: &'static str) -> Result<u64> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// `i64`.
    pub fn i64(&mut self, field: &'static str) -> Result<i64> {
        self.array(field).map(i64::from_le_bytes)
    }

    /// A `u8` that stands for one of a few values; `from_code` answers `None`
    /// for the others.
    pub fn code<T>(
        &mut self,
        field: &'static str,
        from_code: impl FnOnce(u8) -> Option<T>,
    ) -> Result<T> {
        let offset = self.offset;
        let code = self.u8(field)?;
        from_code(code).ok_or_else(|| {
            self.error_at(offset, field, Problem::Unknown { value: u64::from(code) })
        })
    }

    /// A `u8` that is 0 or 1.
    pub fn bool(&mut self, field: &'static str) -> Result<bool> {
        self.code(field, |code| match code {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        })
    }

    /// `time`.
    pub fn time(&mut self, field: &'static str) -> Result<Timestamp> {
        let offset = self.offset;
        let seconds = self.i64(field)?;
        let nanoseconds = self.u32(field)?;
        if nanoseconds >= NANOSECONDS_END {
            let rule = "nanoseconds are below 10^9";
            return Err(self.error_at(offset, field, Problem::Invalid { rule }));
        }
        Ok(Timestamp { seconds, nanoseconds })
    }

    /// `lp(x)` of at most `max` bytes.
    pub fn lp(&mut self, field: &'static str, max: usize) -> Result<&'a [u8]> {
        let offset = self.offset;
        let len = self.length(field)?;
        if len > max {
            return Err(self.error_at(offset, field, Problem::TooLong { len, max }));
        }
        self.raw(field, len)
    }

    /// The count that opens a list of at most `max` items, each of which takes
    /// `item_len_min` bytes or more; a count that the rest of the input cannot
    /// hold is refused, so it may be used to reserve memory.
    pub fn count(&mut self, field: &'static str, max: usize, item_len_min: usize) -> Result<usize> {
        let offset = self.offset;
        let count = self.length(field)?;
        if count > max {
            return Err(self.error_at(offset, field, Problem::TooLong { len: count, max }));
        }
        let needed = count.saturating_mul(item_len_min.max(1));
        let left = self.left();
        if needed > left {
            return Err(self.error_at(offset, field, Problem::Truncated { needed, left }));
        }
        Ok(count)
    }

    /// `list(T)`; see [`Self::count`] for the limits.
    pub fn list<T>(
        &mut self,
        field: &'static str,
        max: usize,
        item_len_min: usize,
        mut item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = self.count(field, max, item_len_min)?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// `opt(T)`.
    pub fn opt<T>(
        &mut self,
        field: &'static str,
        value: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<Option<T>> {
        if self.bool(field)? { value(self).map(Some) } else { Ok(None) }
    }

    /// `len` bytes that are all zero.
    pub fn zeros(&mut self, field: &'static str, len: usize) -> Result<()> {
        let offset = self.offset;
        if self.raw(field, len)?.iter().any(|&byte| byte != 0) {
            let rule = "padding is zero";
            return Err(self.error_at(offset, field, Problem::Invalid { rule }));
        }
        Ok(())
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        let bytes = &self.input[self.offset..];
        self.offset = self.input.len();
        bytes
    }

    /// Ends the value; whatever follows it is refused.
    pub fn finish(self, field: &'static str) -> Result<()> {
        match self.left() {
            0 => Ok(()),
            left => Err(self.error(field, Problem::Trailing { left })),
        }
    }

    fn length(&mut self, field: &'static str) -> Result<usize> {
        // A length that no `usize` holds is far above every maximum.
        Ok(usize::try_from(self.u32(field)?).unwrap_or(usize::MAX))
    }
}

/// Puts fields one behind the other.
///
/// # Panics
///
/// A byte string or list of 2^32 items or more has no encoding; all maxima of
/// the format are far below, so trying is a mistake in the program.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Starts empty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts empty with room for `len` bytes, which are then never moved; a
    /// value with secrets leaves no copies behind that way.
    #[must_use]
    pub fn with_capacity(len: usize) -> Self {
        Self { bytes: Vec::with_capacity(len) }
    }

    /// Continues behind what `bytes` holds.
    #[must_use]
    pub fn onto(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Says whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What has been written so far.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives up what was written.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }

    /// The bytes as they are: `x[n]`.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// `u8`.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    /// `u16`.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// `u32`.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// `u64`.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// `u64be`.
    pub fn u64be(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// `i64`.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// A `u8` that is 0 or 1.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.u8(u8::from(value))
    }

    /// `time`.
    pub fn time(&mut self, value: Timestamp) -> &mut Self {
        debug_assert!(value.nanoseconds < NANOSECONDS_END);
        self.i64(value.seconds).u32(value.nanoseconds)
    }

    /// `lp(x)`.
    pub fn lp(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len()).raw(bytes)
    }

    /// The count that opens a list.
    pub fn count(&mut self, count: usize) -> &mut Self {
        self.u32(u32::try_from(count).expect("the format's maxima are below 2^32"))
    }

    /// `list(T)`.
    pub fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
        mut item: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        let items = items.into_iter();
        self.count(items.len());
        for each in items {
            item(self, each);
        }
        self
    }

    /// `opt(T)`.
    pub fn opt<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) -> &mut Self {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
        self
    }

    /// `len` zero bytes.
    pub fn zeros(&mut self, len: usize) -> &mut Self {
        self.bytes.resize(self.bytes.len() + len, 0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problem<T: fmt::Debug>(result: Result<T>) -> Problem {
        result.unwrap_err().problem
    }

    #[test]
    fn bytes_are_little_endian_in_order() {
        let mut writer = Writer::new();
        writer.u8(1).u16(2).u32(3).u64(4).u64be(5).i64(-1).bool(true).lp(b"ab");
        writer
            .opt(None::<u8>, |w, v| {
                w.u8(v);
            })
            .opt(Some(9), |w, v| {
                w.u8(v);
            });
        writer.list([7_u16, 8], |w, v| {
            w.u16(v);
        });
        let expected = [
            &[1][..],
            &[2, 0],
            &[3, 0, 0, 0],
            &[4, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 0, 0, 0, 0, 5],
            &[0xff; 8],
            &[1],
            &[2, 0, 0, 0, b'a', b'b'],
            &[0],
            &[1, 9],
            &[2, 0, 0, 0, 7, 0, 8, 0],
        ];
        assert_eq!(writer.as_slice(), expected.concat());

        let bytes = writer.into_vec();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.u8("a"), Ok(1));
        assert_eq!(reader.u16("b"), Ok(2));
        assert_eq!(reader.u32("c"), Ok(3));
        assert_eq!(reader.u64("d"), Ok(4));
        assert_eq!(reader.u64be("e"), Ok(5));
        assert_eq!(reader.i64("f"), Ok(-1));
        assert_eq!(reader.bool("g"), Ok(true));
        let start = reader.offset();
        assert_eq!(reader.lp("h", 2), Ok(&b"ab"[..]));
        assert_eq!(reader.since(start), b"\x02\0\0\0ab");
        assert_eq!(reader.opt("i", |r| r.u8("i")), Ok(None));
        assert_eq!(reader.opt("j", |r| r.u8("j")), Ok(Some(9)));
        assert_eq!(reader.list("k", 2, 2, |r| r.u16("k")), Ok(vec![7, 8]));
        assert_eq!(reader.finish("value"), Ok(()));
    }

    #[test]
    fn truncation_names_field_and_place() {
        let mut reader = Reader::new(&[0, 0, 0]);
        reader.u8("first").unwrap();
        let error = reader.u32("second").unwrap_err();
        assert_eq!((error.offset, error.field), (1, "second"));
        assert_eq!(error.to_string(), "second at byte 1 takes 4 bytes, 2 are left");
    }

    #[test]
    fn lengths_are_checked_against_maximum_and_input() {
        let claim = u32::MAX.to_le_bytes();
        assert!(matches!(problem(Reader::new(&claim).lp("x", 8)), Problem::TooLong { max: 8, .. }));
        let all = problem(Reader::new(&claim).lp("x", usize::MAX));
        assert!(matches!(all, Problem::Truncated { left: 0, .. }));
        let list = problem(Reader::new(&claim).list("x", usize::MAX, 8, |r| r.u64("x")));
        assert!(matches!(list, Problem::Truncated { .. }));
        let many = problem(Reader::new(&[3, 0, 0, 0, 1, 2, 3]).count("x", 2, 1));
        assert_eq!(many, Problem::TooLong { len: 3, max: 2 });
        // An item that claims to take nothing still counts as a byte.
        assert!(Reader::new(&claim).count("x", usize::MAX, 0).is_err());
    }

    #[test]
    fn only_one_encoding_is_accepted() {
        assert_eq!(problem(Reader::new(&[2]).bool("x")), Problem::Unknown { value: 2 });
        let tag = problem(Reader::new(&[2, 0]).opt("x", |r| r.u8("x")));
        assert_eq!(tag, Problem::Unknown { value: 2 });
        let mut writer = Writer::new();
        writer.i64(0).u32(NANOSECONDS_END);
        assert!(matches!(
            problem(Reader::new(writer.as_slice()).time("x")),
            Problem::Invalid { .. }
        ));
        assert!(Reader::new(&[0, 0]).zeros("x", 2).is_ok());
        assert!(matches!(problem(Reader::new(&[0, 1]).zeros("x", 2)), Problem::Invalid { .. }));
        assert_eq!(problem(Reader::new(&[0]).finish("x")), Problem::Trailing { left: 1 });
        let code = Reader::new(&[9]).code("kind", |code| (code == 1).then_some(()));
        assert_eq!(problem(code), Problem::Unknown { value: 9 });
    }

    proptest! {
        #[test]
        fn times_and_strings_round_trip(
            seconds in any::<i64>(),
            nanoseconds in 0..NANOSECONDS_END,
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let time = Timestamp { seconds, nanoseconds };
            let mut writer = Writer::with_capacity(8);
            writer.time(time).lp(&bytes);
            let mut reader = Reader::new(writer.as_slice());
            prop_assert_eq!(reader.time("time"), Ok(time));
            prop_assert_eq!(reader.lp("bytes", 40), Ok(&bytes[..]));
            prop_assert_eq!(reader.finish("value"), Ok(()));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(&bytes);
            while reader.left() > 0 {
                let before = reader.offset();
                let _ = reader.clone().time("t");
                let _ = reader.clone().list("l", 1 << 20, 1, |r| r.lp("i", 16).map(<[u8]>::len));
                let _ = reader.u8("u");
                prop_assert!(reader.offset() > before);
            }
        }
    }
}
