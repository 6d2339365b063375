//! Where something is served, and who can reach it there.

use super::Protocol;
use crate::cli::exit::{Code, Failure};
use crate::cli::session::Squash;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

/// "Nobody", as user and as group.
const NOBODY: u32 = 65_534;

/// What stands for an address that cannot be told from here.
const SOME_ADDRESS: &str = "ADDRESS-OF-THIS-MACHINE";

/// A socket to serve at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// An address of the network.
    Tcp(SocketAddr),
    /// A path.
    Unix(PathBuf),
}

/// Why something is not served there.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    /// Anybody on the way could read and change what is written.
    #[error(
        "{addr} can be reached from other machines, and NFS and 9P have neither encryption nor \
         passwords: whoever is on the way could read and change what is written"
    )]
    Exposed {
        /// The address.
        addr: SocketAddr,
    },
    /// Not an address.
    #[error("{text:?} is no address")]
    NoAddress {
        /// What was given.
        text: String,
    },
    /// A path that is not absolute would be another one for a daemon.
    #[error("{text:?} is not absolute")]
    Relative {
        /// What was given.
        text: String,
    },
    /// No client mounts NFS through a path.
    #[error("NFS is mounted from addresses of the network only")]
    NfsByPath,
}

impl Place {
    /// Understands `127.0.0.1:2049`, `[::1]:2049`, `localhost:2049` or `unix:/path`.
    pub(super) fn parse(text: &str, protocol: Protocol) -> Result<Self, Failure> {
        if let Some(path) = text.strip_prefix("unix:") {
            if protocol == Protocol::Nfs {
                let message = "use 127.0.0.1 and a port, or serve 9p";
                return Err(Failure::because(Code::Usage, message, PlaceError::NfsByPath));
            }
            if !path.starts_with('/') {
                let error = PlaceError::Relative { text: path.to_owned() };
                return Err(Failure::because(Code::Usage, "name the path from the root on", error));
            }
            return Ok(Self::Unix(path.into()));
        }
        // Other names may lead anywhere, and somewhere else tomorrow.
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        numeric.parse().map(Self::Tcp).map_err(|_| {
            let message = "write an IP address and a port, as in --listen 127.0.0.1:2049";
            let error = PlaceError::NoAddress { text: text.to_owned() };
            Failure::because(Code::Usage, message, error)
        })
    }

    /// Whether only this machine can reach it.
    pub(super) fn is_private(&self) -> bool {
        match self {
            Self::Tcp(addr) => addr.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// As whom clients act unless somebody says otherwise: other machines can say anything.
    /// Where it cannot be seen which user of this machine asks (macOS), everybody who can
    /// reach the address is taken for whoever serves.
    pub(super) fn default_squash(&self) -> Squash {
        if !self.is_private() {
            return Squash::All { uid: NOBODY, gid: NOBODY };
        }
        if cfg!(target_os = "linux") {
            return Squash::None;
        }
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        Squash::All { uid: uid.as_raw(), gid: gid.as_raw() }
    }

    /// What other machines call this one, as far as it can be told from the address.
    pub(super) fn host(&self) -> String {
        match self {
            Self::Tcp(addr) if addr.ip().is_unspecified() => {
                let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
                name.map_or_else(|_| "THIS-MACHINE".to_owned(), |name| name.trim().to_owned())
            }
            Self::Tcp(addr) => match addr.ip().to_canonical() {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            },
            Self::Unix(path) => path.display().to_string(),
        }
    }

    /// The same for who takes no names: an IPv4 address, if there is one.
    pub(super) fn numeric_host(&self) -> String {
        match self {
            Self::Tcp(addr) if addr.ip().is_unspecified() => {
                own_address().map_or_else(|| SOME_ADDRESS.to_owned(), |ip| ip.to_string())
            }
            Self::Tcp(addr) => addr.ip().to_canonical().to_string(),
            Self::Unix(path) => path.display().to_string(),
        }
    }

    /// What a virtual machine calls it whose network is a process of this machine: QEMU's
    /// user networking leads there from this address, and to no other of loopback.
    pub(super) fn qemu_host(&self) -> Option<&'static str> {
        match self {
            Self::Tcp(addr) if addr.ip().to_canonical() == Ipv4Addr::LOCALHOST => Some("10.0.2.2"),
            _ => None,
        }
    }

    /// Whether it is reached through IPv6 and not otherwise.
    pub(super) fn is_ipv6_only(&self) -> bool {
        match self {
            Self::Tcp(addr) => !addr.ip().is_unspecified() && addr.ip().to_canonical().is_ipv6(),
            Self::Unix(_) => false,
        }
    }
}

/// The address from which this machine reaches others, if it has one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Sends nothing: it only asks which way it would go.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let own = socket.local_addr().ok()?.ip();
    Some(own).filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Refuses what would let anybody on a network change files.
pub(super) fn check_exposure(
    place: &Place,
    is_read_only: bool,
    accepts_plaintext_writes: bool,
) -> Result<(), Failure> {
    match place {
        Place::Tcp(addr) if !place.is_private() && !is_read_only && !accepts_plaintext_writes => {
            let message = "add --read-only; or serve at 127.0.0.1 and bring others there with \
                           ssh -L; or say --accept-plaintext-writes";
            Err(Failure::because(Code::Usage, message, PlaceError::Exposed { addr: *addr }))
        }
        _ => Ok(()),
    }
}

/// Understands `none`, `root`, `all`, and for the last two `:UID:GID`.
pub(super) fn parse_squash(text: &str) -> Result<Squash, String> {
    let (who, ids) = text.split_once(':').map_or((text, None), |(who, ids)| (who, Some(ids)));
    let ids = match ids {
        None => Some((NOBODY, NOBODY)),
        Some(ids) => ids.split_once(':').and_then(|(uid, gid)| Some((number(uid)?, number(gid)?))),
    };
    match (who, ids) {
        ("none", Some(_)) if text == "none" => Ok(Squash::None),
        ("root", Some((uid, gid))) => Ok(Squash::Root { uid, gid }),
        ("all", Some((uid, gid))) => Ok(Squash::All { uid, gid }),
        _ => Err("write none, root, all, root:UID:GID or all:UID:GID".to_owned()),
    }
}

/// A user or group; the largest number means "no user" to the kernel.
fn number(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_plain && *number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        Place::parse(text, Protocol::P9).unwrap()
    }

