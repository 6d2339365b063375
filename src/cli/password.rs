//! Where a password comes from. Never from an argument: other users see those.
//!
//! In this order: `--password-file` (`-` is standard input), `--key-file` or
//! `--recovery-code-file`; `TGCRYPTFS_PASSWORD_FILE`; the file `tgcryptfs-password`
//! in `CREDENTIALS_DIRECTORY` (systemd's `LoadCredential=`); a prompt, if standard
//! input is a terminal.

use super::context::Context;
use super::exit::{Code, Failure, OrFail};
use crate::config::refuse_shared_file;
use crate::vault::{self, Credential, KeyFile, Passphrase, RecoveryCode};
use anyhow::Result;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest password or code that is read from a stream, bytes.
const STREAM_SIZE_MAX: u64 = 64 << 10;

/// How a vault is unlocked; a group of flags for every command that opens one.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(multiple = false)]
pub(super) struct SecretArgs {
    /// Read the password from this file (mode 0600), or from standard input with -
    #[arg(long, value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
    /// Unlock with this key file (mode 0600) instead of a password
    #[arg(long, value_name = "FILE")]
    pub(super) key_file: Option<PathBuf>,
    /// Unlock with the recovery code in this file (mode 0600), or ask for it with -
    #[arg(long, value_name = "FILE")]
    pub(super) recovery_code_file: Option<PathBuf>,
}

impl SecretArgs {
    /// The secret of an existing vault.
    pub(super) fn obtain(&self, context: &Context) -> Result<Credential> {
        match self.obtain_quietly(context)? {
            Some(secret) => Ok(secret),
            None => Ok(Credential::Passphrase(ask("password: ")?)),
        }
    }

    /// The secret for a new vault: a prompt asks twice.
    pub(super) fn obtain_new(&self, context: &Context) -> Result<Credential> {
        match self.obtain_quietly(context)? {
            Some(Credential::Recovery(_)) => {
                let message = "use --password-file or --key-file: a new vault gets its own \
                               recovery code";
                Err(Failure::new(Code::Usage, message).into())
            }
            Some(secret) => Ok(secret),
            None => Ok(Credential::Passphrase(ask_twice()?)),
        }
    }

    /// The secret if somebody left it where it can be read without asking.
    pub(super) fn obtain_quietly(&self, context: &Context) -> Result<Option<Credential>> {
        if let Some(path) = &self.key_file {
            return Ok(Some(Credential::KeyFile(read_key_file(path)?)));
        }
        if let Some(path) = &self.recovery_code_file {
            let code = match (is_stdin(path), std::io::stdin().is_terminal()) {
                (true, true) => ask_text("recovery code: ")?,
                (true, false) => first_line(std::io::stdin().lock())?,
                (false, _) => read_private_text(path)?,
            };
            return Ok(Some(Credential::Recovery(parse_code(&code)?)));
        }
        let named = self.password_file.clone();
        let named = named.or_else(|| {
            context.variable("TGCRYPTFS_PASSWORD_FILE").filter(|v| !v.is_empty()).map(PathBuf::from)
        });
        let path = named.or_else(|| {
            let dir = context.variable("CREDENTIALS_DIRECTORY")?;
            Some(Path::new(dir).join("tgcryptfs-password")).filter(|path| path.exists())
        });
        path.map(|path| Ok(Credential::Passphrase(read_password(&path)?))).transpose()
    }
}

/// Reads a password file, or standard input for `-`.
pub(super) fn read_password(path: &Path) -> Result<Passphrase> {
    if is_stdin(path) {
        return match std::io::stdin().is_terminal() {
            true => ask("password: "),
            false => passphrase(&first_line(std::io::stdin().lock())?),
        };
    }
    refuse_shared_file(path, "a password")?;
    Ok(vault::password::read_file(path).or_fail(
        Code::SecretUnreadable,
        format!("give a password file that can be used, not {}", path.display()),
    )?)
}

/// Reads a private file with a recovery code in it.
fn read_private_text(path: &Path) -> Result<Zeroizing<String>> {
    refuse_shared_file(path, "a recovery code")?;
    let file = std::fs::File::open(path);
    let message = format!("make the recovery code in {} readable", path.display());
    first_line(file.or_fail(Code::SecretUnreadable, message)?)
}

fn passphrase(text: &str) -> Result<Passphrase> {
    Ok(Passphrase::new(text)
        .or_fail(Code::SecretUnreadable, "give a password that is not empty")?)
}

fn read_key_file(path: &Path) -> Result<KeyFile> {
    refuse_shared_file(path, "a key")?;
    Ok(vault::password::read_key_file(path).or_fail(
        Code::SecretUnreadable,
        format!("give another key file than {}", path.display()),
    )?)
}

/// Reads a recovery code that somebody typed or kept in a file.
fn parse_code(text: &str) -> Result<RecoveryCode> {
    let advice = "check the recovery code: nine groups of four letters and digits";
    Ok(RecoveryCode::parse(text).or_fail(Code::WrongSecret, advice)?)
}

/// Asks on the terminal, twice, for a password that does not exist yet.
pub(super) fn ask_twice() -> Result<Passphrase> {
    let first = ask("new password: ")?;
    if first.is_equal(&ask("new password again: ")?) {
        return Ok(first);
    }
    Err(Failure::new(Code::SecretUnreadable, "try again: the two passwords differ").into())
}

