//! What the allocator keeps for itself.

#![expect(unsafe_code, reason = "neither std nor rustix speaks to the allocator")]

/// The C library keeps up to eight arenas for each processor, and what one thread frees
/// no other takes. With ten thousand files written at once a fifth of all memory lay
/// idle in them. To be called before there are threads.
pub(super) fn keep_little() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it sets a number and nothing else, whatever the number.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
