//! What opens a vault, and files that hold it.
//!
//! A passphrase is compared as people mean it: Unicode in composed form (NFC),
//! whatever the keyboard made. A file counts only if nobody else can read or
//! replace it.

use super::recovery::RecoveryCode;
use super::slot::SlotKind;
use rustix::fs::{FileType, Mode, OFlags};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

/// Bytes of a password file at most.
const PASSWORD_FILE_LEN_MAX: usize = 4 << 10;
/// Bytes of a key file at least: fewer can be guessed.
const KEY_FILE_LEN_MIN: usize = 32;
/// Bytes of a key file at most.
const KEY_FILE_LEN_MAX: usize = 64 << 10;

/// What opens a key slot.
#[derive(Debug)]
pub enum Credential {
    /// A passphrase.
    Passphrase(Passphrase),
    /// A recovery code.
    Recovery(RecoveryCode),
    /// The content of a key file.
    KeyFile(KeyFile),
}

impl Credential {
    /// The kind of slot it opens.
    #[must_use]
    pub fn kind(&self) -> SlotKind {
        match self {
            Self::Passphrase(_) => SlotKind::Passphrase,
            Self::Recovery(_) => SlotKind::Recovery,
            Self::KeyFile(_) => SlotKind::KeyFile,
        }
    }
}

/// A passphrase in NFC, not empty.
pub struct Passphrase(Zeroizing<String>);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

