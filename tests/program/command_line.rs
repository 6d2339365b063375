//! The command line as a user types it, for what needs no vault.

use super::support::{Finished, PROGRAM};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A home directory of its own, with nothing of the caller's environment.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env_clear().env("HOME", self.dir.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        Finished::of(&self.command(arguments).output().unwrap())
    }
}

#[test]
fn help_lists_commands_and_exit_codes() {
    let home = Home::new();
    let help = home.run(&["--help"]);
    assert_eq!(help.code, 0);
    for word in [
        "init", "mount", "serve", "unmount", "status", "sync", "cache", "fsck", "passwd", "key",
        "demo",
    ] {
        assert!(help.stdout.contains(&format!("\n  {word} ")), "{word}");
    }
    assert!(help.stdout.contains("4  wrong password, recovery code or key file"));
    assert!(help.stdout.contains("TGCRYPTFS_PASSWORD_FILE"));
    assert!(!home.run(&["mount", "--help"]).stdout.contains("daemon-child"));
    assert_eq!(home.run(&["--version"]).code, 0);
}

#[test]
fn usage_errors_have_their_code() {
    let home = Home::new();
    for arguments in [
        &["frobnicate"][..],
        &[],
        &["mount"],
        &["mount", "/x", "--via", "pigeon"],
        &["serve", "nfs"],
        &["serve", "ftp", "--listen", "127.0.0.1:1"],
        &["serve", "nfs", "--listen", "10.0.0.1:1", "--read-only", "--accept-plaintext-writes"],
        &["serve", "nfs", "--listen", "127.0.0.1:1", "--allow", "10.1.0.0/8"],
        &["serve", "nfs", "--listen", "127.0.0.1:1", "--squash", "some"],
        &["init", "--api-id", "5"],
        &["status", "--password-file", "a", "--key-file", "b"],
        &["config", "show", "--set", "no-equals-sign"],
        &["key", "remove", "xyz"],
    ] {
        let finished = home.run(arguments);
        assert_eq!(finished.code, 2, "{arguments:?}: {}", finished.stderr);
        assert!(finished.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn completions_name_the_commands() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.run(&["completions", shell]);
        assert_eq!(script.code, 0);
        assert!(script.stdout.contains("unmount") && script.stdout.contains("tgcryptfs"));
    }
}

#[test]
fn a_password_file_others_can_read_is_refused() {
    let home = Home::new();
    let mount = home.path("mnt");
    fs::create_dir(&mount).unwrap();
    let file = home.write("password", "secret\n", 0o644);
    let (mount, file) = (mount.to_str().unwrap(), file.to_str().unwrap());
    let store = "store=file:///does/not/exist";
    let finished = home.run(&["mount", mount, "--set", store, "--password-file", file]);
    assert_eq!(finished.code, 5);
    assert!(
        finished.first_error().contains(&format!("run: chmod 600 {file};")),
        "{}",
        finished.stderr
    );
    let mut command = home.command(&["mount", mount, "--set", store]);
    let finished = Finished::of(&command.env("TGCRYPTFS_PASSWORD_FILE", file).output().unwrap());
    assert_eq!(finished.code, 5);
    let shared = home.write("credentials/tgcryptfs-password", "secret\n", 0o644);
    let mut command = home.command(&["mount", mount, "--set", store]);
    let output = command.env("CREDENTIALS_DIRECTORY", shared.parent().unwrap()).output().unwrap();
    assert!(Finished::of(&output).first_error().contains(shared.to_str().unwrap()));
    // No terminal, no file: it says so instead of waiting.
    let finished = home.run(&["mount", mount, "--set", store]);
    assert_eq!(finished.code, 5);
    assert!(finished.first_error().contains("--password-file"), "{}", finished.stderr);
}

#[test]
fn a_daemon_that_cannot_start_reports_through_its_parent() {
    let home = Home::new();
    let mount = home.path("mnt");
    fs::create_dir(&mount).unwrap();
    let file = home.write("password", "hunter2hunter2\n", 0o600);
    let store = format!("store=file://{}", home.path("no-store").display());
    let (mount, file) = (mount.to_str().unwrap(), file.to_str().unwrap());
    let daemon = home.run(&["mount", mount, "--set", &store, "--password-file", file]);
    let foreground = home.run(&["mount", mount, "-f", "--set", &store, "--password-file", file]);
    assert_eq!(daemon.code, 7, "{}", daemon.stderr);
    assert_eq!(foreground.code, 7, "{}", foreground.stderr);
    assert_eq!(daemon.stderr, foreground.stderr);
    assert!(daemon.first_error().contains("no-store"));

    // The password came through standard input here; it is nowhere on the disk.
    let mut command = home.command(&["mount", mount, "--set", &store, "--password-file", "-"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"correct-horse-battery\n").unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(7));
    let mut left = vec![home.dir.path().to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                let text = String::from_utf8_lossy(&bytes).into_owned();
                assert!(!text.contains("correct-horse"), "{}", path.display());
            }
        }
    }
}

