//! Runs the commands of the tour and prints them; tidies up however it ends.

use super::sample::Sample;
use crate::cli::exit::{Code, Failure, OrFail};
use crate::cli::mount_table::detach;
use crate::cli::session::hex;
use crate::env::Env;
use anyhow::{Context, Result};
use std::cell::Cell;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Variables of the user's environment that the commands keep; the rest, and with it
/// every setting of the user, stays away from the tour.
const KEPT_VARIABLES: [&str; 4] = ["PATH", "LANG", "TERM", "TMPDIR"];

/// A temporary directory with a store, a home directory and a mount point.
pub(super) struct Tour {
    root: PathBuf,
    mount_point: PathBuf,
    program: PathBuf,
    environment: Vec<(String, String)>,
    password: String,
    is_kept: bool,
    is_mounted: Cell<bool>,
}

impl Tour {
    /// Makes the directories.
    pub(super) fn new(env: &Env, is_kept: bool) -> Result<Self> {
        let name = format!("tgcryptfs-demo-{}", hex(&env.random_array::<4>()));
        let root = std::env::temp_dir().join(name);
        let message = format!("make it possible to write to {}", std::env::temp_dir().display());
        DirBuilder::new().mode(0o700).create(&root).or_fail(Code::LocalState, message)?;
        let kept = crate::cli::context::surroundings().environment.into_iter();
        let root = root.canonicalize()?;
        let tour = Self {
            mount_point: root.join("mount"),
            root,
            program: std::env::current_exe()?,
            environment: kept.filter(|(name, _)| KEPT_VARIABLES.contains(&name.as_str())).collect(),
            password: hex(&env.random_array::<16>()),
            is_kept,
            is_mounted: Cell::new(false),
        };
        for dir in [tour.home(), tour.store_dir(), tour.mount_point.clone()] {
            DirBuilder::new().mode(0o700).create(dir)?;
        }
        Ok(tour)
    }

    pub(super) fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    fn store_dir(&self) -> PathBuf {
        self.root.join("store")
    }

    fn password_file(&self) -> PathBuf {
        self.root.join("password")
    }

    pub(super) fn heading(&self, text: &str) {
        println!("\n== {text}");
    }

    pub(super) fn say(&self, text: &str) {
        println!("{text}");
    }

    /// Writes the password of the tour into a private file.
    pub(super) fn write_password(&self) -> Result<()> {
        let path = self.password_file();
        self.say(&format!("# a random password is in {}", path.display()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(writeln!(file, "{}", self.password)?)
    }

    /// Makes the vault, or attaches to it.
    pub(super) fn init(&self) -> Result<()> {
        let store = format!("file://{}", self.store_dir().display());
        let password = self.password_file().display().to_string();
        let recovery = self.root.join("recovery-code").display().to_string();
        let mut arguments = vec!["init", "--store", &store, "--password-file", &password];
        if !Path::new(&recovery).exists() {
            arguments.extend(["--recovery-file", &recovery]);
        }
        self.program(&arguments)
    }

    pub(super) fn mount(&self) -> Result<()> {
        let at = self.mount_point.display().to_string();
        let password = self.password_file().display().to_string();
        self.program(&["mount", &at, "--password-file", &password])?;
        self.is_mounted.set(true);
        Ok(())
    }

    pub(super) fn unmount(&self) -> Result<()> {
        self.program(&["unmount", &self.mount_point.display().to_string()])?;
        self.is_mounted.set(false);
        Ok(())
    }

    /// Deletes the home directory, with all local state in it, and makes an empty one.
    pub(super) fn forget_machine(&self) -> Result<()> {
        self.shell("rm", &["-rf", &self.home().display().to_string()])?;
        Ok(DirBuilder::new().mode(0o700).create(self.home())?)
    }

    /// Copies this very program into the mount.
    pub(super) fn copy_program(&self) -> Result<Sample> {
        let program = self.program.display().to_string();
        self.shell("cp", &[&program, &self.mount_point.display().to_string()])?;
        Sample::of_file(&self.program)
    }

    /// Every file of the store with its size, by name.
    pub(super) fn store_objects(&self) -> Result<Vec<(PathBuf, u64)>> {
        let mut objects = Vec::new();
        let mut left = vec![self.store_dir()];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(&dir)? {
                let entry = entry?;
                let data = entry.metadata()?;
                if data.is_dir() {
                    left.push(entry.path());
                } else {
                    objects.push((entry.path(), data.len()));
                }
            }
        }
        objects.sort();
        Ok(objects)
    }

    /// Runs this program as the tour's user.
    pub(super) fn program(&self, arguments: &[&str]) -> Result<()> {
        self.run(&self.program, "tgcryptfs", arguments)
    }

    /// Runs a tool of the system.
    pub(super) fn shell(&self, tool: &str, arguments: &[&str]) -> Result<()> {
        self.run(Path::new(tool), tool, arguments)
    }

    fn run(&self, program: &Path, shown: &str, arguments: &[&str]) -> Result<()> {
        println!("$ {shown} {}", arguments.join(" "));
        let output = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().cloned())
            .env("HOME", self.home())
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {shown}"))?;
        print!("{}", String::from_utf8_lossy(&output.stdout));
        if output.status.success() {
            return Ok(());
        }
        let said: Vec<String> = String::from_utf8_lossy(&output.stderr)
            .lines()
            .map(|line| line.trim().to_owned())
            .collect();
        let code = output.status.code().and_then(|code| u8::try_from(code).ok());
        let code = code.filter(|_| shown == "tgcryptfs").map_or(Code::Other, Code::from_number);
        let cause = Failure::from_lines(code, &said);
        let message = format!("the tour ends here: {shown} did not work");
        Err(Failure::because(code, message, cause).into())
    }

    fn clean_up(&self) {
        if self.is_mounted.get() && self.unmount().is_err() {
            // Nothing more can be done than to say where it is.
            if let Err(failure) = detach(&self.mount_point, true) {
                eprintln!("{failure}");
                return;
            }
        }
        if self.is_kept {
            println!("everything is kept in {}", self.root.display());
        } else if let Err(error) = fs::remove_dir_all(&self.root) {
            eprintln!("cannot remove {}: {error}", self.root.display());
        }
    }
}

impl Drop for Tour {
    fn drop(&mut self) {
        self.clean_up();
    }
}