impl Passphrase {
    /// Takes a passphrase as it was typed.
    ///
    /// # Errors
    ///
    /// [`PasswordError::Empty`] if there is none.
    pub fn new(typed: &str) -> Result<Self, PasswordError> {
        if typed.is_empty() {
            return Err(PasswordError::Empty);
        }
        // NFC makes UTF-8 at most three times as long, so the text never moves
        // and leaves no copy.
        let mut normalised = Zeroizing::new(String::with_capacity(3 * typed.len()));
        normalised.extend(typed.nfc());
        Ok(Self(normalised))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Says whether two are the same; for asking twice.
    #[must_use]
    pub fn is_equal(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq as _;
        self.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

/// The content of a key file: 32 bytes to 64 KiB that nobody can guess.
pub struct KeyFile(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyFile(…)")
    }
}

impl KeyFile {
    /// Takes a key file's content.
    ///
    /// # Errors
    ///
    /// [`PasswordError::KeyLength`] if it is too short or too long.
    pub fn new(content: Zeroizing<Vec<u8>>) -> Result<Self, PasswordError> {
        let len = content.len();
        if (KEY_FILE_LEN_MIN..=KEY_FILE_LEN_MAX).contains(&len) {
            Ok(Self(content))
        } else {
            Err(PasswordError::KeyLength { len })
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Why a passphrase or key file is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// There is nothing in it.
    #[error("the passphrase is empty")]
    Empty,
    /// It is not text.
    #[error("the passphrase in {} is not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A key file has a length that no key file has.
    #[error("a key file has 32 bytes to 64 KiB, not {len} bytes")]
    KeyLength {
        /// Its length, bytes.
        len: usize,
    },
    /// The file is longer than allowed.
    #[error("{} is longer than {max} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most allowed, bytes.
        max: usize,
    },
    /// The name is a symbolic link, which its owner could point elsewhere.
    #[error("{} is a symbolic link: give the file itself", path.display())]
    Symlink {
        /// The file.
        path: PathBuf,
    },
    /// The name is a directory, a pipe or a device.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else owns it and can change it.
    #[error("{} belongs to user {owner}: it must belong to you or to root", path.display())]
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Others may read or change it.
    #[error("others may use {} (mode {mode:03o}): chmod 600 {}", path.display(), path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

/// Reads a passphrase from a file; one line end behind it does not count.
///
/// # Errors
///
/// [`PasswordError`] if the file is not safe to use or holds no passphrase.
pub fn read_file(path: &Path) -> Result<Passphrase, PasswordError> {
    let content = read_private(path, PASSWORD_FILE_LEN_MAX)?;
    let line = content
        .strip_suffix(b"\n")
        .map_or(&content[..], |line| line.strip_suffix(b"\r").unwrap_or(line));
    let text =
        std::str::from_utf8(line).map_err(|_| PasswordError::NotText { path: path.to_owned() })?;
    Passphrase::new(text)
}

/// Reads a key file; every byte of it counts.
///
/// # Errors
///
/// [`PasswordError`] if the file is not safe to use or no key file.
pub fn read_key_file(path: &Path) -> Result<KeyFile, PasswordError> {
    KeyFile::new(read_private(path, KEY_FILE_LEN_MAX)?)
}

/// Reads a file that only its owner can use. The checks are on what was opened,
/// so nothing can be exchanged between checking and reading.
fn read_private(path: &Path, len_max: usize) -> Result<Zeroizing<Vec<u8>>, PasswordError> {
    let path = || path.to_owned();
    let io = |source| PasswordError::Io { path: path(), source };
    // Not waiting: opening a pipe would hang otherwise.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = match rustix::fs::open(path(), flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::LOOP) => return Err(PasswordError::Symlink { path: path() }),
        Err(errno) => return Err(io(errno.into())),
    };
    let metadata = file.metadata().map_err(io)?;
    if FileType::from_raw_mode(metadata.mode()) != FileType::RegularFile {
        return Err(PasswordError::NotAFile { path: path() });
    }
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user && owner != 0 {
        return Err(PasswordError::ForeignOwner { path: path(), owner });
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(PasswordError::OpenToOthers { path: path(), mode: metadata.mode() & 0o777 });
    }

    let mut content = Zeroizing::new(vec![0; len_max + 1]);
    let mut len = 0;
    while len <= len_max {
        match file.read(&mut content[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io(error)),
        }
    }
    if len > len_max {
        return Err(PasswordError::TooLong { path: path(), max: len_max });
    }
    content.truncate(len);
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    struct Dir(tempfile::TempDir);

    impl Dir {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn file(&self, content: &[u8], mode: u32) -> PathBuf {
            let path = self.0.path().join("password");
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }
    }

    fn read(content: &[u8]) -> Result<Vec<u8>, PasswordError> {
        let dir = Dir::new();
        read_file(&dir.file(content, 0o600)).map(|passphrase| passphrase.as_bytes().to_vec())
    }

    #[test]
    fn passphrases_are_composed() {
        let composed = Passphrase::new("caf\u{e9} \u{ac00}").unwrap();
        let decomposed = Passphrase::new("cafe\u{301} \u{1100}\u{1161}").unwrap();
        assert!(composed.is_equal(&decomposed));
        assert!(!composed.is_equal(&Passphrase::new("cafe \u{ac00}").unwrap()));
        assert!(matches!(Passphrase::new(""), Err(PasswordError::Empty)));
        assert_eq!(format!("{composed:?}"), "Passphrase(…)");
        // The longest growth there is: one character becomes three.
        let grown = Passphrase::new("\u{1d160}\u{fb2c}").unwrap();
        assert!(grown.as_bytes().len() <= 3 * 7);
    }

    #[test]
    fn s32_one_line_end_is_stripped() {
        assert_eq!(read(b"secret").unwrap(), b"secret");
        assert_eq!(read(b"secret\n").unwrap(), b"secret");
        assert_eq!(read(b"secret\r\n").unwrap(), b"secret");
        assert_eq!(read(b"secret\n\n").unwrap(), b"secret\n");
        assert_eq!(read(b"secret\r").unwrap(), b"secret\r");
        assert_eq!(read(b" secret \n").unwrap(), b" secret ");
    }

    #[test]
    fn s32_empty_long_and_binary_files_are_refused() {
        for empty in [&b""[..], b"\n", b"\r\n"] {
            assert!(matches!(read(empty), Err(PasswordError::Empty)));
        }
        assert_eq!(read(&[b'x'; 4096]).unwrap().len(), 4096);
        assert!(matches!(read(&[b'x'; 4097]), Err(PasswordError::TooLong { max: 4096, .. })));
        assert!(matches!(read(b"\xff\xfe"), Err(PasswordError::NotText { .. })));
    }

    #[test]
    fn s32_files_open_to_others_are_refused_with_the_remedy() {
        for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
            let dir = Dir::new();
            let path = dir.file(b"secret", mode);
            let error = read_file(&path).unwrap_err();
            assert!(matches!(error, PasswordError::OpenToOthers { .. }), "mode {mode:o}");
            assert!(error.to_string().ends_with(&format!("chmod 600 {}", path.display())));
        }
        for mode in [0o600, 0o400] {
            let dir = Dir::new();
            assert!(read_file(&dir.file(b"secret", mode)).is_ok());
        }
    }

    #[test]
    fn s32_symlinks_directories_and_pipes_are_refused() {
        let dir = Dir::new();
        let path = dir.file(b"secret", 0o600);
        let link = dir.0.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(read_file(&link), Err(PasswordError::Symlink { .. })));
        assert!(matches!(read_file(dir.0.path()), Err(PasswordError::NotAFile { .. })));
        let pipe = dir.0.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(matches!(read_file(&pipe), Err(PasswordError::NotAFile { .. })));
        let missing = read_file(&dir.0.path().join("missing")).unwrap_err();
        assert!(matches!(missing, PasswordError::Io { .. }));
    }

    #[test]
    fn s32_a_file_of_somebody_else_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return; // Only root can give files away.
        }
        let dir = Dir::new();
        let path = dir.file(b"secret", 0o600);
        std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
        assert!(matches!(read_file(&path), Err(PasswordError::ForeignOwner { owner: 12_345, .. })));
    }

    #[test]
    fn key_files_keep_every_byte_and_have_bounds() {
        let dir = Dir::new();
        let key = read_key_file(&dir.file(&[b'\n'; 32], 0o600)).unwrap();
        assert_eq!(key.as_bytes(), [b'\n'; 32]);
        let short = read_key_file(&dir.file(&[1; 31], 0o600)).unwrap_err();
        assert!(matches!(short, PasswordError::KeyLength { len: 31 }));
        assert!(read_key_file(&dir.file(&[1; 65_536], 0o600)).is_ok());
        let long = read_key_file(&dir.file(&[1; 65_537], 0o600)).unwrap_err();
        assert!(matches!(long, PasswordError::TooLong { .. }));
    }
}
