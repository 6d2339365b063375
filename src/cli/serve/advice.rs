//! What the user is told when something is served: commands to paste on clients.

use super::Protocol;
use super::place::Place;
use crate::cli::session::Squash;

/// Where the commands mount.
const MOUNT_POINT: &str = "/mnt";

/// For whom the address is this machine's own.
const IN_QEMU: &str =
    "as root on Linux in a virtual machine with QEMU's user networking (see --squash)";

/// What is served.
pub(super) struct Advice<'a> {
    pub(super) protocol: Protocol,
    pub(super) place: &'a Place,
    /// What has to be mounted, if it is a secret.
    pub(super) path: Option<&'a str>,
    pub(super) is_read_only: bool,
    pub(super) squash: Squash,
}

impl Advice<'_> {
    /// What begins, who clients are, how they mount, how it ends.
    pub(super) fn lines(&self) -> Vec<String> {
        let Self { place, .. } = self;
        let access = if self.is_read_only { "read-only" } else { "for reading and writing" };
        let mut lines = vec![format!("serving {} at {place}, {access}", self.protocol.name())];
        match self.squash {
            Squash::None => {}
            Squash::Root { uid, gid } => {
                lines.push(format!("root of a client acts as user {uid} and group {gid}"));
            }
            Squash::All { uid, gid } => {
                lines.push(format!("everybody acts as user {uid} and group {gid} (see --squash)"));
            }
        }
        for (where_to, command) in self.commands() {
            lines.push(format!("{where_to}:"));
            lines.push(format!("  {command}"));
        }
        lines.push(format!("to end it: tgcryptfs unmount {place}"));
        lines
    }

    /// The commands, and where each is for.
    pub(super) fn commands(&self) -> Vec<(&'static str, String)> {
        let ro = if self.is_read_only { ",ro" } else { "" };
        let (host, is_ipv6) = (self.place.host(), self.place.is_ipv6_only());
        let path = self.path.unwrap_or("/");
        // Linux takes "tcp" for IPv4 alone.
        let tcp = if is_ipv6 { "tcp6" } else { "tcp" };
        match (self.protocol, self.place) {
            (Protocol::Nfs, Place::Unix(_)) => Vec::new(),
            (Protocol::Nfs, Place::Tcp(addr)) => {
                let port = addr.port();
                let linux = |host: &str| {
                    format!(
                        "mount -t nfs -o vers=3,proto={tcp},port={port},mountproto={tcp},\
                         mountport={port},nolock{ro} {host}:{path} {MOUNT_POINT}"
                    )
                };
                let macos = format!(
                    "mkdir -p ~/vault && mount_nfs -o vers=3,tcp,port={port},\
                     mountport={port},locallocks,rdirplus,nosuid,nodev{ro} {host}:{path} ~/vault"
                );
                let mut commands =
                    vec![("as root on Linux, with nfs-common", linux(&host)), ("on macOS", macos)];
                commands.extend(self.place.qemu_host().map(|host| (IN_QEMU, linux(host))));
                commands
            }
            (Protocol::P9, Place::Tcp(addr)) => {
                let name = self.path.map_or_else(String::new, |path| format!(",aname={path}"));
                let options = format!("trans=tcp,port={}{name}", addr.port());
                let where_to = if is_ipv6 {
                    "as root on Linux with a 9P client for IPv6: most are for IPv4 alone"
                } else {
                    "as root on Linux"
                };
                // The kernel looks up no names.
                let mut commands = vec![(where_to, p9(&options, ro, &self.place.numeric_host()))];
                let in_qemu = self.place.qemu_host().map(|host| p9(&options, ro, host));
                commands.extend(in_qemu.map(|command| (IN_QEMU, command)));
                commands
            }
            (Protocol::P9, Place::Unix(_)) => {
                vec![("as root on this machine", p9("trans=unix", ro, &host))]
            }
        }
    }
}