    #[test]
    fn addresses_are_numbers_and_paths_are_absolute() {
        assert_eq!(place("127.0.0.1:2049").to_string(), "127.0.0.1:2049");
        assert_eq!(place("localhost:564").to_string(), "127.0.0.1:564");
        assert_eq!(place("[::1]:1").to_string(), "[::1]:1");
        assert_eq!(place("unix:/run/x").to_string(), "unix:/run/x");
        for text in ["", "127.0.0.1", "host:1", "127.0.0.1:x", "127.0.0.1:70000", "unix:x", "/x"] {
            let refused = Place::parse(text, Protocol::P9).unwrap_err();
            assert_eq!(refused.code(), Code::Usage, "{text}");
        }
        assert!(Place::parse("unix:/run/x", Protocol::Nfs).is_err());
    }

    #[test]
    fn who_takes_no_names_is_told_an_address() {
        for (text, host) in [
            ("192.0.2.7:1", "192.0.2.7"),
            ("[::ffff:192.0.2.7]:1", "192.0.2.7"),
            ("[::1]:1", "::1"),
            ("unix:/run/x", "/run/x"),
        ] {
            assert_eq!(place(text).numeric_host(), host);
            assert_eq!(place(text).is_ipv6_only(), text == "[::1]:1", "{text}");
        }
        for text in ["0.0.0.0:1", "[::]:1"] {
            let host = place(text).numeric_host();
            let is_address = host.parse::<Ipv4Addr>().is_ok_and(|ip| !ip.is_unspecified());
            assert!(is_address || host == SOME_ADDRESS, "{host}");
            assert!(!place(text).is_ipv6_only(), "{text}");
        }
    }

    #[test]
    fn what_others_can_reach_is_read_only_or_asked_for() {
        for text in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "unix:/x"] {
            assert!(check_exposure(&place(text), false, false).is_ok(), "{text}");
            assert_eq!(place(text).default_squash(), Squash::None);
        }
        for text in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[fe80::1]:1", "[::ffff:10.0.0.1]:1"] {
            let refused = check_exposure(&place(text), false, false).unwrap_err();
            assert_eq!(refused.code(), Code::Usage, "{text}");
            assert!(refused.to_string().contains("--read-only"));
            assert!(check_exposure(&place(text), true, false).is_ok(), "{text}");
            assert!(check_exposure(&place(text), false, true).is_ok(), "{text}");
            let nobody = Squash::All { uid: NOBODY, gid: NOBODY };
            assert_eq!(place(text).default_squash(), nobody, "{text}");
        }
    }

    #[test]
    fn squashing_is_understood_or_refused() {
        assert_eq!(parse_squash("none"), Ok(Squash::None));
        assert_eq!(parse_squash("root"), Ok(Squash::Root { uid: NOBODY, gid: NOBODY }));
        assert_eq!(parse_squash("all:1000:100"), Ok(Squash::All { uid: 1000, gid: 100 }));
        for text in ["", "none:1:1", "all:", "all:1", "all:1:", "all:+1:1", "all:4294967295:1", "x"]
        {
            assert!(parse_squash(text).is_err(), "{text}");
        }
    }
}
