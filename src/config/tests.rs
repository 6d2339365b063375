//! The schema, the layers and the messages.

use super::*;
use std::os::unix::fs::PermissionsExt;

const SPEC_JSON: &str = r#"{
  "telegram": {
    "api_id": 12345678,
    "api_hash": "your_api_hash",
    "session_file": "/path/to/session",
    "max_concurrent_uploads": 3,
    "max_concurrent_downloads": 5
  },
  "encryption": {
    "argon2_memory_kib": 65536,
    "argon2_iterations": 3,
    "argon2_parallelism": 4
  },
  "cache": {
    "max_size": 10737418240,
    "cache_dir": "/var/cache/tgcryptfs",
    "prefetch_enabled": true,
    "prefetch_count": 3
  },
  "chunk": {
    "chunk_size": 52428800,
    "compression_enabled": true,
    "dedup_enabled": true
  },
  "versioning": {
    "enabled": true,
    "max_versions": 10
  }
}
"#;

const SPEC_STANDALONE: &str = "distribution:\n  mode: standalone\n";

const SPEC_MASTER_REPLICA: &str = r#"distribution:
  mode: master-replica
  cluster_id: "my-cluster"
  master_replica:
    role: master  # or: replica
    master_id: "main-server"
    sync_interval_secs: 60
"#;

const SPEC_DISTRIBUTED: &str = r#"distribution:
  mode: distributed
  cluster_id: "home-cluster"
  distributed:
    sync_interval_ms: 1000
    conflict_resolution: last-write-wins
"#;

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn load(&self, name: &str, text: &str) -> Result<Loaded> {
        let file = Some(self.write(name, text, 0o644));
        Loaded::load(&Layers { file, ..Layers::default() })
    }

    fn message(&self, name: &str, text: &str) -> String {
        let message = self.load(name, text).unwrap_err().to_string();
        message.replace(&format!("{}/", self.dir.path().display()), "")
    }
}

fn flag(key: &str, value: &str) -> FlagValue {
    FlagValue { key: key.to_owned(), value: value.to_owned(), flag: "--set".to_owned() }
}

#[test]
fn nothing_gives_the_defaults() {
    let loaded = Loaded::load(&Layers::default()).unwrap();
    assert_eq!(loaded.settings.len(), KEYS.len());
    assert!(loaded.settings.iter().all(|s| s.source == Source::Default));
    assert_eq!(loaded.config.cache.max_size, 10 << 30);
    assert_eq!(loaded.config.chunk.chunk_size, 50 << 20);
    assert_eq!(loaded.config.chunk.block_size, 128 << 10);
    assert_eq!(loaded.config.durability, Durability::Journaled);
    assert_eq!(loaded.config.store, None);
    assert_eq!(loaded.without_effect().count(), 0);
}

#[test]
fn environment_names_are_unique_and_free_of_the_reserved_ones() {
    let mut names: Vec<String> = KEYS.iter().map(Key::environment_name).collect();
    names.extend(ENVIRONMENT_RESERVED.iter().map(|name| (*name).to_owned()));
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(names.contains(&"TGCRYPTFS_DISTRIBUTION_MASTER_REPLICA_ROLE".to_owned()));
}

#[test]
fn loads_the_documented_json() {
    let loaded = Fixture::new().load("config.json", SPEC_JSON).unwrap();
    let config = &loaded.config;
    assert_eq!(config.telegram.api_id, Some(12_345_678));
    assert_eq!(config.telegram.api_hash.as_ref().unwrap().reveal(), "your_api_hash");
    assert_eq!(config.encryption.argon2_memory_kib, 65536);
    assert_eq!(config.cache.cache_dir.as_deref(), Some(Path::new("/var/cache/tgcryptfs")));
    assert_eq!(config.cache.prefetch_count, 3);
    assert!(config.chunk.dedup_enabled);
    assert_eq!(config.versioning.max_versions, 10);
    // The keys that are not in it have their defaults.
    assert_eq!(config.chunk.compression, Codec::Lz4);
    let missing: Vec<&str> = loaded.without_effect().map(|(s, _)| s.key.name).collect();
    assert!(missing.contains(&"telegram.api_id") && missing.contains(&"versioning.max_versions"));
    assert!(!missing.contains(&"cache.max_size"));
}

