//! Key bytes that are locked in memory, wiped when dropped and never printed.
//!
//! A [`Secret`] cannot be cloned, compared with `==`, serialised or shown. Bytes
//! leave it only through [`Secret::expose`], so the uses can be found.

use super::sys::{PLACE_LEN, Place};
use crate::env::Env;
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// `N` secret bytes.
pub struct Secret<const N: usize>(Place);

/// A key of 256 bits.
pub type Key32 = Secret<32>;

impl<const N: usize> Secret<N> {
    const FITS: () = assert!(N <= PLACE_LEN);

    /// Lets `fill` write the bytes where they stay.
    #[must_use]
    pub fn fill_with(fill: impl FnOnce(&mut [u8; N])) -> Self {
        let mut secret = Self(Place::take());
        fill(secret.expose_mut());
        secret
    }

    /// Takes the bytes over: `bytes` is zero afterwards.
    #[must_use]
    pub fn take(bytes: &mut [u8; N]) -> Self {
        let secret = Self::fill_with(|place| *place = *bytes);
        bytes.zeroize();
        secret
    }

    /// Copies bytes whose owner wipes them.
    #[must_use]
    pub fn copy_of(bytes: &[u8; N]) -> Self {
        Self::fill_with(|place| *place = *bytes)
    }

    /// Fresh random bytes.
    #[must_use]
    pub fn random(env: &Env) -> Self {
        Self::fill_with(|place| env.fill_random(place))
    }

    /// The bytes, for a computation that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8; N] {
        let () = Self::FITS;
        self.0.bytes().first_chunk().expect("checked when compiling")
    }

    fn expose_mut(&mut self) -> &mut [u8; N] {
        let () = Self::FITS;
        self.0.bytes_mut().first_chunk_mut().expect("checked when compiling")
    }

    /// Compares in constant time.
    #[must_use]
    pub fn is_equal(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret<{N}>(…)")
    }
}

/// Keeps the process's memory out of core dumps and away from debuggers of the
/// same user; for the binary to call first thing.
///
/// # Errors
///
/// Whatever the operating system says; keys are then protected only by the
/// memory they lie in.
pub fn harden_process() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_wipes_the_source() {
        let mut bytes = [7; 32];
        let key = Secret::take(&mut bytes);
        assert_eq!(bytes, [0; 32]);
        assert_eq!(key.expose(), &[7; 32]);
    }

    #[test]
    fn equality_is_by_content() {
        let key = Key32::copy_of(&[1; 32]);
        assert!(key.is_equal(&Key32::copy_of(&[1; 32])));
        let mut other = [1; 32];
        other[31] = 2;
        assert!(!key.is_equal(&Key32::copy_of(&other)));
    }

    #[test]
    fn s31_debug_shows_no_bytes() {
        let text = format!("{:?}", Key32::copy_of(&[0xab; 32]));
        assert_eq!(text, "Secret<32>(…)");
    }

    #[test]
    fn random_keys_differ() {
        let env = Env::real();
        assert!(!Key32::random(&env).is_equal(&Key32::random(&env)));
    }
}
