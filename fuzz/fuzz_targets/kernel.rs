//! What the kernel's FUSE driver sends, over a file system in memory: any request is
//! answered once, as the protocol says, whatever was asked before.

#![no_main]

use fuse_adapter::Options;
use fuse_adapter::fuzz::Kernel;
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};
use tgcryptfs::codec::Reader;
use tokio::runtime::{Builder, Runtime};
use vfs::Limits;
use vfs::model::{ManualClock, ModelFs, ModelOptions};

const HEADER_LEN: usize = 40;
/// Requests of one session at most.
const REQUESTS_MAX: usize = 64;
/// `FORGET` and `BATCH_FORGET`, which nobody waits for.
const UNANSWERED: [u32; 2] = [2, 42];

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime without a driver"));

fn model() -> Arc<ModelFs> {
    let limits = Limits { file_size_max: 1 << 16, ..ModelOptions::default().limits };
    let options = ModelOptions { limits, root_mode: 0o777, ..ModelOptions::default() };
    Arc::new(ModelFs::with_options(ManualClock::new(1_800_000_000).clock(), options))
}

/// The next request: as it is if its first byte is odd, else behind a header that is
/// right in everything but the operation and the inode.
fn next(r: &mut Reader<'_>, unique: u64) -> Option<Vec<u8>> {
    let (kind, len) = (r.u8("kind").ok()?, r.u16("length").ok()?);
    if kind & 1 == 1 {
        return r.raw("request", len.into()).ok().map(<[u8]>::to_vec);
    }
    let (opcode, ino) = (r.u8("operation").ok()?, r.u8("inode").ok()?);
    let arguments = r.raw("arguments", len.into()).ok()?;
    let mut request = Vec::new();
    let total = (HEADER_LEN + arguments.len()) as u32;
    request.extend([total, opcode.into()].map(u32::to_ne_bytes).concat());
    request.extend([unique, ino.into()].map(u64::to_ne_bytes).concat());
    request.extend([1000_u32, 1000, 1, 0].map(u32::to_ne_bytes).concat());
    request.extend(arguments);
    Some(request)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("N bytes are N bytes")
}

/// The operation and the number of a request whose header is whole.
fn header(request: &[u8]) -> Option<(u32, u64)> {
    let extensions = usize::from(u16::from_ne_bytes(*request.get(36..38)?.first_chunk()?)) * 8;
    let is_whole = u32::from_ne_bytes(number(request, 0)) as usize == request.len()
        && request.len() >= HEADER_LEN + extensions;
    is_whole
        .then(|| (u32::from_ne_bytes(number(request, 4)), u64::from_ne_bytes(number(request, 8))))
}

fuzz_target!(|input: &[u8]| {
    let mut r = Reader::new(input);
    let writeback_cache = r.u8("options").is_ok_and(|byte| byte & 1 == 1);
    let Some(first) = next(&mut r, 1) else { return };
    let options = Options { writeback_cache, ..Options::new("/") };
    let started = Kernel::start(model(), RUNTIME.handle().clone(), options, &first);
    let Ok(mut kernel) = started else { return };
    for unique in 2..2 + REQUESTS_MAX as u64 {
        let Some(request) = next(&mut r, unique) else { break };
        kernel.ask(&request).expect("a socket in this process");
        let answer = kernel.answer().expect("a socket in this process").map(<[u8]>::to_vec);
        match (header(&request), answer) {
            (Some((opcode, _)), None) => assert!(UNANSWERED.contains(&opcode)),
            (Some((_, unique)), Some(answer)) => {
                assert_eq!(u32::from_ne_bytes(number(&answer, 0)) as usize, answer.len());
                assert_eq!(u64::from_ne_bytes(number(&answer, 8)), unique);
                let error = i32::from_ne_bytes(number(&answer, 4));
                assert!((-4095..=0).contains(&error) && (error == 0 || answer.len() == 16));
            }
            (None, answer) => assert_eq!(answer, None),
        }
        assert_eq!(kernel.answer().expect("a socket in this process"), None, "one answer");
    }
});
