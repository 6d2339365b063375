//! Looks for many short byte strings in many bytes: what must not be in the store.

/// Something that was copied into the vault, with a name for the report.
pub(super) struct Needle {
    pub(super) what: String,
    pub(super) bytes: Vec<u8>,
}

/// Shorter strings turn up in random bytes by chance.
pub(super) const NEEDLE_LEN_MIN: usize = 10;

/// Needles by their first two bytes.
pub(super) struct Search {
    needles: Vec<Needle>,
    by_start: Vec<Vec<usize>>,
}

impl Search {
    /// Prepares a search. Needles that are too short to mean anything are left out.
    pub(super) fn new(mut needles: Vec<Needle>) -> Self {
        needles.retain(|needle| needle.bytes.len() >= NEEDLE_LEN_MIN);
        let mut by_start = vec![Vec::new(); 1 << 16];
        for (index, needle) in needles.iter().enumerate() {
            by_start[start_of(&needle.bytes)].push(index);
        }
        Self { needles, by_start }
    }

    /// What the bytes hold, if they hold any needle.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<&str> {
        bytes.windows(NEEDLE_LEN_MIN).enumerate().find_map(|(at, window)| {
            let candidates = self.by_start[start_of(window)].iter();
            let mut candidates = candidates.map(|index| &self.needles[*index]);
            let found = candidates.find(|needle| bytes[at..].starts_with(&needle.bytes))?;
            Some(found.what.as_str())
        })
    }
}

fn start_of(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there_and_only_that() {
        let needle = |text: &str| Needle { what: text.to_owned(), bytes: text.into() };
        let search =
            Search::new(vec![needle("secret-report.txt"), needle("another one"), needle("short")]);
        assert_eq!(search.find(b"xxsecret-report.txt"), Some("secret-report.txt"));
        assert_eq!(search.find(b"another one"), Some("another one"));
        assert_eq!(search.find(b"short secret-report.tx"), None);
        assert_eq!(search.find(b""), None);
    }
}
