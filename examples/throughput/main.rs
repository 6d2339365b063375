//! How fast the engine writes, reads and creates, over a directory store, and how much of
//! the processor's time that takes beside the steps that nothing can do without; what
//! sealing a block and waking a thread take:
//! `cargo run --release --example throughput [DIRECTORY [MIB]]`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that fails may stop")]

mod steps;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;
use steps::Sealer;
use tgcryptfs::crypto::compress::Compression;
use tgcryptfs::crypto::kdf::Argon2Params;
use tgcryptfs::engine::{Creation, Engine, Handle, Settings, Silent, create_vault};
use tgcryptfs::env::Env;
use tgcryptfs::store::FileStore;
use tgcryptfs::vault::{Credential, Passphrase};
use vfs::{
    At, Context, Cred, Dac, IfExists, Ino, Name, OpenFlags, SetAttr, Stability, Vfs, WriteAt,
};

const MIB: u64 = 1 << 20;
const FILES: u64 = 20_000;
/// The block size of a vault for which nobody chooses another.
const BLOCK_LEN: usize = 128 << 10;

fn main() {
    let mut args = std::env::args().skip(1);
    let parent = args.next().map_or_else(std::env::temp_dir, Into::into);
    let mib = args.next().map_or(1024, |text| text.parse().unwrap());
    let env = Env::real();
    steps::report_sealing(&env);
    steps::report_waking(&env);
    let dir = tempfile::tempdir_in(parent).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    runtime.block_on(measure(dir.path(), mib, &env));
}

fn report(what: &str, mib: u64, took: Duration) {
    let seconds = took.as_secs_f64();
    println!("{what:<28} {seconds:7.2} s  {:7.0} MiB/s", mib as f64 / seconds);
}

/// The processor time that this process has had.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
    Duration::from_millis(ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>() * 10)
}

/// What cannot be left out, on one core.
struct Limits {
    /// Taking the data over, id, compression, seal, and the writing of what is sealed.
    pipeline: Duration,
    /// Ids, compression and AES-GCM alone.
    pieces: Duration,
}

impl Limits {
    /// Answers processor times.
    fn measure(file: &std::path::Path, data: &[u8], wanted: Compression, env: &Env) -> Self {
        let sealer = Sealer::new(env);
        let pieces = (0..3).map(|_| sealer.pieces(data, BLOCK_LEN, wanted)).min().unwrap();
        let mut file = std::fs::File::create(file).unwrap();
        let (mut plaintext, mut record) = (Vec::new(), Vec::new());
        let cpu = cpu_time();
        for block in data.chunks(BLOCK_LEN) {
            plaintext.clear();
            plaintext.extend_from_slice(block);
            sealer.seal(&plaintext, wanted, &mut record);
            file.write_all(&record).unwrap();
        }
        Self { pipeline: cpu_time() - cpu, pieces }
    }

    /// Prints them beside the processor time that the engine took.
    fn report(&self, mib: u64, cpu: Duration) {
        report("    in processor time", mib, cpu);
        let limits = [
            ("    the same steps alone", self.pipeline),
            ("    id, compress, AES-GCM", self.pieces),
        ];
        for (what, least) in limits {
            report(what, mib, least);
            let reached = 100.0 * least.as_secs_f64() / cpu.as_secs_f64();
            println!("        per core the engine reaches {reached:.0} % of that");
        }
    }
}

/// Bytes that compress, or do not.
fn content(kind: &str, len: usize) -> Vec<u8> {
    if kind == "random" {
        return steps::noise(len);
    }
    let mut text = vec![0; len];
    for (i, out) in text.chunks_mut(16).enumerate() {
        out.copy_from_slice(&format!("line {i:10}\n").as_bytes()[..out.len()]);
    }
    text
}

async fn measure(dir: &std::path::Path, mib: u64, env: &Env) {
    let cred = Cred::root();
    let cx = Context { cred: &cred, dac: Dac::Delegated, op: None };
    let store = Arc::new(FileStore::create(&dir.join("store")).unwrap());
    let settings = Settings::below(&dir.join("machine"));
    std::fs::create_dir_all(&settings.state_dir).unwrap();
    std::fs::create_dir_all(&settings.cache_dir).unwrap();
    let credential = Credential::Passphrase(Passphrase::new("correct horse").unwrap());
    let kdf = Argon2Params::new(19 << 10, 2, 1).unwrap();
    let creation = Creation { block_size: BLOCK_LEN as u32, label: "a".into() };
    create_vault(store.clone(), &credential, kdf, creation, &settings.state_dir, env)
        .await
        .unwrap();
    let engine = Engine::open(store, &credential, settings, env.clone(), &Silent).await.unwrap();

    let create = async |name: String| {
        let (name, flags) = (Name::new(name.as_bytes()).unwrap(), Some(OpenFlags::READ_WRITE));
        let attr = SetAttr::default();
        let made = engine.create(cx, Ino::ROOT, name, &attr, IfExists::Fail, flags).await;
        made.unwrap().handle.unwrap()
    };
    let write = async |file: &Handle, at: u64, data: bytes::Bytes| {
        let (file, at) = (At::Open(file), WriteAt::Offset(at));
        engine.write(cx, file, at, data.into(), Stability::Buffered).await.unwrap();
    };

    for kind in ["random", "text"] {
        let noise = bytes::Bytes::from(content(kind, (mib * MIB) as usize));
        // Looking whether random data compresses does not count among what has to be.
        let wanted = if kind == "random" { Compression::None } else { Compression::Lz4 };
        let limits = Limits::measure(&dir.join("pipeline"), &noise, wanted, env);
        let file = create(kind.to_owned()).await;
        let (start, cpu) = (env.monotonic(), cpu_time());
        for at in 0..mib {
            let piece = &noise[(at * MIB) as usize..((at + 1) * MIB) as usize];
            write(&file, at * MIB, bytes::Bytes::copy_from_slice(piece)).await;
        }
        report(&format!("write {kind}"), mib, env.monotonic() - start);
        engine.commit().await.unwrap();
        report(&format!("write {kind}, and fsync"), mib, env.monotonic() - start);
        limits.report(mib, cpu_time() - cpu);
        let start = env.monotonic();
        engine.sync().await.unwrap();
        report(&format!("upload {kind}"), mib, env.monotonic() - start);
        for what in ["read", "read again"] {
            let start = env.monotonic();
            for at in 0..mib {
                let read = engine.read(cx, At::Open(&file), at * MIB, MIB as u32).await.unwrap();
                assert!(
                    read.data.into_contiguous() == noise[(at * MIB) as usize..][..MIB as usize]
                );
            }
            report(&format!("{what} {kind}"), mib, env.monotonic() - start);
        }
    }
    let start = env.monotonic();
    let tell = |what: &str| {
        let rate = FILES as f64 / (env.monotonic() - start).as_secs_f64();
        println!("{what:<28} {rate:7.0} a second");
    };
    for i in 0..FILES {
        let file = create(format!("{i}")).await;
        write(&file, 0, bytes::Bytes::from(i.to_le_bytes().repeat(500))).await;
    }
    tell(&format!("{FILES} files of 4 kB"));
    engine.commit().await.unwrap();
    tell("    with a commit");
    engine.sync().await.unwrap();
    tell("    with an upload");
}
