//! Mount points: what the kernel says is mounted where, and freeing what a daemon
//! that died left behind.

use super::exit::{Code, Failure, OrFail};
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name of the program in the kernel's table, as type or as source.
const NAME: &str = "tgcryptfs";

/// What lies at a mount point, on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounted {
    /// Nothing is mounted there.
    Nothing,
    /// One of ours.
    Ours,
    /// Something else.
    Other,
}

/// What is mounted at `path`, which is absolute and free of links.
pub(super) fn mounted_at(path: &Path) -> Mounted {
    // Bytes, because a mount point need not be UTF-8.
    std::fs::read("/proc/self/mountinfo").map_or(Mounted::Nothing, |table| find(&table, path))
}

/// What a table in the kernel's form says is mounted at `path`.
#[must_use]
pub fn find(table: &[u8], path: &Path) -> Mounted {
    let mut found = Mounted::Nothing;
    for line in table.split(|byte| *byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let Some(separator) = fields.iter().position(|field| *field == b"-") else { continue };
        let (Some(at), Some(kind), Some(source)) =
            (fields.get(4), fields.get(separator + 1), fields.get(separator + 2))
        else {
            continue;
        };
        if unescape(at) == path {
            let is_fuse = kind.starts_with(b"fuse");
            let is_named = kind.ends_with(NAME.as_bytes()) || source.starts_with(NAME.as_bytes());
            // Later lines lie on top of earlier ones.
            found = if is_fuse && is_named { Mounted::Ours } else { Mounted::Other };
        }
    }
    found
}

/// Undoes the kernel's octal escapes for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

/// Makes a mount point absolute without touching it: a dead mount answers nothing.
/// Only the directory above it is resolved.
pub(super) fn resolve(path: &Path) -> io::Result<PathBuf> {
    if let Ok(resolved) = path.canonicalize() {
        return Ok(resolved);
    }
    let absolute = std::path::absolute(path)?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
        _ => Ok(absolute),
    }
}

/// Checks that a directory can be mounted on; frees it if a dead mount of ours is there.
pub(super) fn check_mount_point(path: &Path) -> Result<PathBuf, Failure> {
    let resolved = resolve(path)
        .or_fail(Code::MountPoint, format!("make the directory {} first", path.display()))?;
    if mounted_at(&resolved) == Mounted::Ours {
        if !is_dead(&resolved) {
            let message = format!("unmount {} first: it is mounted", resolved.display());
            return Err(Failure::new(Code::MountPoint, message));
        }
        log::warn!("freeing {}: the process that served it is gone", resolved.display());
        detach(&resolved, true)?;
    }
    match std::fs::metadata(&resolved) {
        Ok(data) if data.is_dir() => Ok(resolved),
        Ok(_) => {
            let message = format!("choose a directory: {} is none", resolved.display());
            Err(Failure::new(Code::MountPoint, message))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let message = format!("make the directory {} first", resolved.display());
            Err(Failure::new(Code::MountPoint, message))
        }
        Err(error) => {
            let message = format!("make {} accessible", resolved.display());
            Err(Failure::because(Code::MountPoint, message, error))
        }
    }
}

/// Whether the process behind a mount is gone.
fn is_dead(path: &Path) -> bool {
    // Not its attributes: the kernel keeps those for a while. This always asks the process.
    let gone = [Errno::NOTCONN, Errno::CONNABORTED];
    rustix::fs::statfs(path).is_err_and(|errno| gone.contains(&errno))
}

/// Unmounts with the system's own tool, the only one that may without being root.
pub(super) fn detach(path: &Path, is_lazy: bool) -> Result<(), Failure> {
    let mut tried = Vec::new();
    for (tool, flags, lazy_flag) in
        [("fusermount3", &["-u"][..], "-z"), ("fusermount", &["-u"], "-z"), ("umount", &[], "-l")]
    {
        let mut command = Command::new(tool);
        command.args(flags).args(is_lazy.then_some(lazy_flag)).arg("--").arg(path);
        match command.output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                tried.push(format!("{tool}: {said}"));
            }
            Err(error) => tried.push(format!("{tool}: {error}")),
        }
    }
    // Somebody else may have been faster: a mount whose process died frees itself.
    if mounted_at(path) == Mounted::Nothing {
        return Ok(());
    }
    let message =
        format!("close what is open below {} (lsof +D shows it), or use --lazy", path.display());
    Err(Failure::because(Code::MountPoint, message, tried.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        30 22 0:40 / /mnt/a\\040b rw,nosuid - fuse.tgcryptfs tgcryptfs rw,user_id=0\n\
        31 22 0:41 / /mnt/ssh rw - fuse.sshfs host: rw\n\
        32 22 0:42 / /mnt/plain rw shared:9 master:1 - fuse tgcryptfs rw\n\
        33 32 0:43 / /mnt/plain rw - tmpfs tmpfs rw\n\
        garbage\n";

    #[test]
    fn reads_the_kernels_table() {
        let at = |path: &str| find(TABLE, Path::new(path));
        assert_eq!(at("/mnt/a b"), Mounted::Ours);
        assert_eq!(at("/mnt/ssh"), Mounted::Other);
        assert_eq!(at("/"), Mounted::Other);
        assert_eq!(at("/mnt"), Mounted::Nothing);
        // Something was mounted over it.
        assert_eq!(at("/mnt/plain"), Mounted::Other);
    }

    #[test]
    fn undoes_escapes() {
        assert_eq!(unescape(br"/a\040b\134c\011"), PathBuf::from("/a b\\c\t"));
        assert_eq!(unescape(br"/a\9\0"), PathBuf::from(r"/a\9\0"));
    }

    #[test]
    fn refuses_what_is_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file, dir.path().join("missing"), dir.path().join("no/such")] {
            let failure = check_mount_point(&path).unwrap_err();
            assert_eq!(failure.code(), Code::MountPoint, "{}", path.display());
        }
        let real = dir.path().canonicalize().unwrap();
        assert_eq!(check_mount_point(dir.path()).unwrap(), real);
    }
}
