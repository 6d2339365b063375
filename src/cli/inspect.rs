//! `status`, `sync`, `cache` and `fsck`: questions to a vault. A running mount answers
//! them; otherwise the vault is opened for the time of the question.

use super::aside::{set_cache_aside, set_state_aside};
use super::context::Context;
use super::control::{Client, MountRecord, Request, all_mounts};
use super::exit::{Code, Failure};
use super::host::CLIENTS;
use super::lock::StateLock;
use super::logging::utc;
use super::password::SecretArgs;
use super::progress::{Silent, TerminalProgress};
use super::render;
use super::service::Service;
use super::session::{Session, cache_dir};
use anyhow::Result;
use serde_json::{Value, json};

/// Show what is mounted or served and how it is
#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    secret: SecretArgs,
}

impl Status {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let mut mounts = Vec::new();
        for (record, client, _) in all_mounts(&context.state_root()?) {
            // One mount that does not answer must not hide the others.
            let inside = client.call(&Request::Status, &Silent);
            mounts.push(describe(&record, inside));
        }
        let mut report = json!({ "mounts": mounts });
        if mounts.is_empty() {
            report["store"] = context.loaded.config.store.clone().into();
            // Status asks no questions of its own: it looks inside if a secret lies ready.
            if let (Some(_), Some(secret)) =
                (&context.loaded.config.store, self.secret.obtain_quietly(context)?)
            {
                let progress = TerminalProgress::new(&context.env);
                let session = Session::open(context, &secret, true, &progress)?;
                report["vault"] = session.service.handle(&Request::Status, &progress)?;
                session.close()?;
            }
        }
        render::print(&report, self.json);
        Ok(())
    }
}

fn describe(record: &MountRecord, inside: Result<Value, Failure>) -> Value {
    let mut report = json!({
        "mount_point": record.mount_point,
        "store": record.store,
        "via": record.via,
        "is_read_only": record.is_read_only,
        "since": utc(record.since_s),
        "pid": record.pid,
        "log": record.log,
    });
    if let Some(address) = &record.address {
        report["address"] = address.clone().into();
    }
    match inside {
        Ok(mut value) => {
            if let Some(clients) = value.as_object_mut().and_then(|v| v.remove(CLIENTS)) {
                report[CLIENTS] = clients;
            }
            report["vault"] = value;
        }
        Err(failure) => report["error"] = failure.to_string().into(),
    }
    report
}

/// Upload everything that is not in the store yet
#[derive(Debug, clap::Args)]
pub(super) struct Sync {
    /// Then check that the store holds everything this file system refers to
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    secret: SecretArgs,
}

impl Sync {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let report = ask(context, &self.secret, &Request::Sync { is_full: self.full })?;
        if self.full { conclude(&report, false) } else { Ok(()) }
    }
}

/// Show what the local cache holds, or clear it
#[derive(Debug, clap::Args)]
pub(super) struct Cache {
    /// Forget everything that can be fetched from the store again
    #[arg(long)]
    clear: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    secret: SecretArgs,
}

impl Cache {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let request = if self.clear { Request::CacheClear } else { Request::CacheStats };
        render::print(&ask(context, &self.secret, &request)?, self.json);
        Ok(())
    }
}

/// Check that store and local state are whole
#[derive(Debug, clap::Args)]
pub(super) struct Fsck {
    /// Set the local state aside and build it again from the store
    #[arg(long)]
    rebuild: bool,
    /// With --rebuild: go on although data that is not uploaded stays in what is set aside
    #[arg(long, requires = "rebuild")]
    force: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    secret: SecretArgs,
}

impl Fsck {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        if self.rebuild {
            return self.rebuild(context);
        }
        conclude(&ask(context, &self.secret, &Request::Fsck)?, self.json)
    }

    fn rebuild(&self, context: &Context) -> Result<()> {
        let paths = context.paths()?;
        // Also refuses while something has the vault open.
        drop(StateLock::take(&paths.state)?);
        let secret = self.secret.obtain(context)?;
        let progress = TerminalProgress::new(&context.env);
        if !self.force {
            let uploaded = Session::open(context, &secret, false, &progress).and_then(|session| {
                session.service.handle(&Request::Sync { is_full: false }, &progress)?;
                session.close()
            });
            if let Err(error) = uploaded {
                let message = "use --rebuild --force if what is not uploaded yet may be left \
                               aside: it could not be uploaded first";
                return Err(Failure::because(Code::LocalState, message, error).into());
            }
        }
        let cache = cache_dir(&paths, &context.env)?;
        let suffix = utc(context.env.now().seconds).replace(':', "");
        let set_aside =
            [set_cache_aside(&cache, &suffix)?, set_state_aside(&paths.state, &suffix)?];
        for aside in set_aside.into_iter().flatten() {
            eprintln!("set aside: {}", aside.display());
        }
        let session = Session::open(context, &secret, false, &progress)?;
        let report = session.service.handle(&Request::Fsck, &progress)?;
        session.close()?;
        conclude(&report, self.json)
    }
}

/// Prints the report of a check; problems are a failure.
fn conclude(report: &Value, is_json: bool) -> Result<()> {
    render::print(report, is_json);
    match report["problems"].as_array().map_or(0, Vec::len) {
        0 => Ok(()),
        count => {
            let message = format!("restore the store from a copy: {count} problems were found");
            Err(Failure::new(Code::Corrupt, message).into())
        }
    }
}

/// Asks the mount daemon of the configured vault, or opens the vault to ask it.
fn ask(context: &Context, secret: &SecretArgs, request: &Request) -> Result<Value> {
    let progress = TerminalProgress::new(&context.env);
    if let Some(client) = Client::connect(&context.paths()?.run_dir()) {
        return Ok(client.call(request, &progress)?);
    }
    let secret = secret.obtain(context)?;
    let session = Session::open(context, &secret, false, &progress)?;
    let outcome = session.service.handle(request, &progress);
    // The first failure is the one to tell.
    let closed = session.close();
    let value = outcome?;
    closed?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit;

    #[test]
    fn problems_decide_the_exit_code() {
        assert!(conclude(&json!({"problems": [], "objects": 3}), false).is_ok());
        let error = conclude(&json!({"problems": ["pack 1 is gone"]}), false).unwrap_err();
        assert_eq!(exit::code_of(&error), Code::Corrupt);
    }
}
