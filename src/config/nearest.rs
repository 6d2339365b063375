//! Finds the known name closest to a mistyped one.

use super::KEYS;

/// The known key closest to `typed`, if one is close enough to be meant.
///
/// A key given without its section, or in the wrong one, counts as close: people
/// remember `max_size` and forget `cache`.
pub(super) fn key(typed: &str) -> Option<String> {
    let close = of(typed, KEYS.iter().map(|key| key.name.to_owned()), 0);
    close.or_else(|| {
        let leaf = last_part(typed);
        let mut same = KEYS.iter().filter(|key| last_part(key.name) == leaf);
        let first = same.next()?;
        same.next().is_none().then(|| first.name.to_owned())
    })
}

/// The candidate closest to `typed`; the first `common` bytes are the same in all
/// and do not count towards how long, and so how far off, a name may be.
pub(super) fn of(
    typed: &str,
    candidates: impl Iterator<Item = String>,
    common: usize,
) -> Option<String> {
    let distance_max = (typed.len().saturating_sub(common) / 4).clamp(1, 4);
    candidates
        .map(|candidate| (distance(typed, &candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= distance_max)
        .map(|(_, candidate)| candidate)
}

fn last_part(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, last)| last)
}

/// Edit distance that counts two swapped neighbours as one edit.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            let is_swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if is_swapped {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        assert_eq!(distance("max_sise", "max_size"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn finds_what_was_meant_and_nothing_else() {
        assert_eq!(key("cache.max_sise").as_deref(), Some("cache.max_size"));
        assert_eq!(key("block_size").as_deref(), Some("chunk.block_size"));
        assert_eq!(key("cache.api_hash").as_deref(), Some("telegram.api_hash"));
        assert_eq!(key("colour"), None);
    }
}
