//! `init`: makes a vault in a store, or attaches this machine to the vault that is
//! there. It never overwrites: neither a vault, nor what a configuration file says.

use super::context::Context;
use super::exit::{Code, Failure, OrFail};
use super::lock::make_private_dir;
use super::password::SecretArgs;
use super::session::{self, Create};
use super::vault_ops;
use crate::config::{FlagValue, Layers, Loaded, save_keys};
use crate::env::sync_dir;
use anyhow::Result;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Times the retyped groups may be wrong before the program gives up asking.
const RETYPE_ATTEMPTS: usize = 3;

/// Make a vault in a store, or attach this machine to the one that is there
#[derive(Debug, clap::Args)]
pub(super) struct Init {
    /// Where the sealed objects live, as file:///srv/vault
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Unit of deduplication and encryption of a new vault, as 128KiB
    #[arg(long, value_name = "SIZE")]
    block_size: Option<String>,
    /// Write the recovery code into this new file instead of showing it
    #[arg(long, value_name = "FILE")]
    recovery_file: Option<PathBuf>,
    /// Telegram API id from my.telegram.org; kept for the Telegram store
    #[arg(long, value_name = "ID", requires = "api_hash")]
    api_id: Option<String>,
    /// Telegram API hash from my.telegram.org; kept for the Telegram store
    #[arg(long, value_name = "HASH", requires = "api_id")]
    api_hash: Option<String>,
    #[command(flatten)]
    secret: SecretArgs,
}

impl Init {
    /// The configuration keys its flags set.
    pub(super) fn flags(&self) -> Vec<FlagValue> {
        let flags = [
            ("store", "--store", &self.store),
            ("chunk.block_size", "--block-size", &self.block_size),
            ("telegram.api_id", "--api-id", &self.api_id),
            ("telegram.api_hash", "--api-hash", &self.api_hash),
        ];
        flags
            .into_iter()
            .filter_map(|(key, flag, value)| {
                let value = value.clone()?;
                Some(FlagValue { key: key.to_owned(), value, flag: flag.to_owned() })
            })
            .collect()
    }

    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let file = context.config_file()?;
        let telegram = self.telegram_entries(context);
        let is_telegram_only = context.loaded.config.store.is_none() && !telegram.is_empty();
        if is_telegram_only {
            save(&file, &telegram)?;
            println!("the Telegram credentials are in {}", file.display());
            println!(
                "this build has no Telegram store yet; use tgcryptfs init --store file:///path"
            );
            return Ok(());
        }
        context.check_supported()?;
        let url = context.store_url()?;
        refuse_other_store(&file, &url)?;
        let store = session::open_store(context, Create::Yes)?;
        let id = if vault_ops::exists(&store)? {
            self.attach(context, &store)?
        } else {
            self.create(context, &store)?
        };
        let mut entries = telegram;
        entries.push(("store", url.clone().into()));
        save(&file, &entries)?;
        println!("vault {id} in {url}; next: tgcryptfs mount DIRECTORY");
        Ok(())
    }

    fn telegram_entries(&self, context: &Context) -> Vec<(&'static str, Value)> {
        let telegram = &context.loaded.config.telegram;
        match (&self.api_id, telegram.api_id, &telegram.api_hash) {
            (Some(_), Some(id), Some(hash)) => {
                vec![("telegram.api_id", id.into()), ("telegram.api_hash", hash.reveal().into())]
            }
            _ => vec![],
        }
    }

    fn attach(&self, context: &Context, store: &session::Store) -> Result<String> {
        eprintln!("the store holds a vault; attaching this machine to it");
        vault_ops::unlock(context, store, &self.secret.obtain(context)?)
    }

    fn create(&self, context: &Context, store: &session::Store) -> Result<String> {
        // Opened before the vault exists: a code that cannot be written is a lost code.
        let recovery_file = self.recovery_file.as_deref().map(create_secret_file).transpose()?;
        let created = self
            .secret
            .obtain_new(context)
            .and_then(|secret| session::create_vault(context, store, &secret));
        let vault = match (created, &self.recovery_file) {
            (Ok(vault), _) => vault,
            (Err(error), path) => {
                if let Some(path) = path {
                    // It is empty and was made by this call.
                    drop(std::fs::remove_file(path));
                }
                return Err(error);
            }
        };
        hand_out_code(&vault.recovery_code, recovery_file.zip(self.recovery_file.as_deref()))?;
        Ok(vault.vault_id)
    }
}

