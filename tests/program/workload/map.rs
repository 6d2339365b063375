//! Writes through a shared mapping.
#![expect(unsafe_code, reason = "neither std nor rustix has safe wrappers for mappings")]

use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};
use std::fs::File;
use std::io::{self, Read, Write};

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
    let within = (offset % PAGE) as usize;
    // SAFETY: mapped above, and nothing else refers to it.
    let place = unsafe {
        let at = page.cast::<u8>().add(within);
        std::slice::from_raw_parts_mut(at, bytes.len().min(len - within))
    };
    // By the kernel: when a page cannot be read, it says so, and sends no signal. And not
    // through /proc/self/mem, which locks all memory of this process while it waits for the
    // page: in the test of power cuts, what it waits for is served by this process.
    let written = copy(bytes, place);
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

fn copy(bytes: &[u8], place: &mut [u8]) -> io::Result<()> {
    let (mut reader, mut writer) = io::pipe()?;
    writer.write_all(bytes)?;
    // All that it can fail for is the page.
    reader
        .read_exact(place)
        .map_err(|_| io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()))
}
