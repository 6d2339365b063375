//! Recovery codes: `docs/FORMAT.md` §3.
//!
//! 160 random bits that open a vault when the passphrase is lost, written so
//! that people can copy them by hand, with check characters that catch mistakes
//! before anything is tried.

use super::crockford::{self, GROUP_LEN};
use crate::crypto::Secret;
use crate::env::Env;
use zeroize::Zeroizing;

const CODE_LEN: usize = 20;
const CODE_DIGITS: usize = 32;
const CHECK_DIGITS: usize = 4;
const DIGITS: usize = CODE_DIGITS + CHECK_DIGITS;
const GROUPS: usize = DIGITS / GROUP_LEN;

/// The values of all digits of a code.
type Digits = Zeroizing<[u8; DIGITS]>;

/// A recovery code.
#[derive(Debug)]
pub struct RecoveryCode(Secret<CODE_LEN>);

/// A text that is no recovery code; groups are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryCodeError {
    /// A character is not of the alphabet.
    #[error(
        "group {group} of the recovery code has the character {character:?}, which no code has"
    )]
    Character {
        /// Where.
        group: usize,
        /// The character.
        character: char,
    },
    /// A group has more or fewer than four characters.
    #[error("group {group} of the recovery code has {len} characters instead of 4")]
    GroupLength {
        /// Where.
        group: usize,
        /// Its length, characters.
        len: usize,
    },
    /// The whole has the wrong length.
    #[error("the recovery code has {len} characters instead of 36 in nine groups")]
    Length {
        /// Its length without separators, characters.
        len: usize,
    },
    /// One character, or the order of two, is probably wrong there.
    #[error("group {group} of the recovery code seems to have a mistake")]
    Mistake {
        /// Where.
        group: usize,
    },
    /// The check characters do not fit; nobody can tell what is wrong.
    #[error("the recovery code has a mistake: its last group does not fit the others")]
    Check,
}

impl RecoveryCode {
    /// A new code.
    #[must_use]
    pub fn generate(env: &Env) -> Self {
        Self(Secret::random(env))
    }

    /// The code with these bytes.
    #[must_use]
    pub fn new(bytes: Secret<CODE_LEN>) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; CODE_LEN] {
        self.0.expose()
    }

    /// The text to write down: nine groups of four characters.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(DIGITS + GROUPS));
        let code = crockford::values(self.bytes(), CODE_DIGITS);
        crockford::write_grouped(code.chain(check_digits(self.bytes())), &mut text);
        text
    }

    /// Reads a text as people type it.
    ///
    /// # Errors
    ///
    /// [`RecoveryCodeError`] with the group that is wrong, if that can be told.
    pub fn parse(text: &str) -> Result<Self, RecoveryCodeError> {
        let digits = read_digits(text)?;
        if is_check_right(&digits) {
            return Ok(Self(Secret::fill_with(|code| *code = *code_of(&digits))));
        }
        Err(match find_mistake(&digits) {
            Some(digit) => RecoveryCodeError::Mistake { group: digit / GROUP_LEN + 1 },
            None => RecoveryCodeError::Check,
        })
    }
}

fn check_digits(code: &[u8; CODE_LEN]) -> impl Iterator<Item = u8> + use<> {
    let hash = *blake3::Hasher::new()
        .update(b"tgcryptfs/v1/recovery check")
        .update(code)
        .finalize()
        .as_bytes();
    let digits: Vec<u8> = crockford::values(&hash, CHECK_DIGITS).collect();
    digits.into_iter()
}

fn code_of(digits: &Digits) -> Zeroizing<[u8; CODE_LEN]> {
    let mut code = Zeroizing::new([0; CODE_LEN]);
    for bit in 0..CODE_LEN * 8 {
        let value = digits[bit / 5] >> (4 - bit % 5) & 1;
        code[bit / 8] |= value << (7 - bit % 8);
    }
    code
}

fn is_check_right(digits: &Digits) -> bool {
    check_digits(&code_of(digits)).eq(digits[CODE_DIGITS..].iter().copied())
}

fn read_digits(text: &str) -> Result<Digits, RecoveryCodeError> {
    let mut digits = Digits::new([0; DIGITS]);
    let mut len = 0;
    for character in text.chars().filter(|&character| !crockford::is_separator(character)) {
        let Some(value) = crockford::value(character) else {
            let group = len / GROUP_LEN + 1;
            return Err(RecoveryCodeError::Character { group, character });
        };
        if let Some(digit) = digits.get_mut(len) {
            *digit = value;
        }
        len += 1;
    }
    if len == DIGITS { Ok(digits) } else { Err(wrong_length(text, len)) }
}

