//! `passwd`, `key` and `recovery`: the ways into a vault. Each asks for the current
//! secret, also while the vault is mounted: whoever sits at an unlocked machine must
//! not be able to lock its owner out.

use super::context::Context;
use super::exit::{Code, Failure};
use super::init::{create_secret_file, hand_out_code};
use super::logging::utc;
use super::password::{SecretArgs, ask_twice, read_password};
use super::render;
use super::vault_ops::Unlocked;
use crate::vault::{Credential, SlotId, SlotInfo};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Change the password
#[derive(Debug, clap::Args)]
pub(super) struct Passwd {
    /// Read the new password from this file (mode 0600)
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
    #[command(flatten)]
    secret: SecretArgs,
}

impl Passwd {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let vault = Unlocked::new(context, &self.secret.obtain(context)?)?;
        let password = match &self.new_password_file {
            Some(path) => read_password(path)?,
            None => ask_twice()?,
        };
        vault.change_passphrase(&Credential::Passphrase(password))?;
        println!("the password is changed");
        Ok(())
    }
}

/// List, add or remove the ways to unlock the vault
#[derive(Debug, clap::Args)]
pub(super) struct Key {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, clap::Subcommand)]
enum KeyCommand {
    /// List the key slots
    List {
        /// Write JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        secret: SecretArgs,
    },
    /// Add a password or a key file
    Add {
        /// The key file to add (mode 0600, 32 bytes to 64 KiB)
        #[arg(long, value_name = "FILE", conflicts_with = "new_password_file")]
        new_key_file: Option<PathBuf>,
        /// File with the password to add (mode 0600)
        #[arg(long, value_name = "FILE")]
        new_password_file: Option<PathBuf>,
        #[command(flatten)]
        secret: SecretArgs,
    },
    /// Remove a key slot
    Remove {
        /// Id of the slot, as key list shows it
        id: String,
        #[command(flatten)]
        secret: SecretArgs,
    },
}

impl Key {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        match &self.command {
            KeyCommand::List { json, secret } => {
                let vault = Unlocked::new(context, &secret.obtain(context)?)?;
                let slots = vault.list().iter().map(describe).collect();
                render::print(&Value::Array(slots), *json);
            }
            KeyCommand::Add { new_key_file, new_password_file, secret } => {
                let vault = Unlocked::new(context, &secret.obtain(context)?)?;
                let new = match (new_key_file, new_password_file) {
                    (Some(_), _) => {
                        let args =
                            SecretArgs { key_file: new_key_file.clone(), ..Default::default() };
                        args.obtain(context)?
                    }
                    (None, Some(path)) => Credential::Passphrase(read_password(path)?),
                    (None, None) => Credential::Passphrase(ask_twice()?),
                };
                println!("added key slot {}", vault.add(&new)?);
            }
            KeyCommand::Remove { id, secret } => {
                let id = parse_id(id)?;
                Unlocked::new(context, &secret.obtain(context)?)?.remove(id)?;
                println!("removed key slot {id}");
            }
        }
        Ok(())
    }
}

fn describe(slot: &SlotInfo) -> Value {
    let created = i64::try_from(slot.created_s).unwrap_or(i64::MAX / 2);
    json!({ "id": slot.id.to_string(), "kind": slot.kind.to_string(), "created": utc(created) })
}

fn parse_id(text: &str) -> Result<SlotId> {
    let message = format!("give an id from key list, 16 hexadecimal digits, not {text}");
    SlotId::parse(text).ok_or_else(|| Failure::new(Code::Usage, message).into())
}

/// Replace the recovery code
#[derive(Debug, clap::Args)]
pub(super) struct Recovery {
    #[command(subcommand)]
    command: RecoveryCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RecoveryCommand {
    /// Explain why the code cannot be shown
    Show,
    /// Make a new recovery code; the old one stops working
    Rotate {
        /// Write the code into this new file instead of showing it
        #[arg(long, value_name = "FILE")]
        recovery_file: Option<PathBuf>,
        #[command(flatten)]
        secret: SecretArgs,
    },
}

impl Recovery {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let RecoveryCommand::Rotate { recovery_file, secret } = &self.command else {
            let message = "make a new one with tgcryptfs recovery rotate: the code is not kept \
                           anywhere, so it cannot be shown";
            return Err(Failure::new(Code::NotFound, message).into());
        };
        let vault = Unlocked::new(context, &secret.obtain(context)?)?;
        let code = vault.new_recovery_code();
        let file = recovery_file.as_deref().map(create_secret_file).transpose()?;
        // Handed out before the old one stops working: whatever happens in between, one of
        // the two is there and opens the vault.
        hand_out_code(&code.to_text(), file.zip(recovery_file.as_deref()))?;
        vault.rotate_recovery(code).context(
            "keep both recovery codes until another try succeeds: it is not known which of \
             them opens the vault now",
        )?;
        println!("the new recovery code opens the vault, and the old one no longer does");
        Ok(())
    }
}
