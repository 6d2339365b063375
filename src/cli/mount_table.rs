//! Mount points: what the kernel says is mounted where, and freeing what a daemon
//! that died left behind.

use super::exit::{Code, Failure, OrFail};
use super::nfs_mount;
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name of the program in the kernel's table, as type or as source.
const NAME: &str = "tgcryptfs";

/// Where the kernel shows it.
const TABLE: &str = "/proc/self/mountinfo";

/// What the paths that we serve to our own mounts begin with.
pub(super) const NFS_PATH_START: &str = "/tgcryptfs-";

/// What lies at a mount point, on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounted {
    /// Nothing is mounted there.
    Nothing,
    /// One of ours, through FUSE.
    Fuse,
    /// One of ours, through NFS.
    Nfs {
        /// The port of the server, if the kernel tells.
        port: Option<u16>,
    },
    /// Something else.
    Other,
}

impl Mounted {
    /// Whether it is one of ours.
    pub(super) fn is_ours(self) -> bool {
        matches!(self, Self::Fuse | Self::Nfs { .. })
    }
}

/// What is mounted at `path`, which is absolute and free of links.
pub(super) fn mounted_at(path: &Path) -> Mounted {
    find(&read(), path)
}

/// The kernel's table; empty where there is none.
fn read() -> Vec<u8> {
    std::fs::read(TABLE).unwrap_or_default()
}

/// One line of the table.
struct Row<'a> {
    device: &'a [u8],
    at: PathBuf,
    kind: &'a [u8],
    source: &'a [u8],
    options: &'a [u8],
}

/// Bytes, because a mount point need not be UTF-8.
fn rows(table: &[u8]) -> impl Iterator<Item = Row<'_>> {
    table.split(|byte| *byte == b'\n').filter_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let separator = fields.iter().position(|field| *field == b"-")?;
        let after = |index: usize| fields.get(separator + index).copied();
        let at = unescape(fields.get(4)?);
        let device = fields.get(2)?;
        let options = after(3).unwrap_or_default();
        Some(Row { device, at, kind: after(1)?, source: after(2)?, options })
    })
}

/// What a table in the kernel's form says is mounted at `path`.
#[must_use]
pub fn find(table: &[u8], path: &Path) -> Mounted {
    // Later lines lie on top of earlier ones.
    let top = rows(table).filter(|row| row.at == path).last();
    top.map_or(Mounted::Nothing, |row| row.mounted())
}

impl Row<'_> {
    fn mounted(&self) -> Mounted {
        let is_named =
            self.kind.ends_with(NAME.as_bytes()) || self.source.starts_with(NAME.as_bytes());
        if self.kind.starts_with(b"fuse") && is_named {
            return Mounted::Fuse;
        }
        let is_nfs = self.kind == b"nfs" && is_own_source(self.source);
        if is_nfs { Mounted::Nfs { port: self.port() } } else { Mounted::Other }
    }

    /// The port of an NFS server.
    fn port(&self) -> Option<u16> {
        let options = std::str::from_utf8(self.options).ok()?;
        let value = |name: &str| options.split(',').find_map(|o| o.strip_prefix(name));
        value("port=").or_else(|| value("mountport="))?.parse().ok()
    }
}

/// Whether an NFS mount comes from a server of ours on this machine.
fn is_own_source(source: &[u8]) -> bool {
    let path = source.strip_prefix(b"127.0.0.1:");
    path.is_some_and(|path| path.starts_with(NFS_PATH_START.as_bytes()))
}

/// The device number of what is mounted from this source; it fails if the kernel does not
/// say what is mounted.
pub(super) fn device_of(source: &str) -> io::Result<Option<String>> {
    let table = std::fs::read(TABLE)?;
    Ok(device_in(&table, source))
}

fn device_in(table: &[u8], source: &str) -> Option<String> {
    let row = rows(table).find(|row| row.source == source.as_bytes())?;
    Some(String::from_utf8_lossy(row.device).into_owned())
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

/// Makes a mount point absolute without touching it, if it is one of ours: a dead mount
/// answers nothing, or never. Otherwise links are resolved.
pub(super) fn resolve(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let untouched = match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => parent.canonicalize().map(|parent| parent.join(name)),
        _ => Ok(absolute),
    };
    match untouched {
        Ok(untouched) if mounted_at(&untouched).is_ours() => Ok(untouched),
        untouched => path.canonicalize().or(untouched),
    }
}

/// Checks that a directory can be mounted on; frees it if a dead mount of ours is there.
pub(super) fn check_mount_point(path: &Path) -> Result<PathBuf, Failure> {
    let resolved = resolve(path)
        .or_fail(Code::MountPoint, format!("make the directory {} first", path.display()))?;
    let (is_ours, is_dead) = match mounted_at(&resolved) {
        Mounted::Fuse => (true, is_dead(&resolved)),
        Mounted::Nfs { port } => (true, !nfs_mount::is_served(port)),
        Mounted::Nothing | Mounted::Other => (false, false),
    };
    // What is dead may have freed itself between the two looks.
    if is_ours && !is_dead && mounted_at(&resolved).is_ours() {
        let message = format!("unmount {} first: it is mounted", resolved.display());
        return Err(Failure::new(Code::MountPoint, message));
    }
    if is_dead {
        log::warn!("freeing {}: the process that served it is gone", resolved.display());
        match mounted_at(&resolved) {
            Mounted::Nfs { .. } => nfs_mount::take_off(&resolved)?,
            _ => detach(&resolved, true)?,
        }
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

/// Whether the process behind a FUSE mount is gone.
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
    Err(Failure::because(Code::MountPoint, busy_advice(path), tried.join("; ")))
}

/// What to do about a mount point in use.
pub(super) fn busy_advice(path: &Path) -> String {
    format!("close what is open below {} (lsof +D shows it), or use --lazy", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        30 22 0:40 / /mnt/a\\040b rw,nosuid - fuse.tgcryptfs tgcryptfs rw,user_id=0\n\
        31 22 0:41 / /mnt/ssh rw - fuse.sshfs host: rw\n\
        32 22 0:42 / /mnt/plain rw shared:9 master:1 - fuse tgcryptfs rw\n\
        33 32 0:43 / /mnt/plain rw - tmpfs tmpfs rw\n\
        34 22 0:44 / /mnt/own rw - nfs 127.0.0.1:/tgcryptfs-00ff rw,vers=3,port=4711,addr=127.0.0.1\n\
        35 22 0:45 / /mnt/old rw - nfs 127.0.0.1:/tgcryptfs-00ff rw,vers=3,mountport=7,addr=127.0.0.1\n\
        36 22 0:46 / /mnt/nas rw - nfs nas:/tgcryptfs-00ff rw,vers=3,port=4711\n\
        37 22 0:47 / /mnt/lan rw - nfs 127.0.0.1:/srv rw,vers=3\n\
        garbage\n";

    #[test]
    fn reads_the_kernels_table() {
        let at = |path: &str| find(TABLE, Path::new(path));
        assert_eq!(at("/mnt/a b"), Mounted::Fuse);
        assert_eq!(at("/mnt/own"), Mounted::Nfs { port: Some(4711) });
        assert_eq!(at("/mnt/old"), Mounted::Nfs { port: Some(7) });
        assert_eq!(at("/mnt/nas"), Mounted::Other);
        assert_eq!(at("/mnt/lan"), Mounted::Other);
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
