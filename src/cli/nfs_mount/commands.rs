//! The system's own commands for mounting over NFS and unmounting, word by word.
//!
//! Nothing here is run, so that the words for both systems are tested on either.

use std::ffi::OsString;
use std::path::Path;

/// Systems whose commands are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum System {
    /// Linux.
    Linux,
    /// macOS.
    MacOs,
}

impl System {
    /// The one this program runs on.
    pub(in crate::cli) const OWN: Self =
        if cfg!(target_os = "macos") { Self::MacOs } else { Self::Linux };
}

/// A command and its arguments.
pub(in crate::cli) type Words = Vec<OsString>;

/// What is served to be mounted on this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Served<'a> {
    pub(super) port: u16,
    /// The path, with its slash.
    pub(super) path: &'a str,
    pub(super) is_read_only: bool,
}

impl Served<'_> {
    /// What the kernel calls it.
    pub(super) fn source(&self) -> String {
        format!("127.0.0.1:{}", self.path)
    }
}

/// Mounts it.
///
/// On Linux the kernel itself asks the server for the path (`-i` and `addr=`), so that
/// no package with helpers is needed. There is no lock manager: `nolock` and
/// `locallocks` keep locks on this machine, where all who see the mount are. `nolocks`,
/// without "local", would make every lock fail on macOS. The mount is `hard`, since a
/// store that is slow is no reason for an error; whether the server still lives is the
/// guard's business, on macOS the kernel's too (`deadtimeout`).
pub(super) fn mount(system: System, served: &Served<'_>, at: &Path) -> Words {
    let port = served.port;
    let mut options = match system {
        System::Linux => format!(
            "vers=3,proto=tcp,port={port},mountproto=tcp,mountport={port},addr=127.0.0.1,\
             nolock,hard,rsize=1048576,wsize=1048576,nosuid,nodev"
        ),
        System::MacOs => format!(
            "vers=3,tcp,port={port},mountport={port},locallocks,hard,intr,deadtimeout=180,\
             rdirplus,rsize=1048576,wsize=1048576,nosuid,nodev"
        ),
    };
    if served.is_read_only {
        options.push_str(",ro");
    }
    let mut words = match system {
        System::Linux => words(&["mount", "-i", "-t", "nfs", "-o"]),
        System::MacOs => words(&["mount_nfs", "-o"]),
    };
    words.push(options.into());
    words.push(served.source().into());
    words.push(at.into());
    words
}

/// How to unmount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Only if nothing is open.
    IfUnused,
    /// Away from the tree at once; who has files open may go on using them.
    Detach,
    /// Away, and whoever waits for the server gets an error: it is gone.
    Abandon,
}

/// Commands to unmount with: the first that succeeds is enough.
///
/// `-c` keeps `umount` from looking at the mount point, which would wait for a server that
/// is gone; not every `umount` knows it.
pub(super) fn unmount(system: System, manner: Manner, at: &Path) -> Vec<Words> {
    let commands: &[&[&str]] = match (system, manner) {
        (System::Linux, Manner::IfUnused) => &[&["umount", "-i"], &["umount"]],
        (System::Linux, Manner::Detach) => &[&["umount", "-i", "-c", "-l"], &["umount", "-l"]],
        (System::Linux, Manner::Abandon) => {
            &[&["umount", "-i", "-c", "-f", "-l"], &["umount", "-f", "-l"]]
        }
        (System::MacOs, Manner::IfUnused) => &[&["umount"]],
        (System::MacOs, Manner::Detach | Manner::Abandon) => {
            &[&["diskutil", "unmount", "force"], &["umount", "-f"]]
        }
    };
    let with_path = |command: &&[&str]| {
        let mut words = words(command);
        words.push(at.into());
        words
    };
    commands.iter().map(with_path).collect()
}

fn words(words: &[&str]) -> Words {
    words.iter().map(Into::into).collect()
}

