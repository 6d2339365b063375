//! The load: the same client for every server of a protocol.
//!
//! It speaks the protocol itself over one connection, with as many requests under way as
//! a step says, and looks at every answer. Data is random and lies in memory; what is
//! read is compared with it.

pub(crate) mod content;
pub(crate) mod link;
pub(crate) mod nfs;
pub(crate) mod p9;

use link::Wire;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use std::error::Error;
use std::time::{Duration, Instant};

/// What a step of the load can fail with.
pub(crate) type Done<T = ()> = Result<T, Box<dyn Error>>;

/// Files in a directory of small files.
pub(crate) const FILES: usize = 5000;
/// Requests under way in the steps that have several.
pub(crate) const DEPTH: usize = 8;
/// Getting attributes, looking names up, and small reads.
pub(crate) const ASKED: usize = 10_000;
/// Bytes of a small read or write.
pub(crate) const SMALL: usize = 4096;
/// Bytes of the file for small reads.
pub(crate) const READ_IN: usize = 64 << 20;
/// Bytes of the file that is streamed.
pub(crate) const STREAMED: usize = 512 << 20;
/// Times a directory is listed.
pub(crate) const LISTINGS: usize = 5;

/// The name of a small file.
pub(crate) fn name(item: usize) -> String {
    format!("file-{item:05}")
}

/// Measures steps.
pub(crate) struct Meter {
    server: ClockId,
    own: ClockId,
}

impl Meter {
    /// Measures the CPU time of this server.
    pub(crate) fn new(pid: i32) -> Done<Self> {
        let server = clock_getcpuclockid(Pid::from_raw(pid))?;
        Ok(Self { server, own: ClockId::CLOCK_PROCESS_CPUTIME_ID })
    }

    /// Runs a step of `count` operations on `bytes` bytes, and prints what it took.
    pub(crate) fn step(
        &self,
        name: &str,
        (count, bytes): (usize, usize),
        work: impl FnOnce() -> Done,
    ) -> Done {
        let now = |clock: ClockId| clock.now().map(TimeSpec::into);
        let (server, own): (Duration, Duration) = (now(self.server)?, now(self.own)?);
        let started = Instant::now();
        work().map_err(|error| format!("{name}: {error}"))?;
        let seconds = started.elapsed().as_secs_f64();
        let server = (now(self.server)? - server).as_secs_f64();
        let own = (now(self.own)? - own).as_secs_f64();
        println!(
            "{{\"step\": \"{name}\", \"seconds\": {seconds}, \"count\": {count}, \
             \"bytes\": {bytes}, \"server_cpu\": {server}, \"client_cpu\": {own}}}"
        );
        Ok(())
    }
}

/// One turn of an operation: its first, or after an answer.
pub(crate) struct Turn<'a> {
    /// Which of the operations under way: below the depth.
    pub(crate) slot: usize,
    /// Which of all operations.
    pub(crate) item: usize,
    /// How many answers it has had.
    pub(crate) stage: usize,
    /// The last answer.
    pub(crate) reply: &'a [u8],
}

/// Keeps `depth` operations under way until `count` are done. `turn` sends what comes
/// next of one, or says that it is over.
pub(crate) fn pump<W: Wire>(
    wire: &mut W,
    depth: usize,
    count: usize,
    mut turn: impl FnMut(&mut W, Turn<'_>) -> Done<bool>,
) -> Done {
    let mut record = Vec::new();
    let mut under_way = Vec::new();
    for item in 0..depth.min(count) {
        turn(wire, Turn { slot: item, item, stage: 0, reply: &[] })?;
        under_way.push((item, 0));
    }
    let (mut begun, mut done) = (under_way.len(), 0);
    while done < count {
        let (slot, reply) = wire.receive(&mut record)?;
        let (item, stage) = under_way.get_mut(slot).ok_or("an answer to nothing")?;
        *stage += 1;
        if turn(wire, Turn { slot, item: *item, stage: *stage, reply })? {
            continue;
        }
        done += 1;
        if begun < count {
            (*item, *stage) = (begun, 0);
            turn(wire, Turn { slot, item: begun, stage: 0, reply: &[] })?;
            begun += 1;
        }
    }
    Ok(())
}

/// A position that looks random: small reads go there.
pub(crate) fn somewhere(item: usize) -> usize {
    let mixed = (item as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 20) as usize % (READ_IN / SMALL) * SMALL
}
