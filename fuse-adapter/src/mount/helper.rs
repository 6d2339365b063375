//! `fusermount3`, the set-user-id program through which a normal user mounts and
//! unmounts.

use crate::error::MountError;
use std::io;
use std::path::Path;
use std::process::{Command, Output};

/// Where it is looked for; the first two along `PATH`, the others because a daemon's
/// `PATH` may be empty. `fusermount` is what FUSE 2 calls it.
const PROGRAMS: [&str; 4] =
    ["fusermount3", "fusermount", "/usr/bin/fusermount3", "/bin/fusermount3"];

/// Runs the first helper that exists, prepared by `prepare`.
pub(crate) fn run(prepare: impl Fn(&mut Command)) -> Result<Output, MountError> {
    for program in PROGRAMS {
        let mut command = Command::new(program);
        prepare(&mut command);
        match command.output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                let path = program.into();
                return Err(MountError::Io { action: "run", path, source });
            }
            Ok(output) => return Ok(output),
        }
    }
    Err(MountError::NoHelper)
}

/// Escapes a value in the helper's comma-separated options.
pub(crate) fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,")
}

/// Why the helper refused to mount, from what it wrote.
pub(crate) fn refusal(path: &Path, message: &str) -> MountError {
    let said = |what: &str| message.contains(what);
    let path = path.to_owned();
    let detail = message.trim().to_owned();
    if said("user_allow_other") {
        MountError::AllowOther
    } else if said("device not found") || said("/dev/fuse: No such") {
        MountError::NoDevice
    } else if said("/dev/fuse: Permission denied") {
        MountError::DeviceDenied
    } else if said("no write access") || said("not permitted") || said("Permission denied") {
        MountError::NotPermitted { path, detail }
    } else if detail.is_empty() {
        MountError::Helper { path, message: "it gave no reason".to_owned() }
    } else {
        MountError::Helper { path, message: detail }
    }
}

#[cfg(test)]
mod tests {
    use super::{MountError, escape, refusal};
    use std::path::Path;

    #[test]
    fn every_known_refusal_has_its_error() {
        // Verbatim from fusermount3 3.14.
        let of = |message| refusal(Path::new("/mnt"), message);
        assert!(matches!(
            of("fusermount3: option allow_other only allowed if 'user_allow_other' is set in \
                /etc/fuse.conf\n"),
            MountError::AllowOther
        ));
        assert!(matches!(
            of("fusermount3: failed to open /dev/fuse: Permission denied\n"),
            MountError::DeviceDenied
        ));
        assert!(matches!(
            of("fusermount3: fuse device not found, try 'modprobe fuse' first\n"),
            MountError::NoDevice
        ));
        assert!(matches!(
            of("fusermount3: user has no write access to mountpoint /mnt\n"),
            MountError::NotPermitted { .. }
        ));
        let other = of("fusermount3: too many FUSE filesystems mounted; mount_max=N can be set\n");
        assert!(other.to_string().contains("mount_max"), "{other}");
    }

    #[test]
    fn option_values_cannot_add_options() {
        assert_eq!(escape(r"a,suid\b"), r"a\,suid\\b");
    }
}
