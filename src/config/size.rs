//! Byte sizes as people write them.

/// Units, largest first so that formatting finds the largest that divides.
const UNITS: [(&str, u64); 4] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Reads `4096`, `512 KiB`, `10GiB`, `50 MB`.
///
/// `K`, `M`, `G`, `T` alone are the binary units, as for most tools that take
/// sizes; `kB`, `MB`, `GB`, `TB` are the decimal ones. `None` if it is no size or
/// does not fit.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let number: u64 = number.replace('_', "").parse().ok()?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Writes a size with the largest binary unit, one decimal where it does not divide.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    for (unit, factor) in UNITS {
        if bytes >= factor {
            let tenths = u128::from(bytes) * 10 / u128::from(factor);
            return match (bytes % factor, tenths % 10) {
                (0, _) => format!("{} {unit}", bytes / factor),
                (_, tenth) => format!("{}.{tenth} {unit}", tenths / 10),
            };
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("10 GiB", 10 << 30),
            ("10GiB", 10 << 30),
            (" 512 kib ", 512 << 10),
            ("50 MB", 50_000_000),
            ("1G", 1 << 30),
            ("10_000", 10_000),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "GiB", "-1", "1.5 GiB", "10 gigs", "99999999999 TiB", "1 2"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn writes_them_back() {
        assert_eq!(format_size(0), "0 B");
        assert_eq!(format_size(1023), "1023 B");
        assert_eq!(format_size(10 << 30), "10 GiB");
        assert_eq!(format_size((10 << 30) + (512 << 20)), "10.5 GiB");
        assert_eq!(format_size(u64::MAX), "16777215.9 TiB");
    }
}
