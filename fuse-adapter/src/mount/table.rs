//! The kernel's list of mounts, `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
//!
//! Reading it asks no file system anything, so a file system that hangs cannot make
//! its reader hang.
//!
//! The numbers in it are used again as soon as a mount is gone, so they alone do not say
//! that a mount is still the same one ([`unique_id`] does, since Linux 6.8).

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

const MOUNT_INFO: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Names the mount as long as it lasts, and then perhaps another one.
    pub(crate) id: u64,
    /// Device number of its files, `major:minor`.
    pub(crate) device: String,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its type, `fuse.` and the sub-type for ours.
    pub(crate) fs_type: String,
}

impl Row {
    /// Whether this may be an earlier reading of the same mount.
    pub(crate) fn resembles(&self, other: &Self) -> bool {
        self.id == other.id && self.device == other.device && self.fs_type == other.fs_type
    }

    /// Whether a FUSE process serves it.
    pub(crate) fn is_fuse(&self) -> bool {
        self.fs_type == "fuse" || self.fs_type.starts_with("fuse.")
    }
}

/// All mounts, later ones covering earlier ones.
pub(crate) fn read() -> io::Result<Vec<Row>> {
    Ok(parse(&std::fs::read(MOUNT_INFO)?))
}

/// The mount that is seen at `path`, if something is mounted right there.
pub(crate) fn top(path: &Path) -> io::Result<Option<Row>> {
    Ok(read()?.into_iter().rfind(|row| row.path == path))
}

/// A number of the mount seen at `path` that no other mount ever gets. The file system
/// is not asked, so this neither hangs nor fails on a dead one.
pub(crate) fn unique_id(path: &Path) -> Option<u64> {
    // `STATX_MNT_ID_UNIQUE`; older kernels do not set it in the answer.
    let unique = StatxFlags::from_bits_retain(0x4000);
    let seen = statx(CWD, path, AtFlags::STATX_DONT_SYNC, unique).ok()?;
    (seen.stx_mask & unique.bits() != 0).then_some(seen.stx_mnt_id)
}

/// The rows of a table; lines that are none are passed over.
pub(crate) fn parse(text: &[u8]) -> Vec<Row> {
    text.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Row> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let device = text(fields.nth(1)?);
    let path = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let fs_type = text(fields.skip_while(|field| *field != b"-").nth(1)?);
    Some(Row { id, device, path, fs_type })
}

/// Undoes the kernel's `\040` for space and its kin.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| byte == b'\\').and_then(octal);
        out.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    out
}

fn octal(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::{Row, parse};
    use std::path::PathBuf;

    #[test]
    fn rows_are_read_as_documented() {
        let text = br"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:9 - ext3 /dev/root rw
77 36 0:41 / /a\040b\134c\xe4 rw,nosuid - fuse.tgcryptfs vault rw,user_id=0
a line from the future
";
        let rows = parse(text);
        let row = |id, device: &str, path: &str, fs_type: &str| Row {
            id,
            device: device.to_owned(),
            path: PathBuf::from(path),
            fs_type: fs_type.to_owned(),
        };
        assert_eq!(
            rows,
            [row(36, "98:0", "/mnt2", "ext3"), row(77, "0:41", r"/a b\c\xe4", "fuse.tgcryptfs")]
        );
        assert!(rows[1].is_fuse() && !rows[0].is_fuse());
    }
}