#[test]
fn loads_the_documented_yaml() {
    let fixture = Fixture::new();
    let standalone = fixture.load("a.yaml", SPEC_STANDALONE).unwrap();
    assert_eq!(standalone.config.distribution.mode, DistributionMode::Standalone);
    assert_eq!(standalone.without_effect().count(), 0);

    let pair = fixture.load("b.yaml", SPEC_MASTER_REPLICA).unwrap().config.distribution;
    assert_eq!(pair.mode, DistributionMode::MasterReplica);
    assert_eq!(pair.cluster_id.as_deref(), Some("my-cluster"));
    assert_eq!(pair.master_replica.role, ReplicaRole::Master);
    assert_eq!(pair.master_replica.master_id.as_deref(), Some("main-server"));
    assert_eq!(pair.master_replica.sync_interval_secs, 60);

    let all = fixture.load("c.yml", SPEC_DISTRIBUTED).unwrap().config.distribution;
    assert_eq!(all.mode, DistributionMode::Distributed);
    assert_eq!(all.distributed.sync_interval_ms, 1000);
    assert_eq!(all.distributed.conflict_resolution, ConflictResolution::LastWriteWins);
}

#[test]
fn loads_the_shipped_examples() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    for (name, mode) in [
        ("standalone.json", DistributionMode::Standalone),
        ("master-replica.yaml", DistributionMode::MasterReplica),
        ("distributed.yaml", DistributionMode::Distributed),
    ] {
        let layers = Layers { file: Some(dir.join(name)), ..Layers::default() };
        let loaded = Loaded::load(&layers).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(loaded.config.distribution.mode, mode, "{name}");
    }
}

#[test]
fn each_layer_beats_the_one_below_and_is_remembered() {
    let fixture = Fixture::new();
    let text = "cache:\n  max_size: 1 GiB\n  memory_max: 64 MiB\n  dirty_max: 1 GiB\n";
    let file = fixture.write("config.yaml", text, 0o644);
    let environment = BTreeMap::from([
        ("TGCRYPTFS_CACHE_MEMORY_MAX".to_owned(), "65 MiB".to_owned()),
        ("TGCRYPTFS_CACHE_DIRTY_MAX".to_owned(), "2 GiB".to_owned()),
        ("TGCRYPTFS_PASSWORD_FILE".to_owned(), "/run/pw".to_owned()),
        ("HOME".to_owned(), "/root".to_owned()),
    ]);
    let flags = vec![flag("cache.dirty_max", "3 GiB")];
    let loaded = Loaded::load(&Layers { file: Some(file.clone()), environment, flags }).unwrap();
    assert_eq!(loaded.config.cache.max_size, 1 << 30);
    assert_eq!(loaded.config.cache.memory_max, 65 << 20);
    assert_eq!(loaded.config.cache.dirty_max, 3 << 30);
    let source = |name| loaded.setting(name).unwrap().source.clone();
    assert_eq!(source("cache.max_size"), Source::File(file));
    assert_eq!(
        source("cache.memory_max"),
        Source::Environment("TGCRYPTFS_CACHE_MEMORY_MAX".to_owned())
    );
    assert_eq!(source("cache.dirty_max"), Source::Flag("--set".to_owned()));
    assert_eq!(source("cache.prefetch_count"), Source::Default);
}

#[test]
fn refuses_unknown_keys_with_line_and_suggestion() {
    let fixture = Fixture::new();
    assert_eq!(
        fixture.message("config.json", "{\n  \"cache\": {\n    \"max_sise\": 1\n  }\n}"),
        "config.json:3: cache.max_sise: unknown key; did you mean cache.max_size?"
    );
    assert_eq!(
        fixture.message("config.json", "{\"cache\": {\"max_sise\": 1}}"),
        "config.json:1: cache.max_sise: unknown key; did you mean cache.max_size?"
    );
    assert_eq!(
        fixture.message("config.yaml", "# hello\nmount:\n  colour: red\n"),
        "config.yaml:3: mount.colour: unknown key; mount has allow_other, atime, threads, \
         writeback_cache, via"
    );
    assert_eq!(
        fixture.message("config.yaml", "max_versions: 3\n"),
        "config.yaml:1: max_versions: unknown key; did you mean versioning.max_versions?"
    );
    let environment = BTreeMap::from([("TGCRYPTFS_CACHE_MAXSIZE".to_owned(), "1".to_owned())]);
    let error = Loaded::load(&Layers { environment, ..Layers::default() }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment TGCRYPTFS_CACHE_MAXSIZE: sets no configuration key; did you mean \
         TGCRYPTFS_CACHE_MAX_SIZE?"
    );
    let flags = vec![flag("cache.max", "1")];
    let error = Loaded::load(&Layers { flags, ..Layers::default() }).unwrap_err();
    assert!(error.to_string().starts_with("flag --set: cache.max: unknown key"), "{error}");
}

