//! The steps that a block takes at least, without an engine around them: what each costs,
//! and what it costs to have another thread do them.

use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::hint::black_box;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tgcryptfs::crypto::Key32;
use tgcryptfs::crypto::aead;
use tgcryptfs::crypto::block::{self, BlockHead, BlockType};
use tgcryptfs::crypto::compress::{Compression, compress};
use tgcryptfs::crypto::ids::{Epoch, NamespaceId};
use tgcryptfs::crypto::keys::{EpochKeys, EpochSecret, NamespaceKeys};
use tgcryptfs::env::Env;

/// Lengths of the blocks whose sealing is measured.
const BLOCK_LENS: [usize; 3] = [4 << 10, 64 << 10, 128 << 10];
/// Bytes that go through each step.
const LEN: usize = 64 << 20;
/// How often they do. The least counts: only the machine can make it more.
const PASSES: u32 = 5;
/// How often another thread is woken.
const WAKES: usize = 5000;
/// How long a thread sleeps before it is woken, where it is to sleep well.
const REST: Duration = Duration::from_millis(1);

/// Bytes that do not compress.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// Seals blocks as the engine does.
pub(crate) struct Sealer<'e> {
    env: &'e Env,
    namespace: NamespaceKeys,
    epoch: EpochKeys,
}

impl<'e> Sealer<'e> {
    pub(crate) fn new(env: &'e Env) -> Self {
        let secret = EpochSecret::random(env);
        Self {
            env,
            namespace: NamespaceKeys::random(env),
            epoch: EpochKeys::new(NamespaceId::random(env), Epoch(0), &secret),
        }
    }

    /// Replaces what `record` holds by the block's record.
    pub(crate) fn seal(&self, plaintext: &[u8], wanted: Compression, record: &mut Vec<u8>) {
        let (codec, body) = compress(plaintext, wanted);
        let id = block::block_id(&self.namespace, BlockType::Data, plaintext);
        let plain_len = plaintext.len() as u32;
        let head = BlockHead { block_type: BlockType::Data, id, codec, plain_len };
        record.clear();
        block::seal(self.env, &self.epoch, &head, &body, record);
    }

    /// How long ids, compression and AES-GCM take on one core, and nothing beside them: no
    /// byte is taken over from anybody, and none is written.
    pub(crate) fn pieces(&self, data: &[u8], block_len: usize, wanted: Compression) -> Duration {
        let (key, nonce) = (Key32::random(self.env), self.env.random_array());
        let mut took = Duration::ZERO;
        let mut message = Vec::new();
        for block in data.chunks(block_len) {
            let start = self.env.monotonic();
            black_box(block::block_id(&self.namespace, BlockType::Data, block));
            let (_, body) = compress(block, wanted);
            took += self.env.monotonic() - start;
            message.clear();
            message.extend_from_slice(&body);
            let start = self.env.monotonic();
            aead::seal_in_place(&key, &nonce, &[], &mut message);
            took += self.env.monotonic() - start;
        }
        took
    }
}

/// What `work` takes for a block, microseconds.
fn least_us(env: &Env, data: &[u8], block_len: usize, mut work: impl FnMut(&[u8])) -> f64 {
    let blocks = (data.len() / block_len) as f64;
    let mut least = f64::INFINITY;
    for _ in 0..PASSES {
        let start = env.monotonic();
        for block in data.chunks_exact(block_len) {
            work(block);
        }
        least = least.min((env.monotonic() - start).as_secs_f64() * 1e6 / blocks);
    }
    least
}

/// Prints what sealing blocks takes, of data that does not compress.
pub(crate) fn report_sealing(env: &Env) {
    let (data, sealer) = (noise(LEN), Sealer::new(env));
    let (key, nonce) = (Key32::random(env), env.random_array());
    let mut buffer = Vec::new();
    for len in BLOCK_LENS {
        let whole = least_us(env, &data, len, |block| {
            sealer.seal(block, Compression::Lz4, &mut buffer);
        });
        let id = least_us(env, &data, len, |block| {
            black_box(block::block_id(&sealer.namespace, BlockType::Data, block));
        });
        let look = least_us(env, &data, len, |block| {
            black_box(compress(block, Compression::Lz4));
        });
        // Always the same bytes, each time with a key to prepare, as each block has its own.
        let aead = least_us(env, &data, len, |block| {
            buffer.resize(block.len(), 0);
            aead::seal_in_place(&key, &nonce, &[], &mut buffer);
        });
        println!(
            "seal {:4} KiB                {whole:7.2} µs  (id {id:.2}, looking whether it \
             compresses {look:.2}, AES-GCM {aead:.2})",
            len >> 10
        );
    }
}

/// The processors that this thread may run on.
fn cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect()
}

/// Keeps the calling thread on one processor.
fn stay_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).unwrap();
}

/// Adds to an event counter, which wakes who waits for it.
fn wake(event: &OwnedFd) {
    rustix::io::write(event, &1_u64.to_ne_bytes()).unwrap();
}

/// Sleeps until somebody adds to an event counter.
fn wait(event: &OwnedFd) {
    let mut count = [0_u8; 8];
    rustix::io::read(event, &mut count).unwrap();
}

/// How long it takes from before a thread on processor `from` wakes one on `to` until that
/// runs, in the median, microseconds. The two wake each other in turns; before each turn
/// `from` works for `rest`, while the other sleeps.
fn wake_us(env: &Env, from: usize, to: usize, rest: Duration) -> f64 {
    let new_event = || eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let (ping, pong, woken_ns) = (new_event(), new_event(), AtomicU64::new(0));
    let now_ns = || env.monotonic().as_nanos() as u64;
    let mut took_ns: Vec<u64> = std::thread::scope(|scope| {
        scope.spawn(|| {
            stay_on(to);
            for _ in 0..WAKES {
                wait(&ping);
                woken_ns.store(now_ns(), Ordering::Release);
                wake(&pong);
            }
        });
        let waker = scope.spawn(|| {
            stay_on(from);
            let turn = |_: usize| {
                let until = env.monotonic() + rest;
                while env.monotonic() < until {
                    std::hint::spin_loop();
                }
                let start_ns = now_ns();
                wake(&ping);
                wait(&pong);
                woken_ns.load(Ordering::Acquire) - start_ns
            };
            (0..WAKES).map(turn).collect::<Vec<u64>>()
        });
        waker.join().unwrap()
    });
    took_ns.sort_unstable();
    took_ns[took_ns.len() / 2] as f64 / 1e3
}

/// Prints what waking another thread takes.
pub(crate) fn report_waking(env: &Env) {
    let cpus = cpus();
    let here = cpus[0];
    let show = |what: &str, to: usize, rest: Duration| {
        println!("{what:<28} {:7.2} µs", wake_us(env, here, to, rest));
    };
    show("wake, same core", here, Duration::ZERO);
    let Some(there) = cpus.get(1).copied() else {
        println!("there is one core: waking a thread on another is not measured");
        return;
    };
    show("wake, other core", there, Duration::ZERO);
    show("wake, other core, after 1 ms", there, REST);
}
