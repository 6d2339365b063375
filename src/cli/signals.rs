//! The signals that end a mount, received by a thread instead of a handler.
//!
//! Invariant: [`EndSignals::block`] is called before the process has a second
//! thread, so every thread inherits the mask and only `wait` receives them.

#![expect(unsafe_code, reason = "neither std nor rustix offers signal masks")]

use std::io;
use std::mem::MaybeUninit;

/// SIGTERM, SIGINT and SIGHUP, blocked in every thread.
pub(super) struct EndSignals {
    set: libc::sigset_t,
}

impl EndSignals {
    /// Blocks the signals in this thread and those it starts from now on.
    pub(super) fn block() -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `sigemptyset` initialises the set it is given a valid pointer to; the
        // other calls get a pointer to that initialised set, and a null pointer where the
        // interface takes one for "not wanted".
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            let set = set.assume_init();
            match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) {
                0 => Ok(Self { set }),
                code => Err(io::Error::from_raw_os_error(code)),
            }
        }
    }

    /// Waits for one of the signals and names it.
    pub(super) fn wait(&self) -> &'static str {
        let mut signal = 0;
        // SAFETY: both pointers are valid for the call. `sigwait` fails only for an invalid
        // signal in the set, and the set has none.
        unsafe { libc::sigwait(&raw const self.set, &raw mut signal) };
        match signal {
            libc::SIGINT => "SIGINT",
            libc::SIGHUP => "SIGHUP",
            _ => "SIGTERM",
        }
    }
}