/// A shell script that unmounts when its standard input ends, which is when we die. The
/// first line of the input is the source: not an argument, since those are for all to
/// see. `$1` is the mount point. A mount from another source is left alone.
///
/// Linux from 6.5 on also lets every request to the dead server fail, so that programs
/// which have files open do not wait for it. A mount command that was under way may come
/// to its end later, so it looks three times.
pub(super) fn guard_script(system: System) -> String {
    let (find, take_off) = match system {
        System::Linux => (
            r#"row=$(grep -sF -e " - nfs $source " /proc/self/mountinfo)"#,
            "set -- \"$at\" $row\n    echo 1 >\"/sys/fs/nfs/$4/shutdown\"\n    \
             umount -i -c -f -l \"$at\" || umount -f -l \"$at\"",
        ),
        System::MacOs => (
            r#"mount | grep -qF -e "$source on ""#,
            r#"diskutil unmount force "$at" || umount -f "$at""#,
        ),
    };
    format!(
        "trap '' HUP INT QUIT TERM\nset -f\nat=$1\nread -r source || exit 0\nread -r _\n\
         for _ in 1 2 3; do\n  if {find}; then\n    {take_off}\n  fi\n  sleep 1\ndone\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVED: Served<'_> = Served { port: 40000, path: "/tgcryptfs-0a1b", is_read_only: false };

    fn line(words: &Words) -> String {
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    #[test]
    fn the_words_for_linux() {
        let at = Path::new("/mnt/a b");
        assert_eq!(
            line(&mount(System::Linux, &SERVED, at)),
            "mount -i -t nfs -o vers=3,proto=tcp,port=40000,mountproto=tcp,mountport=40000,\
             addr=127.0.0.1,nolock,hard,rsize=1048576,wsize=1048576,nosuid,nodev \
             127.0.0.1:/tgcryptfs-0a1b /mnt/a b"
        );
        assert_eq!(mount(System::Linux, &SERVED, at).last(), Some(&"/mnt/a b".into()));
        let served = Served { is_read_only: true, ..SERVED };
        assert!(line(&mount(System::Linux, &served, at)).contains("nosuid,nodev,ro 127.0.0.1:/"));
        let lines =
            |manner| unmount(System::Linux, manner, at).iter().map(line).collect::<Vec<_>>();
        assert_eq!(lines(Manner::IfUnused), ["umount -i /mnt/a b", "umount /mnt/a b"]);
        assert_eq!(lines(Manner::Detach), ["umount -i -c -l /mnt/a b", "umount -l /mnt/a b"]);
        assert_eq!(
            lines(Manner::Abandon),
            ["umount -i -c -f -l /mnt/a b", "umount -f -l /mnt/a b"]
        );
    }

    #[test]
    fn the_words_for_macos() {
        let at = Path::new("/Users/me/files");
        assert_eq!(
            line(&mount(System::MacOs, &SERVED, at)),
            "mount_nfs -o vers=3,tcp,port=40000,mountport=40000,locallocks,hard,intr,\
             deadtimeout=180,rdirplus,rsize=1048576,wsize=1048576,nosuid,nodev \
             127.0.0.1:/tgcryptfs-0a1b /Users/me/files"
        );
        let lines =
            |manner| unmount(System::MacOs, manner, at).iter().map(line).collect::<Vec<_>>();
        assert_eq!(lines(Manner::IfUnused), ["umount /Users/me/files"]);
        for manner in [Manner::Detach, Manner::Abandon] {
            assert_eq!(
                lines(manner),
                ["diskutil unmount force /Users/me/files", "umount -f /Users/me/files"]
            );
        }
    }

    #[test]
    fn the_guards_script_is_a_script_and_leaves_others_alone() {
        for system in [System::Linux, System::MacOs] {
            let script = guard_script(system);
            let checked = std::process::Command::new("sh").args(["-n", "-c", &script]).status();
            assert!(checked.unwrap().success(), "{script}");
            assert!(!script.contains("tgcryptfs-"), "the path is no argument");
        }
    }
}