#[test]
fn names_key_value_and_range() {
    let fixture = Fixture::new();
    assert_eq!(
        fixture.message("config.yaml", "chunk: { block_size: 100000 }"),
        "chunk.block_size: 100000 is not allowed; use a size in bytes from 64 KiB to 4 MiB, a \
         power of two (as \"512 KiB\" or 524288)"
    );
    assert_eq!(
        fixture.message("config.json", r#"{"encryption": {"argon2_iterations": 1}}"#),
        "encryption.argon2_iterations: 1 is not allowed; use a whole number from 2 to 16"
    );
    assert_eq!(
        fixture.message("config.json", r#"{"durability": "maybe"}"#),
        "durability: maybe is not allowed; use one of journaled, uploaded"
    );
    for text in [
        r#"{"cache": {"max_size": -1}}"#,
        r#"{"cache": {"max_size": 1.5}}"#,
        r#"{"cache": {"max_size": "lots"}}"#,
        r#"{"cache": {"max_size": [1]}}"#,
        r#"{"cache": {"prefetch_enabled": "yes"}}"#,
        r#"{"cache": {"cache_dir": "relative/path"}}"#,
        r#"{"cache": 5}"#,
        r#"{"cache": {"max_size": 1152921504606846977}}"#,
        r#"{"store": ""}"#,
        r#"[1]"#,
        r#"{"durability": "journaled", "durability": "uploaded"}"#,
        r#"{"distribution": {"mode": "distributed"}}"#,
        r#"{"chunk": {"chunker": "cdc"}}"#,
        "{",
    ] {
        assert!(fixture.load("config.json", text).is_err(), "{text}");
    }
    assert_eq!(
        fixture.message("config.json", r#"{"chunk": {"chunker": "cdc"}}"#),
        "chunk.chunker: cdc is not available yet; use fixed"
    );
    assert!(fixture.message("config.toml", "").contains(".json, .yaml or .yml"));
}

#[test]
fn empty_files_sections_and_nulls_are_defaults() {
    let fixture = Fixture::new();
    for (name, text) in [
        ("a.json", ""),
        ("b.yaml", "# nothing\n"),
        ("c.yaml", "cache:\n#  max_size: 1 GiB\n"),
        ("d.json", r#"{"cache": {"max_size": null}}"#),
    ] {
        let loaded = fixture.load(name, text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(loaded.config.cache.max_size, 10 << 30, "{name}");
        assert_eq!(loaded.setting("cache.max_size").unwrap().source, Source::Default);
    }
}

#[test]
fn masks_secrets_everywhere() {
    let fixture = Fixture::new();
    let text = r#"{"telegram": {"api_hash": "0123deadbeef"}}"#;
    let file = Some(fixture.write("config.json", text, 0o600));
    let loaded = Loaded::load(&Layers { file, ..Layers::default() }).unwrap();
    let shown = loaded.setting("telegram.api_hash").unwrap().shown();
    assert_eq!(shown, Value::String("********".to_owned()));
    assert!(!format!("{:?}", loaded.config).contains("deadbeef"));
    let flags = vec![flag("telegram.api_hash", "sneaky\0hash")];
    let error = Loaded::load(&Layers { flags, ..Layers::default() }).unwrap_err();
    assert!(!error.to_string().contains("sneaky"), "{error}");
}

#[test]
fn refuses_secrets_that_others_can_read() {
    let fixture = Fixture::new();
    let text = r#"{"telegram": {"api_hash": "0123deadbeef"}}"#;
    for (mode, is_refused) in [(0o644, true), (0o640, true), (0o600, false), (0o400, false)] {
        let file = fixture.write("config.json", text, mode);
        let result = Loaded::load(&Layers { file: Some(file.clone()), ..Layers::default() });
        assert_eq!(result.is_err(), is_refused, "{mode:o}");
        if let Err(error) = result {
            assert!(error.is_shared_secret());
            let expected = format!("run: chmod 600 {};", file.display());
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
        std::fs::remove_file(&file).unwrap();
    }
    let session = fixture.write("session", "x", 0o644);
    let flags = vec![flag("telegram.session_file", session.to_str().unwrap())];
    let loaded = Loaded::load(&Layers { flags, ..Layers::default() }).unwrap();
    assert!(loaded.check_secret_files(Path::to_owned).is_err());
}

#[test]
fn saving_keeps_what_is_there_and_closes_the_file() {
    let fixture = Fixture::new();
    let path = fixture.write("config.json", r#"{"cache": {"max_size": "1 GiB"}}"#, 0o644);
    let entries = [("store", "file:///srv/v".into()), ("telegram.api_hash", "abc".into())];
    save_keys(&path, &entries).unwrap();
    let loaded = Loaded::load(&Layers { file: Some(path.clone()), ..Layers::default() }).unwrap();
    assert_eq!(loaded.config.store.as_deref(), Some("file:///srv/v"));
    assert_eq!(loaded.config.cache.max_size, 1 << 30);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(save_keys(&path, &[("store.inner", Value::Null)]).is_err());
}

#[test]
fn saving_into_yaml_adds_and_never_edits() {
    let fixture = Fixture::new();
    let path = fixture.write("config.yaml", "# mine\ncache:\n  max_size: 1 GiB", 0o600);
    save_keys(&path, &[("store", "file:///srv/v".into())]).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# mine\n"), "{text}");
    let loaded = Loaded::load(&Layers { file: Some(path.clone()), ..Layers::default() }).unwrap();
    assert_eq!(loaded.config.store.as_deref(), Some("file:///srv/v"));
    assert_eq!(loaded.config.cache.max_size, 1 << 30);
    // The value it has is no change; another one would be.
    save_keys(&path, &[("store", "file:///srv/v".into())]).unwrap();
    let error = save_keys(&path, &[("store", "file:///srv/w".into())]).unwrap_err();
    assert!(error.to_string().contains("by hand"), "{error}");
}

#[test]
fn two_homes_are_two_machines() {
    let config = Loaded::load(&Layers::default()).unwrap().config;
    let around = |home: &str, xdg: &str| Surroundings {
        home: Some(home.into()),
        environment: BTreeMap::from([("XDG_STATE_HOME".to_owned(), xdg.to_owned())]),
    };
    let paths = |s: &Surroundings| Paths::new(s, &config, "file:///srv/v").unwrap();
    let a = paths(&around("/home/a", "/home/a/state"));
    let b = paths(&around("/home/b", "/home/a/state"));
    assert!(a.state.starts_with("/home/a/state/tgcryptfs"));
    assert!(b.state.starts_with("/home/b/.local/state/tgcryptfs"));
    assert_eq!(a.vault_name, b.vault_name);
    assert_ne!(a.vault_name, vault_name_of(&config, "file:///srv/w"));
    assert!(b.cache_root.starts_with("/home/b/.cache"));
    assert!(Paths::new(&Surroundings::default(), &config, "file:///x").is_err());
}

fn vault_name_of(config: &Config, url: &str) -> String {
    let around = Surroundings { home: Some("/h".into()), ..Surroundings::default() };
    Paths::new(&around, config, url).unwrap().vault_name
}

#[test]
fn configured_places_win() {
    let around = Surroundings { home: Some("/h".into()), ..Surroundings::default() };
    let load = |flags| Loaded::load(&Layers { flags, ..Layers::default() }).unwrap().config;
    let config = load(vec![flag("data_dir", "~/d")]);
    let paths = Paths::new(&around, &config, "file:///x").unwrap();
    assert!(paths.state.starts_with("/h/d/state") && paths.cache_root == Path::new("/h/d/cache"));
    assert!(!paths.is_cache_shared);
    let config = load(vec![flag("cache.cache_dir", "/var/cache/tgcryptfs")]);
    let paths = Paths::new(&around, &config, "file:///x").unwrap();
    assert_eq!(paths.cache_root, Path::new("/var/cache/tgcryptfs"));
    assert!(paths.is_cache_shared);
}