/// Gives the recovery code to the user, into a file or on the screen.
pub(super) fn hand_out_code(code: &str, file: Option<(File, &Path)>) -> Result<()> {
    if let Some((file, path)) = file {
        if write_code(code, file, path).is_ok() {
            eprintln!("the recovery code is in {}; move it to a safe place", path.display());
            return Ok(());
        }
        eprintln!("cannot write {}; here is the recovery code instead", path.display());
    }
    println!("recovery code: {code}");
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        println!("Write it down now: it opens the vault without the password, and it is not kept.");
        confirm_written_down(code, &mut io::stdin().lock());
    }
    Ok(())
}

/// Writes the recovery code into its file, which survives a power cut from then on.
fn write_code(code: &str, mut file: File, path: &Path) -> io::Result<()> {
    writeln!(file, "{code}")?;
    file.sync_all()?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    sync_dir(&File::open(dir.unwrap_or(Path::new(".")))?)
}

/// Makes a new file that only its owner can read; one that exists is never touched.
pub(super) fn create_secret_file(path: &Path) -> Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let message = format!("name a new file for the recovery code: cannot make {}", path.display());
    Ok(file.or_fail(Code::SecretUnreadable, message)?)
}

/// Asks for two groups of the code, which nobody who only looked at it can type.
fn confirm_written_down(code: &str, answers: &mut impl BufRead) {
    let groups: Vec<&str> = code.split('-').collect();
    // Which two is no secret; not the first, which is still in view at the end of a line.
    for number in [groups.len() / 2, groups.len().saturating_sub(1)] {
        let expected = groups.get(number.saturating_sub(1)).copied().unwrap_or_default();
        let is_right = (0..RETYPE_ATTEMPTS).any(|_| {
            print!("type group {number} of the code again: ");
            drop(io::stdout().flush());
            let mut answer = String::new();
            drop(answers.read_line(&mut answer));
            answer.trim().eq_ignore_ascii_case(expected)
        });
        if !is_right {
            println!("That was not it. Make sure the code is written down: {code}");
            return;
        }
    }
}

/// Refuses to make a configuration file name another store than it does.
fn refuse_other_store(file: &Path, url: &str) -> Result<()> {
    if !file.exists() {
        return Ok(());
    }
    let alone = Loaded::load(&Layers { file: Some(file.to_owned()), ..Layers::default() })?;
    match &alone.config.store {
        Some(known) if session::parse_store_url(known)? != url => {
            let message = format!(
                "use --config FILE for a second vault: {} already names the store {known}",
                file.display()
            );
            Err(Failure::new(Code::Configuration, message).into())
        }
        _ => Ok(()),
    }
}

fn save(file: &Path, entries: &[(&'static str, Value)]) -> Result<()> {
    if let Some(dir) = file.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        make_private_dir(dir)?;
    }
    Ok(save_keys(file, entries)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "AAAA-BBBB-CCCC-DDDD-EEEE-FFFF-GGGG-HHHH-JJJJ";

    #[test]
    fn asks_until_both_groups_are_right_or_gives_up() {
        let mut right = &b"wrong\ndddd\n HHHH \nleft"[..];
        confirm_written_down(CODE, &mut right);
        assert_eq!(right, b"left");
        let mut wrong = &b"1\n2\n3\nleft"[..];
        confirm_written_down(CODE, &mut wrong);
        assert_eq!(wrong, b"left");
        confirm_written_down(CODE, &mut &b""[..]);
    }

    #[test]
    fn a_secret_file_is_new_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("code");
        let file = create_secret_file(&path).unwrap();
        hand_out_code(CODE, Some((file, &path))).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{CODE}\n"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(create_secret_file(&path).is_err());
    }

    #[test]
    fn a_configuration_keeps_its_store() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        refuse_other_store(&file, "file:///a").unwrap();
        save(&file, &[("store", "file:///a".into())]).unwrap();
        refuse_other_store(&file, "file:///a").unwrap();
        let error = refuse_other_store(&file, "file:///b").unwrap_err();
        assert_eq!(crate::cli::exit::code_of(&error), Code::Configuration);
    }
}