fn p9(transport: &str, ro: &str, host: &str) -> String {
    format!(
        "mount -t 9p -o {transport},version=9p2000.L,msize=1048576,access=client,\
         cache=none{ro} {host} {MOUNT_POINT}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../../docs/SERVING.md");

    fn commands(protocol: Protocol, place: &str, is_read_only: bool) -> Vec<String> {
        let place = Place::parse(place, protocol).unwrap();
        let squash = Squash::None;
        let advice = Advice { protocol, place: &place, path: None, is_read_only, squash };
        advice.commands().into_iter().map(|(_, command)| command).collect()
    }

    #[test]
    fn the_document_has_the_same_commands() {
        for (protocol, place, is_read_only, count) in [
            (Protocol::Nfs, "127.0.0.1:2049", false, 3),
            (Protocol::Nfs, "192.0.2.7:2049", true, 2),
            (Protocol::P9, "127.0.0.1:5640", false, 2),
            (Protocol::P9, "192.0.2.7:5640", true, 1),
            (Protocol::P9, "unix:/run/vault.sock", false, 1),
        ] {
            let commands = commands(protocol, place, is_read_only);
            assert_eq!(commands.len(), count);
            for command in commands {
                assert!(DOCUMENT.contains(&format!("\n{command}\n")), "not there: {command}");
            }
        }
    }

    #[test]
    fn a_secret_path_is_told_in_every_command() {
        for protocol in [Protocol::Nfs, Protocol::P9] {
            let place = Place::parse("127.0.0.1:2049", protocol).unwrap();
            let (path, squash) = (Some("/s3cret"), Squash::None);
            let advice = Advice { protocol, place: &place, path, is_read_only: false, squash };
            for (_, command) in advice.commands() {
                let is_there = match protocol {
                    Protocol::Nfs => command.contains(":/s3cret "),
                    Protocol::P9 => command.contains(",aname=/s3cret,"),
                };
                assert!(is_there, "{command}");
            }
        }
    }

    #[test]
    fn addresses_are_written_as_each_system_takes_them() {
        let nfs = commands(Protocol::Nfs, "[::1]:2049", false);
        assert!(nfs.iter().all(|command| command.contains(" [::1]:/ ")), "{nfs:?}");
        assert!(nfs[0].contains(",proto=tcp6,") && nfs[0].contains(",mountproto=tcp6,"), "{nfs:?}");
        let mapped = commands(Protocol::Nfs, "[::ffff:127.0.0.1]:2049", false);
        assert_eq!(mapped, commands(Protocol::Nfs, "127.0.0.1:2049", false));
        let p9 = commands(Protocol::P9, "[::1]:564", false);
        assert!(p9[0].contains("port=564,") && p9[0].contains(" ::1 /mnt"), "{p9:?}");
        let anywhere = commands(Protocol::Nfs, "0.0.0.0:2049", true);
        assert!(!anywhere[0].contains("0.0.0.0") && anywhere[0].contains(",ro "), "{anywhere:?}");
        // The kernel's 9P client looks up no names, and IPv6 is new to it.
        for any in ["0.0.0.0:564", "[::]:564"] {
            let place = Place::parse(any, Protocol::P9).unwrap();
            let host = place.numeric_host();
            assert_ne!(host, place.host());
            let p9 = commands(Protocol::P9, any, true);
            assert!(p9[0].ends_with(&format!(" {host} /mnt")), "{p9:?}");
        }
        let place = Place::parse("[::1]:564", Protocol::P9).unwrap();
        let (protocol, squash) = (Protocol::P9, Squash::None);
        let advice = Advice { protocol, place: &place, path: None, is_read_only: false, squash };
        assert!(advice.commands()[0].0.contains("for IPv4 alone"));
    }

    #[test]
    fn a_virtual_machine_is_told_an_address_that_is_not_its_own() {
        for protocol in [Protocol::Nfs, Protocol::P9] {
            let of = |place| {
                let place = Place::parse(place, protocol).unwrap();
                let squash = Squash::None;
                let (path, is_read_only) = (None, false);
                let advice = Advice { protocol, place: &place, path, is_read_only, squash };
                let (whom, guest) = advice.commands().pop().unwrap();
                (whom == IN_QEMU, guest)
            };
            for place in ["127.0.0.1:2049", "[::ffff:127.0.0.1]:2049"] {
                let (is_for_guests, command) = of(place);
                assert!(is_for_guests && command.contains(" 10.0.2.2"), "{place}: {command}");
                assert!(!command.contains("127.0.0.1"), "{place}: {command}");
            }
            // From there another address of loopback is not reached, and others are as they are.
            for place in ["127.0.0.2:2049", "[::1]:2049", "192.0.2.7:2049", "0.0.0.0:2049"] {
                let (is_for_guests, command) = of(place);
                assert!(!is_for_guests && !command.contains("10.0.2.2"), "{place}: {command}");
            }
        }
    }

    #[test]
    fn people_are_told_as_whom_they_act_and_how_it_ends() {
        let place = Place::parse("10.0.0.1:2049", Protocol::Nfs).unwrap();
        let squash = Squash::All { uid: 7, gid: 8 };
        let protocol = Protocol::Nfs;
        let advice = Advice { protocol, place: &place, path: None, is_read_only: true, squash };
        let lines = advice.lines();
        assert_eq!(lines[0], "serving nfs at 10.0.0.1:2049, read-only");
        assert!(lines[1].contains("user 7 and group 8"), "{lines:?}");
        assert_eq!(lines.last().unwrap(), "to end it: tgcryptfs unmount 10.0.0.1:2049");
    }
}
