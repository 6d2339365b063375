//! Ranges of addresses, as in `10.0.0.0/8`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses that begin with the same bits.
///
/// An IPv4 address in the clothes of IPv6 (`::ffff:10.0.0.1`) counts as IPv4, in ranges
/// as in what is looked for. So `::/0` is every IPv6 address and no IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    first: IpAddr,
    prefix_len: u8,
}

/// Why a text is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// What stands before the slash is no address.
    #[error("{text:?} is no IP address or range such as 10.0.0.0/8 or fd00::/8")]
    NoAddress {
        /// The whole text.
        text: String,
    },
    /// What stands behind the slash is no length.
    #[error("{text:?} needs a number from 0 to {len_max} behind the slash")]
    NoLength {
        /// The whole text.
        text: String,
        /// Bits in such an address.
        len_max: u8,
    },
    /// The address has bits that the length cuts off: one of them is a slip.
    #[error("{text:?} is ambiguous: write {meant} for the range, or only the address")]
    BitsBeyond {
        /// The whole text.
        text: String,
        /// The range the length says.
        meant: Cidr,
    },
}

/// IPv4 addresses lie behind this many bits of IPv6.
const MAPPED_LEN: u8 = 96;

impl Cidr {
    /// The one address.
    #[must_use]
    pub fn only(addr: IpAddr) -> Self {
        let first = addr.to_canonical();
        Self { first, prefix_len: len_max(first) }
    }

    /// Whether an address lies in the range.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        cut(addr.to_canonical(), self.prefix_len) == Some(self.first)
            && addr.to_canonical().is_ipv4() == self.first.is_ipv4()
    }
}

fn len_max(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

/// The first address with the same `prefix_len` bits; `None` if it has no so many bits.
fn cut(addr: IpAddr, prefix_len: u8) -> Option<IpAddr> {
    // A shift by all bits is none to the processor, and means that no bit counts.
    let dropped = u32::from(len_max(addr).checked_sub(prefix_len)?);
    Some(match addr {
        IpAddr::V4(addr) => {
            let mask = u32::MAX.checked_shl(dropped).unwrap_or(0);
            Ipv4Addr::from_bits(addr.to_bits() & mask).into()
        }
        IpAddr::V6(addr) => {
            let mask = u128::MAX.checked_shl(dropped).unwrap_or(0);
            Ipv6Addr::from_bits(addr.to_bits() & mask).into()
        }
    })
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (addr, length) = match text.split_once('/') {
            Some((addr, length)) => (addr, Some(length)),
            None => (text, None),
        };
        let written: IpAddr =
            addr.parse().map_err(|_| CidrError::NoAddress { text: text.to_owned() })?;
        let Some(length) = length else { return Ok(Self::only(written)) };
        let no_length = || CidrError::NoLength { text: text.to_owned(), len_max: len_max(written) };
        let prefix_len = parse_length(length).ok_or_else(no_length)?;
        let first = cut(written, prefix_len).ok_or_else(no_length)?;
        let range = Self { first, prefix_len }.canonical();
        if first != written {
            return Err(CidrError::BitsBeyond { text: text.to_owned(), meant: range });
        }
        Ok(range)
    }
}

impl Cidr {
    fn canonical(self) -> Self {
        let first = self.first.to_canonical();
        match self.prefix_len.checked_sub(MAPPED_LEN) {
            Some(prefix_len) if first.is_ipv4() && self.first.is_ipv6() => {
                Self { first, prefix_len }
            }
            _ => self,
        }
    }
}

/// Decimal as people write it: no sign, no zeros in front.
fn parse_length(text: &str) -> Option<u8> {
    let is_plain = text == "0" || !text.starts_with('0');
    (is_plain && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix_len)
    }
}

#[cfg(test)]
mod tests {
    use super::{Cidr, CidrError};
    use std::net::IpAddr;

    fn range(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check(text: &str, inside: &[&str], outside: &[&str]) {
        let range = range(text);
        for addr in inside {
            assert!(range.contains(addr.parse().unwrap()), "{addr} in {text}");
        }
        for addr in outside {
            assert!(!range.contains(addr.parse().unwrap()), "{addr} not in {text}");
        }
    }

    #[test]
    fn the_bits_of_the_length_decide() {
        check("10.0.0.0/8", &["10.0.0.0", "10.255.255.255"], &["11.0.0.0", "9.255.255.255"]);
        check("192.168.4.128/25", &["192.168.4.200"], &["192.168.4.127"]);
        check("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::1", "::"]);
        check("::/0", &["::1", "ff02::1"], &["10.0.0.1", "::ffff:10.0.0.1"]);
        check("fd00:1:2::/47", &["fd00:1:3::9"], &["fd00:1:4::", "10.0.0.1"]);
        check("10.1.2.3", &["10.1.2.3"], &["10.1.2.2"]);
        check("::1/128", &["::1"], &["::", "::2", "127.0.0.1"]);
    }

    #[test]
    fn ipv4_in_the_clothes_of_ipv6_is_ipv4() {
        check("10.0.0.0/8", &["::ffff:10.1.1.1"], &["::ffff:11.1.1.1", "::10.1.1.1"]);
        check("::ffff:10.0.0.0/104", &["10.1.1.1", "::ffff:10.1.1.1"], &["11.0.0.1"]);
        assert_eq!(range("::ffff:10.0.0.0/104").to_string(), "10.0.0.0/8");
        assert_eq!(range("::ffff:10.0.0.1").to_string(), "10.0.0.1/32");
    }

    #[test]
    fn it_is_shown_as_it_is_read() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "fd00::/8", "::1/128", "::/0"] {
            assert_eq!(range(text).to_string(), text);
        }
        let own: IpAddr = "fe80::7".parse().unwrap();
        assert_eq!(Cidr::only(own).to_string(), "fe80::7/128");
    }

    #[test]
    fn what_is_doubtful_is_refused() {
        for text in ["", "/8", "10.0.0/8", "010.0.0.0/8", "10.0.0.0 /8", "host", "fe80::1%eth0"] {
            assert!(matches!(text.parse::<Cidr>(), Err(CidrError::NoAddress { .. })), "{text}");
        }
        for text in ["10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/08", "::/129", "::/8/8"] {
            assert!(matches!(text.parse::<Cidr>(), Err(CidrError::NoLength { .. })), "{text}");
        }
        let slip = "10.1.0.0/8".parse::<Cidr>().unwrap_err();
        assert!(slip.to_string().contains("10.0.0.0/8"), "{slip}");
    }
}
