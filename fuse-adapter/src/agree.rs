//! What is agreed with the kernel when the session starts.
//!
//! The crate's documentation says why each feature is asked for or left out.

use crate::core::Agreed;
use crate::options::Options;
use fuser::{InitFlags, KernelConfig};
use vfs::Limits;

/// Largest write the kernel may send; it never sends more than this on its own.
const WRITE_MAX: u32 = 1 << 20;
/// Writes come in whole pages.
const PAGE: u32 = 4096;
/// Requests the kernel may have under way that nobody waits for, such as read-ahead: a
/// few per stream, for a few dozen streams.
const BACKGROUND_MAX: u16 = 128;

/// Asked for wherever the kernel has it; each stands alone.
const WANTED: [InitFlags; 8] = [
    InitFlags::FUSE_ATOMIC_O_TRUNC,
    InitFlags::FUSE_EXPORT_SUPPORT,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
];

/// Asks for features and sizes; answers what was granted.
pub(crate) fn negotiate(config: &mut KernelConfig, options: &Options, limits: Limits) -> Agreed {
    let mut granted = InitFlags::empty();
    let mut want = |flag| match config.add_capabilities(flag) {
        Ok(()) => granted |= flag,
        Err(missing) => log::debug!("this kernel's FUSE lacks {missing:?}"),
    };
    WANTED.into_iter().for_each(&mut want);
    if options.writeback_cache {
        want(InitFlags::FUSE_WRITEBACK_CACHE);
    }
    want(InitFlags::FUSE_EXPLICIT_INVAL_DATA);
    if !granted.contains(InitFlags::FUSE_EXPLICIT_INVAL_DATA) {
        // Before Linux 5.2: drop pages when the modification time says so.
        let _ = config.add_capabilities(InitFlags::FUSE_AUTO_INVAL_DATA);
    }

    let write_max = limits.write_max.min(WRITE_MAX) / PAGE * PAGE;
    let _ = config.set_max_write(write_max.max(PAGE));
    let _ = config.set_max_background(BACKGROUND_MAX);
    if let Err(nearest) = config.set_max_readahead(options.read_ahead) {
        let _ = config.set_max_readahead(nearest);
    }
    Agreed {
        writeback: granted.contains(InitFlags::FUSE_WRITEBACK_CACHE),
        kills_privileges: granted.contains(InitFlags::FUSE_HANDLE_KILLPRIV_V2),
    }
}
