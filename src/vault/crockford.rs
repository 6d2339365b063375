//! Crockford's base 32, for what people read aloud and type.

/// The digits, by value.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Characters between two dashes.
pub const GROUP_LEN: usize = 4;

/// The first `5 · digits` bits of `bytes`, most significant bits first, one
/// value below 32 for each digit.
///
/// # Panics
///
/// If `bytes` has fewer bits.
pub fn values(bytes: &[u8], digits: usize) -> impl Iterator<Item = u8> {
    assert!(bytes.len() * 8 >= digits * 5);
    (0..digits).map(|digit| {
        (0..5).fold(0, |value, bit| {
            let index = digit * 5 + bit;
            value << 1 | (bytes[index / 8] >> (7 - index % 8)) & 1
        })
    })
}

/// The character of a value below 32.
#[must_use]
pub fn character(value: u8) -> char {
    char::from(DIGITS[usize::from(value & 31)])
}

/// The value of a character as people write it: in either case, with `O` for
/// `0`, `I` and `L` for `1`.
#[must_use]
pub fn value(character: char) -> Option<u8> {
    let character = match character.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let index = DIGITS.iter().position(|&digit| char::from(digit) == character)?;
    u8::try_from(index).ok()
}

/// Says whether a character only separates groups.
#[must_use]
pub fn is_separator(character: char) -> bool {
    character == '-' || character.is_whitespace()
}

/// Appends values as characters, a dash between groups.
pub fn write_grouped(values: impl IntoIterator<Item = u8>, text: &mut String) {
    for (index, value) in values.into_iter().enumerate() {
        if index > 0 && index % GROUP_LEN == 0 {
            text.push('-');
        }
        text.push(character(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_taken_from_the_top() {
        let all: Vec<_> =
            values(&[0b0000_1000, 0b1000_0110, 0b0100_0010, 0b1001_1000, 0b1110_1000], 8).collect();
        assert_eq!(all, [1, 2, 3, 4, 5, 6, 7, 8]);
        let mut text = String::new();
        write_grouped(all, &mut text);
        assert_eq!(text, "1234-5678");
    }

    #[test]
    fn every_digit_reads_back_in_either_case() {
        for expected in 0..32 {
            let character = character(expected);
            assert_eq!(value(character), Some(expected));
            assert_eq!(value(character.to_ascii_lowercase()), Some(expected));
        }
        for (typed, meant) in [('o', 0), ('O', 0), ('i', 1), ('l', 1), ('L', 1)] {
            assert_eq!(value(typed), Some(meant));
        }
        assert!(['u', 'U', '!', 'é', '-'].into_iter().all(|other| value(other).is_none()));
    }
}