fn ask(prompt: &str) -> Result<Passphrase> {
    passphrase(&ask_text(prompt)?)
}

fn ask_text(prompt: &str) -> Result<Zeroizing<String>> {
    if !std::io::stdin().is_terminal() {
        let message = "give --password-file FILE (or - for standard input): there is no terminal \
                       to ask on";
        return Err(Failure::new(Code::SecretUnreadable, message).into());
    }
    let answer = rpassword::prompt_password(prompt)
        .or_fail(Code::SecretUnreadable, "give --password-file FILE: cannot read the terminal")?;
    Ok(Zeroizing::new(answer))
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// The first line of a stream, without its end.
pub fn first_line(stream: impl Read) -> Result<Zeroizing<String>> {
    // One allocation that never grows: growing would leave a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(STREAM_SIZE_MAX as usize + 32));
    let advice = "send the password on standard input";
    stream.take(STREAM_SIZE_MAX).read_to_end(&mut bytes).or_fail(Code::SecretUnreadable, advice)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).or_fail(Code::SecretUnreadable, advice)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Writes a credential for the daemon's end of a pipe: its kind, a newline, its bytes.
pub fn hand_over(credential: &Credential, pipe: &mut impl std::io::Write) -> std::io::Result<()> {
    let code;
    let (kind, bytes) = match credential {
        Credential::Passphrase(text) => ("passphrase", text.as_bytes()),
        Credential::KeyFile(content) => ("key-file", content.as_bytes()),
        Credential::Recovery(recovery) => {
            code = recovery.to_text();
            ("recovery-code", code.as_bytes())
        }
    };
    pipe.write_all(kind.as_bytes())?;
    pipe.write_all(b"\n")?;
    pipe.write_all(bytes)
}

/// Reads what [`hand_over`] wrote, to the end of the pipe.
pub fn take_over(pipe: impl Read) -> Result<Credential> {
    // As in `first_line`: the buffer never grows.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * STREAM_SIZE_MAX as usize));
    let advice = "start the mount again: the password did not arrive";
    pipe.take(2 * STREAM_SIZE_MAX - 32)
        .read_to_end(&mut bytes)
        .or_fail(Code::SecretUnreadable, advice)?;
    let broken = || Failure::new(Code::SecretUnreadable, advice);
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(broken)?;
    let (kind, rest) = (&bytes[..end], &bytes[end + 1..]);
    let text = || std::str::from_utf8(rest).map_err(|_| broken());
    match kind {
        b"passphrase" => Ok(Credential::Passphrase(passphrase(text()?)?)),
        b"recovery-code" => Ok(Credential::Recovery(parse_code(text()?)?)),
        b"key-file" => {
            let content = Zeroizing::new(rest.to_vec());
            Ok(Credential::KeyFile(KeyFile::new(content).map_err(|_| broken())?))
        }
        _ => Err(broken().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit;
    use std::os::unix::fs::PermissionsExt;

    fn file(dir: &tempfile::TempDir, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_password_file_must_be_private_and_hold_something() {
        let dir = tempfile::tempdir().unwrap();
        let good = file(&dir, "good", b"correct horse\n", 0o600);
        assert_eq!(read_password(&good).unwrap().as_bytes(), b"correct horse");
        for (name, bytes, mode) in
            [("shared", &b"x"[..], 0o644), ("group", b"x", 0o640), ("empty", b"\n", 0o600)]
        {
            let error = read_password(&file(&dir, name, bytes, mode)).unwrap_err();
            assert_eq!(exit::code_of(&error), Code::SecretUnreadable, "{name}");
        }
        let error = read_password(&dir.path().join("missing")).unwrap_err();
        assert_eq!(exit::code_of(&error), Code::SecretUnreadable);
    }

    #[test]
    fn a_key_file_has_a_size() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_key_file(&file(&dir, "a", &[7; 32], 0o600)).unwrap().as_bytes(), [7; 32]);
        for (name, size, mode) in [("b", 31, 0o600), ("c", 65_537, 0o600), ("d", 64, 0o644)] {
            let error = read_key_file(&file(&dir, name, &vec![7; size], mode)).unwrap_err();
            assert_eq!(exit::code_of(&error), Code::SecretUnreadable, "{name}");
        }
    }

    #[test]
    fn a_stream_gives_its_first_line() {
        assert_eq!(**first_line(&b"one\r\ntwo\n"[..]).unwrap(), *"one");
        assert_eq!(**first_line(&b"only"[..]).unwrap(), *"only");
        assert!(first_line(&b"\xff\xfe\n"[..]).is_err());
    }

    #[test]
    fn credentials_survive_the_pipe() {
        let env = crate::env::Env::simulated(1).0;
        let credentials = [
            Credential::Passphrase(Passphrase::new("two\nlines").unwrap()),
            Credential::Recovery(RecoveryCode::generate(&env)),
            Credential::KeyFile(KeyFile::new(Zeroizing::new(vec![10; 65_536])).unwrap()),
        ];
        for credential in credentials {
            let mut pipe = Vec::new();
            hand_over(&credential, &mut pipe).unwrap();
            let taken = take_over(&pipe[..]).unwrap();
            let mut again = Vec::new();
            hand_over(&taken, &mut again).unwrap();
            assert_eq!(pipe, again);
        }
        for garbage in [&b""[..], b"passphrase", b"magic\nword", b"passphrase\n\xff"] {
            assert!(take_over(garbage).is_err());
        }
    }
}