/// Names the group that has the wrong length if the text has the right number
/// of groups.
fn wrong_length(text: &str, len: usize) -> RecoveryCodeError {
    let groups = text.split(crockford::is_separator).filter(|group| !group.is_empty());
    let lens: Vec<usize> = groups.map(|group| group.chars().count()).collect();
    let wrong = lens.iter().position(|&len| len != GROUP_LEN);
    match wrong {
        Some(index) if lens.len() == GROUPS => {
            RecoveryCodeError::GroupLength { group: index + 1, len: lens[index] }
        }
        _ => RecoveryCodeError::Length { len },
    }
}

/// Looks for one mistyped character, or two neighbours in the wrong order, that
/// explains a wrong check; answers the place if only one group has any.
fn find_mistake(digits: &Digits) -> Option<usize> {
    let mut found: Option<usize> = None;
    let mut try_digits = |candidate: &Digits, place: usize| {
        if is_check_right(candidate) {
            let is_same = found.is_none_or(|earlier| earlier / GROUP_LEN == place / GROUP_LEN);
            found = Some(if is_same { place } else { usize::MAX });
        }
    };
    let mut candidate = digits.clone();
    for place in 0..DIGITS {
        for value in (0..32).filter(|&value| value != digits[place]) {
            candidate[place] = value;
            try_digits(&candidate, place);
        }
        candidate[place] = digits[place];
    }
    for place in 0..DIGITS - 1 {
        if digits[place] != digits[place + 1] {
            candidate.swap(place, place + 1);
            try_digits(&candidate, place);
            candidate.swap(place, place + 1);
        }
    }
    found.filter(|&place| place != usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> RecoveryCode {
        RecoveryCode::generate(&Env::simulated(5).0)
    }

    fn error(text: &str) -> RecoveryCodeError {
        RecoveryCode::parse(text).unwrap_err()
    }

    #[test]
    fn codes_read_back_however_they_are_typed() {
        let text = code().to_text();
        assert_eq!(text.len(), 44);
        let variants = [
            text.to_string(),
            text.to_lowercase(),
            text.replace('-', ""),
            text.replace('-', " \n"),
            text.replace('0', "o").replace('1', "l"),
            format!("  {}  ", text.replace('0', "O").replace('1', "I")),
        ];
        for variant in variants {
            assert_eq!(RecoveryCode::parse(&variant).unwrap().bytes(), code().bytes());
        }
    }

    #[test]
    fn any_single_mistake_is_found_in_its_group() {
        let text = code().to_text().replace('-', "");
        let mut named = 0;
        for place in 0..DIGITS {
            let mut typed: Vec<char> = text.chars().collect();
            let value = crockford::value(typed[place]).unwrap();
            typed[place] = crockford::character(value ^ 0b10101);
            match error(&typed.iter().collect::<String>()) {
                RecoveryCodeError::Mistake { group } => {
                    assert_eq!(group, place / GROUP_LEN + 1);
                    named += 1;
                }
                // Another group explains it by chance: about one in a thousand.
                other => assert_eq!(other, RecoveryCodeError::Check),
            }
        }
        assert!(named >= DIGITS - 2, "{named}");
    }

    #[test]
    fn swapped_neighbours_are_found() {
        let text = code().to_text().replace('-', "");
        let mut typed: Vec<char> = text.chars().collect();
        let place = (8..11).find(|&place| typed[place] != typed[place + 1]).unwrap();
        typed.swap(place, place + 1);
        let error = error(&typed.iter().collect::<String>());
        assert_eq!(error, RecoveryCodeError::Mistake { group: 3 });
    }

    #[test]
    fn errors_say_where() {
        let text = code().to_text();
        assert_eq!(error(""), RecoveryCodeError::Length { len: 0 });
        assert_eq!(error(&text[..39]), RecoveryCodeError::Length { len: 32 });
        let short = format!("{}{}", &text[..12], &text[13..]);
        assert_eq!(error(&short), RecoveryCodeError::GroupLength { group: 3, len: 3 });
        let wrong = format!("{}!{}", &text[..5], &text[6..]);
        assert_eq!(error(&wrong), RecoveryCodeError::Character { group: 2, character: '!' });
        let long = text.repeat(3);
        assert_eq!(error(&long), RecoveryCodeError::Length { len: 108 });
        let swapped = format!("{}{}{}", &text[5..10], &text[..5], &text[10..]);
        assert_eq!(error(&swapped), RecoveryCodeError::Check);
    }
}
