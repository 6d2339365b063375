//! `mount`: opens the vault and mounts it, through FUSE or through NFS.

use super::context::Context;
use super::exit::{Code, Failure};
use super::host::{HostArgs, Offered, Opening, refuse_running};
use super::mount_table::check_mount_point;
use super::nfs_mount;
use super::render::one_line;
use super::session::Session;
use crate::config::{FlagValue, MountVia};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Mount the file system
#[derive(Debug, clap::Args)]
pub(super) struct Mount {
    /// Where to mount it: an existing directory
    path: PathBuf,
    /// How to mount it [default: auto]
    #[arg(long, value_enum)]
    via: Option<Via>,
    /// Refuse every write
    #[arg(long)]
    read_only: bool,
    /// Let other users into the mount
    #[arg(long)]
    allow_other: bool,
    #[command(flatten)]
    host: HostArgs,
}

/// Front ends of `mount`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Via {
    /// FUSE if this system has it, otherwise NFS
    Auto,
    /// The kernel's FUSE
    Fuse,
    /// The kernel's NFS client, and a server of our own on this machine
    Nfs,
}

impl Via {
    fn text(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fuse => "fuse",
            Self::Nfs => "nfs",
        }
    }
}

impl Mount {
    /// The configuration keys its flags set.
    pub(super) fn flags(&self) -> Vec<FlagValue> {
        let set = |key: &str, value: &str, flag: &str| FlagValue {
            key: key.to_owned(),
            value: value.to_owned(),
            flag: flag.to_owned(),
        };
        let allow_other =
            self.allow_other.then(|| set("mount.allow_other", "true", "--allow-other"));
        let via = self.via.map(|via| set("mount.via", via.text(), "--via"));
        allow_other.into_iter().chain(via).collect()
    }

    /// Whether this process is the daemon, which nobody watches.
    pub(super) fn is_daemon(&self) -> bool {
        self.host.is_daemon()
    }

    pub(super) fn run(&self, context: &Context) -> Result<()> {
        self.host.run(context, self.read_only, || self.prepare(context))
    }

    /// What can be refused before a password is asked for.
    fn prepare<'a>(&'a self, context: &'a Context) -> Result<Opening<'a>> {
        context.check_supported()?;
        let mount_point = check_mount_point(&self.path)?;
        refuse_overlap(&mount_point, context)?;
        refuse_running(&context.paths()?)?;
        let is_by_fuse = by_fuse(context.loaded.config.mount.via, is_fuse_usable);
        Ok(Box::new(move |session| self.open(context, session, mount_point, is_by_fuse)))
    }

    fn open(
        &self,
        context: &Context,
        session: &Session,
        mount_point: PathBuf,
        is_by_fuse: bool,
    ) -> Result<Offered> {
        let mut offered = if is_by_fuse {
            session.mount_fuse(context, mount_point, self.read_only)?
        } else {
            nfs_mount::mount(context, session, mount_point, self.read_only)?
        };
        if self.host.is_foreground() {
            let announcement = format!("{} is mounted", one_line(&self.path.to_string_lossy()));
            offered.announcement = vec![announcement];
        }
        Ok(offered)
    }
}

/// Whether FUSE is to be used.
fn by_fuse(via: MountVia, is_fuse_usable: impl FnOnce() -> bool) -> bool {
    match via {
        MountVia::Fuse => true,
        MountVia::Nfs => false,
        MountVia::Auto => is_fuse_usable(),
    }
}

/// Whether the kernel answers at the device through which it speaks FUSE.
fn is_fuse_usable() -> bool {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    opened.inspect_err(|error| log::info!("mounting through NFS: /dev/fuse: {error}")).is_ok()
}

/// Refuses to mount over what the mount itself needs: it would wait for itself.
fn refuse_overlap(mount_point: &Path, context: &Context) -> Result<()> {
    let paths = context.paths()?;
    let mut needed = vec![(paths.state, "local state"), (paths.cache_root, "cache")];
    if let Some(path) = context.store_url()?.strip_prefix("file://") {
        needed.push((PathBuf::from(path), "store"));
    }
    for (path, what) in needed {
        if path.canonicalize().unwrap_or(path).starts_with(mount_point) {
            let message = format!(
                "choose another mount point: the {what} lies below {}",
                mount_point.display()
            );
            return Err(Failure::new(Code::MountPoint, message).into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuse_is_taken_where_it_works_unless_something_else_is_asked_for() {
        for (via, usable, expected) in [
            (MountVia::Auto, true, true),
            (MountVia::Auto, false, false),
            (MountVia::Fuse, false, true),
            (MountVia::Nfs, true, false),
        ] {
            assert_eq!(by_fuse(via, || usable), expected, "{via:?} {usable}");
        }
    }
}
