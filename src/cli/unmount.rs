//! `unmount`: asks the daemon, or frees a mount point whose daemon is gone.

use super::context::Context;
use super::control::{MountRecord, Request, all_mounts};
use super::exit::{Code, Failure, OrFail};
use super::lock::StateLock;
use super::mount_table::{Mounted, detach, mounted_at, resolve};
use super::nfs_mount;
use super::progress::TerminalProgress;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the daemon may take to end after it has answered.
const END_TIMEOUT: Duration = Duration::from_secs(15);
const END_POLL: Duration = Duration::from_millis(20);

/// Unmount the file system, or stop serving it, after everything is written down
#[derive(Debug, clap::Args)]
pub(super) struct Unmount {
    /// Where it is mounted, or the address it is served at
    #[arg(value_name = "PATH|ADDR")]
    path: PathBuf,
    /// Detach at once, even if files below it are open
    #[arg(short = 'z', long)]
    lazy: bool,
}

impl Unmount {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let served = |record: &MountRecord| {
            let is_mounted = record.mount_point.is_some();
            !is_mounted && record.address.as_deref() == self.path.to_str()
        };
        let running = all_mounts(&context.state_root()?);
        if let Some((_, client, run_dir)) = running.into_iter().find(|(record, ..)| served(record))
        {
            client.call(&self.request(), &TerminalProgress::new(&context.env))?;
            return wait_for_end(context, &run_dir);
        }
        let path = resolve(&self.path).or_fail(Code::NotFound, self.nothing_there())?;
        let serving = all_mounts(&context.state_root()?)
            .into_iter()
            .find(|(record, _, _)| record.mount_point.as_ref() == Some(&path));
        match serving {
            Some((_, client, run_dir)) => {
                let progress = TerminalProgress::new(&context.env);
                let outcome = client.call(&self.request(), &progress);
                // It may be gone although not everything went well at its end.
                if outcome.is_ok() || !mounted_at(&path).is_ours() {
                    wait_for_end(context, &run_dir)?;
                }
                Ok(outcome.map(drop)?)
            }
            None => self.detach_without_daemon(&path),
        }
    }

    fn request(&self) -> Request {
        Request::Unmount { is_lazy: self.lazy }
    }

    /// A mount whose daemon died, or that another user or home directory serves.
    fn detach_without_daemon(&self, path: &Path) -> Result<()> {
        match mounted_at(path) {
            Mounted::Fuse => Ok(detach(path, self.lazy)?),
            Mounted::Nfs { .. } => Ok(nfs_mount::take_off(path)?),
            Mounted::Nothing => Err(Failure::new(Code::NotFound, self.nothing_there()).into()),
            Mounted::Other => {
                let message = format!("use umount: {} is not a tgcryptfs mount", path.display());
                Err(Failure::new(Code::MountPoint, message).into())
            }
        }
    }

    fn nothing_there(&self) -> String {
        format!(
            "name a mount point or address (status lists them): nothing is mounted at {}",
            self.path.display()
        )
    }
}

/// Waits until the daemon has let go of the vault, so that the next mount finds it free.
fn wait_for_end(context: &Context, run_dir: &Path) -> Result<()> {
    let Some(state) = run_dir.parent() else { return Ok(()) };
    let start = context.env.monotonic();
    loop {
        match StateLock::take(state) {
            Ok(_) => return Ok(()),
            Err(failure) if failure.code() != Code::Busy => return Err(failure.into()),
            Err(_) if context.env.monotonic().saturating_sub(start) > END_TIMEOUT => {
                let message = "look into the log: the mount is gone, but its process goes on";
                return Err(Failure::new(Code::Busy, message).into());
            }
            Err(_) => std::thread::park_timeout(END_POLL),
        }
    }
}
