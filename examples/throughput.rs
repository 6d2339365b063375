//! How fast the engine writes, reads and creates, over a directory store, and how much of
//! the processor's time that takes beside the steps that nothing can do without:
//! `cargo run --release --example throughput [DIRECTORY [MIB]]`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that fails may stop")]

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tgcryptfs::crypto::block::{self, BlockHead, BlockType};
use tgcryptfs::crypto::compress::{Compression, compress};
use tgcryptfs::crypto::ids::{Epoch, NamespaceId};
use tgcryptfs::crypto::kdf::Argon2Params;
use tgcryptfs::crypto::keys::{EpochKeys, EpochSecret, NamespaceKeys};
use tgcryptfs::engine::{Creation, Engine, Handle, Settings, Silent, create_vault};
use tgcryptfs::env::Env;
use tgcryptfs::store::FileStore;
use tgcryptfs::vault::{Credential, Passphrase};
use vfs::{
    At, Context, Cred, Dac, IfExists, Ino, Name, OpenFlags, SetAttr, Stability, Vfs, WriteAt,
};

const MIB: u64 = 1 << 20;
const FILES: u64 = 20_000;
const BLOCK_LEN: usize = 256 << 10;

fn main() {
    let mut args = std::env::args().skip(1);
    let parent = args.next().map_or_else(std::env::temp_dir, Into::into);
    let mib = args.next().map_or(1024, |text| text.parse().unwrap());
    let dir = tempfile::tempdir_in(parent).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    runtime.block_on(measure(dir.path(), mib));
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

/// What cannot be left out, on one core: taking the data over, id, compression, seal, and
/// the writing of what is sealed. Answers the processor time.
fn pipeline(file: &std::path::Path, data: &[u8], wanted: Compression, env: &Env) -> Duration {
    let (namespace, epoch) = (NamespaceKeys::random(env), EpochSecret::random(env));
    let epoch = EpochKeys::new(NamespaceId::random(env), Epoch(0), &epoch);
    let mut file = std::fs::File::create(file).unwrap();
    let (mut plaintext, mut record) = (Vec::new(), Vec::new());
    let cpu = cpu_time();
    for block in data.chunks(BLOCK_LEN) {
        plaintext.clear();
        plaintext.extend_from_slice(block);
        let (codec, body) = compress(&plaintext, wanted);
        let id = block::block_id(&namespace, BlockType::Data, &plaintext);
        let plain_len = plaintext.len() as u32;
        let head = BlockHead { block_type: BlockType::Data, id, codec, plain_len };
        record.clear();
        block::seal(env, &epoch, &head, &body, &mut record);
        file.write_all(&record).unwrap();
    }
    cpu_time() - cpu
}

async fn measure(dir: &std::path::Path, mib: u64) {
    let (env, cred) = (Env::real(), Cred::root());
    let cx = Context { cred: &cred, dac: Dac::Delegated, op: None };
    let store = Arc::new(FileStore::create(&dir.join("store")).unwrap());
    let settings = Settings::below(&dir.join("machine"));
    std::fs::create_dir_all(&settings.state_dir).unwrap();
    std::fs::create_dir_all(&settings.cache_dir).unwrap();
    let credential = Credential::Passphrase(Passphrase::new("correct horse").unwrap());
    let kdf = Argon2Params::new(19 << 10, 2, 1).unwrap();
    let creation = Creation { block_size: BLOCK_LEN as u32, label: "a".into() };
    create_vault(store.clone(), &credential, kdf, creation, &settings.state_dir, &env)
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
        let mut noise = vec![0; (mib * MIB) as usize];
        match kind {
            "random" => blake3::Hasher::new().finalize_xof().fill(&mut noise),
            _ => noise.chunks_mut(16).enumerate().for_each(|(i, out)| {
                out.copy_from_slice(&format!("line {i:10}\n").as_bytes()[..out.len()]);
            }),
        }
        let noise = bytes::Bytes::from(noise);
        // What does not compress is found out by a small part of it.
        let wanted = if kind == "random" { Compression::None } else { Compression::Lz4 };
        let least = pipeline(&dir.join("pipeline"), &noise, wanted, &env);
        let file = create(kind.to_owned()).await;
        let (start, cpu) = (env.monotonic(), cpu_time());
        for at in 0..mib {
            let piece = &noise[(at * MIB) as usize..((at + 1) * MIB) as usize];
            write(&file, at * MIB, bytes::Bytes::copy_from_slice(piece)).await;
        }
        report(&format!("write {kind}"), mib, env.monotonic() - start);
        engine.commit().await.unwrap();
        report(&format!("write {kind}, and fsync"), mib, env.monotonic() - start);
        let cpu = cpu_time() - cpu;
        println!(
            "    processor time {:.2} s; what cannot be left out takes {:.2} s, {:.0} % of it",
            cpu.as_secs_f64(),
            least.as_secs_f64(),
            100.0 * least.as_secs_f64() / cpu.as_secs_f64()
        );
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
    for i in 0..FILES {
        let file = create(format!("{i}")).await;
        write(&file, 0, bytes::Bytes::from(i.to_le_bytes().repeat(500))).await;
    }
    println!(
        "{FILES} files of 4 kB: {:.0} a second",
        FILES as f64 / (env.monotonic() - start).as_secs_f64()
    );
    engine.commit().await.unwrap();
    println!(
        "    with a commit: {:.0} a second",
        FILES as f64 / (env.monotonic() - start).as_secs_f64()
    );
    engine.sync().await.unwrap();
    println!(
        "    with an upload: {:.0} a second",
        FILES as f64 / (env.monotonic() - start).as_secs_f64()
    );
}
