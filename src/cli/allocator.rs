//! What the allocator keeps for itself.

#![expect(unsafe_code, reason = "neither std nor rustix speaks to the allocator")]

/// The C library keeps up to eight arenas for each processor, and what one thread frees
/// no other takes. With ten thousand files written at once a fifth of all memory lay
/// idle in them. To be called before there are threads.
///
/// What is free at the end of an arena is given back beyond some megabytes only. By
/// default that is 128 KiB, the size of a block, so that with every block and every commit
/// pages were given back and asked for again.
pub(super) fn keep_little() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it sets numbers and nothing else, whatever the numbers.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 20);
        // It no longer follows what is asked for once the other is set.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 8 << 20);
    }
}
