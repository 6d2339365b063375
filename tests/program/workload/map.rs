//! Writes through a shared mapping.
#![expect(unsafe_code, reason = "neither std nor rustix has safe wrappers for mappings")]

use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

/// Pages of the machine.
pub(super) const PAGE: u64 = 4096;

/// Writes `bytes`, which lie in one page of `file`, and syncs the mapping.
pub(super) fn write(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let (len, start) = (PAGE as usize, offset / PAGE * PAGE);
    // SAFETY: a place of the kernel's choice, which nothing else refers to.
    let page = unsafe {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        mmap(std::ptr::null_mut(), len, protection, flags, file, start)?
    };
    // Not by a pointer: when a page cannot be read, this is an error instead of a signal.
    let memory = OpenOptions::new().write(true).open("/proc/self/mem")?;
    let written = memory.write_all_at(bytes, page as u64 + offset % PAGE);
    // SAFETY: what was mapped above, all of it, and nothing refers to it afterwards.
    let (synced, unmapped) = unsafe { (msync(page, len, MsyncFlags::SYNC), munmap(page, len)) };
    if let Err(error) = written.and_then(|()| Ok(synced?)) {
        // Of a page that could not be read or written, the kernel says nothing but that.
        // Whether anybody is there to do so, this asks.
        rustix::fs::fstatfs(file)?;
        return Err(error);
    }
    Ok(unmapped?)
}
