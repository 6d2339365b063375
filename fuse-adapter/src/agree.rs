//! What is agreed with the kernel when the session starts.
//!
//! The crate's documentation says why each feature is asked for or left out.

use crate::core::Agreed;
use crate::options::Options;
use crate::wire::{Arguments, Body, MAJOR, MINOR, MINOR_MIN, Malformed, feature};
use vfs::Limits;

/// Largest write the kernel may send; it never sends more than this on its own.
const WRITE_MAX: u32 = 1 << 20;
/// Writes come in whole pages.
const PAGE: u32 = 4096;
/// Requests the kernel may have under way that nobody waits for, such as read-ahead: a
/// few per stream, for a few dozen streams.
const BACKGROUND_MAX: u16 = 128;
/// With so many the kernel holds back more of them.
const CONGESTED_AT: u16 = BACKGROUND_MAX / 4 * 3;
/// The kernel keeps times to the nanosecond.
const TIME_UNIT_NS: u32 = 1;

/// Asked for wherever the kernel has it; each stands alone.
const WANTED: u64 = feature::ASYNC_READ
    | feature::BIG_WRITES
    | feature::MAX_PAGES
    | feature::ATOMIC_O_TRUNC
    | feature::EXPORT_SUPPORT
    | feature::ASYNC_DIO
    | feature::PARALLEL_DIROPS
    | feature::DO_READDIRPLUS
    | feature::READDIRPLUS_AUTO
    | feature::CACHE_SYMLINKS
    | feature::EXPLICIT_INVAL_DATA
    | feature::HANDLE_KILLPRIV_V2
    | feature::INIT_EXT;

/// What the kernel says when a session starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    major: u32,
    minor: u32,
    read_ahead: u32,
    features: u64,
}

impl Offer {
    /// Reads the arguments of the first request.
    pub(crate) fn parse(mut arguments: Arguments<'_>) -> Result<Self, Malformed> {
        let (major, minor) = (arguments.u32()?, arguments.u32()?);
        if major != MAJOR || minor < MINOR_MIN {
            return Ok(Self { major, minor, read_ahead: 0, features: 0 });
        }
        let read_ahead = arguments.u32()?;
        let mut features = u64::from(arguments.u32()?);
        if features & feature::INIT_EXT != 0 {
            features |= u64::from(arguments.u32()?) << 32;
        }
        Ok(Self { major, minor, read_ahead, features })
    }

    /// Whether the kernel speaks a newer protocol and will offer an older one.
    pub(crate) fn is_newer(&self) -> bool {
        self.major > MAJOR
    }

    /// Whether the kernel is older than what is spoken here.
    pub(crate) fn is_too_old(&self) -> bool {
        self.major < MAJOR || self.major == MAJOR && self.minor < MINOR_MIN
    }

    /// The protocol's version, for a message.
    pub(crate) fn version(&self) -> String {
        format!("{}.{}", self.major, self.minor)
    }

    /// Chooses features and sizes: the reply, and what was agreed.
    pub(crate) fn accept(&self, options: &Options, limits: Limits) -> (Body, Agreed) {
        let mut wanted = WANTED;
        if options.writeback_cache {
            wanted |= feature::WRITEBACK_CACHE;
        }
        if self.features & feature::EXPLICIT_INVAL_DATA == 0 {
            // Before Linux 5.2: drop pages when the modification time says so.
            wanted |= feature::AUTO_INVAL_DATA;
        }
        let granted = wanted & self.features;
        log::debug!("features asked of FUSE {}: {wanted:#x}, granted {granted:#x}", self.version());
        let (low, high) = (granted as u32, (granted >> 32) as u32);
        let write_max = write_max(limits);
        let pages_max = write_max / PAGE;
        let body = Body::with_capacity(64)
            .u32(MAJOR)
            .u32(MINOR)
            .u32(self.read_ahead.min(options.read_ahead))
            .u32(low)
            .u16(BACKGROUND_MAX)
            .u16(CONGESTED_AT)
            .u32(write_max)
            .u32(TIME_UNIT_NS)
            .u16(pages_max as u16)
            .u16(0)
            .u32(high)
            .zeros(28);
        let has = |feature| granted & feature != 0;
        let agreed = Agreed {
            writeback: has(feature::WRITEBACK_CACHE),
            kills_privileges: has(feature::HANDLE_KILLPRIV_V2),
        };
        (body, agreed)
    }
}

/// The answer to an offer of a newer protocol.
pub(crate) fn counter_offer() -> Body {
    Body::with_capacity(64).u32(MAJOR).u32(MINOR).zeros(56)
}

/// Bytes of the largest write: whole pages.
pub(crate) fn write_max(limits: Limits) -> u32 {
    (limits.write_max.min(WRITE_MAX) / PAGE * PAGE).max(PAGE)
}