#[test]
fn mount_points_are_checked_first() {
    let home = Home::new();
    let store = home.path("mnt/store");
    fs::create_dir_all(&store).unwrap();
    let set = format!("store=file://{}", store.display());
    for (path, expected) in
        [(home.path("missing"), "make the directory"), (home.path("mnt"), "the store lies below")]
    {
        let finished = home.run(&["mount", path.to_str().unwrap(), "--set", &set]);
        assert_eq!(finished.code, 9, "{}", finished.stderr);
        assert!(finished.first_error().contains(expected), "{}", finished.stderr);
    }
    let finished = home.run(&["unmount", home.path("mnt").to_str().unwrap()]);
    assert_eq!(finished.code, 12);
    let finished = home.run(&["mount", home.path("mnt").to_str().unwrap()]);
    assert_eq!(finished.code, 3);
    assert!(finished.first_error().contains("tgcryptfs init --store"));
}

#[test]
fn config_check_accepts_the_shipped_examples() {
    let home = Home::new();
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    for name in ["standalone.json", "master-replica.yaml", "distributed.yaml"] {
        let file = configs.join(name);
        let finished = home.run(&["--config", file.to_str().unwrap(), "config", "check"]);
        assert_eq!(finished.code, 0, "{name}: {}", finished.stderr);
        assert!(finished.stdout.contains("has no effect in this build"), "{name}");
    }
    assert_eq!(home.run(&["config", "check"]).code, 0);
    assert_eq!(home.run(&["--config", "/missing.json", "config", "check"]).code, 3);
}

#[test]
fn unknown_keys_are_named_with_the_nearest_known_one() {
    let home = Home::new();
    let text = "{\n  \"cache\": {\n    \"max_sise\": 5\n  }\n}\n";
    let file = home.write(".config/tgcryptfs/config.json", text, 0o644);
    let finished = home.run(&["config", "check"]);
    assert_eq!(finished.code, 3);
    assert_eq!(
        finished.first_error(),
        format!(
            "tgcryptfs: {}:3: cache.max_sise: unknown key; did you mean cache.max_size?",
            file.display()
        )
    );
    let mut command = home.command(&["status"]);
    let output = command.env("TGCRYPTFS_CACHE_MAX_SISE", "5").output().unwrap();
    assert_eq!(Finished::of(&output).code, 3);
}

#[test]
fn config_show_tells_value_and_source_and_hides_secrets() {
    let home = Home::new();
    let text = "telegram:\n  api_hash: \"deadbeef\"\ncache:\n  max_size: 2 GiB\n";
    let file = home.write("my.yaml", text, 0o600);
    let arguments =
        ["config", "show", "--config", file.to_str().unwrap(), "--set", "quota_bytes=1GiB"];
    let mut command = home.command(&arguments);
    let shown = Finished::of(&command.env("TGCRYPTFS_MOUNT_THREADS", "8").output().unwrap());
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    let line = |key: &str| {
        let start = format!("{key} = ");
        shown.stdout.lines().find(|line| line.starts_with(&start)).unwrap().to_owned()
    };
    assert!(line("cache.max_size").contains("2147483648 (2 GiB)"));
    assert!(line("cache.max_size").ends_with(&format!("# {}", file.display())));
    assert!(line("mount.threads").ends_with("# environment TGCRYPTFS_MOUNT_THREADS"));
    assert!(line("quota_bytes").ends_with("# flag --set"));
    assert!(line("durability").ends_with("# default"));
    assert!(!shown.stdout.contains("deadbeef"));

    let mut with_json = arguments.to_vec();
    with_json.push("--json");
    let shown = home.run(&with_json);
    assert!(!shown.stdout.contains("deadbeef"));
    let value: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(value["cache.max_size"]["value"], 2_147_483_648_u64);
    assert_eq!(value["cache.max_size"]["source"]["layer"], "file");

    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = home.run(&arguments);
    assert_eq!(refused.code, 5);
    assert!(refused.first_error().contains("chmod 600"), "{}", refused.stderr);
}

#[test]
fn init_keeps_telegram_credentials_private() {
    let home = Home::new();
    let finished = home.run(&["init", "--api-id", "12345", "--api-hash", "0123abcd"]);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert!(finished.stdout.contains("no Telegram store yet"));
    let file = home.path(".config/tgcryptfs/config.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&file).unwrap().contains("0123abcd"));
    assert_eq!(home.run(&["config", "check"]).code, 0);
}

#[test]
fn status_without_a_mount_says_so() {
    let home = Home::new();
    let finished = home.run(&["status"]);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert!(finished.stdout.contains("mounts: none"), "{}", finished.stdout);
    let finished = home.run(&["status", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(value["mounts"].as_array().unwrap().len(), 0);
}

#[test]
fn recovery_codes_are_not_kept_to_be_shown() {
    let finished = Home::new().run(&["recovery", "show"]);
    assert_eq!(finished.code, 12);
    assert!(finished.first_error().contains("recovery rotate"));
}
