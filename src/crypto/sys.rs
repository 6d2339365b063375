//! Memory for key bytes: never swapped, never in a core dump, wiped after use.
//!
//! Places of [`PLACE_LEN`] bytes are handed out from regions that are mapped
//! with a guard page on either side and stay mapped for the life of the process,
//! so a place is valid for as long as anybody holds it. A place is held by one
//! [`Place`] at a time and is all zeros whenever nobody holds it.
//!
//! Locking can fail (`RLIMIT_MEMLOCK`); the keys then work, and a warning is
//! logged once.

#![expect(unsafe_code, reason = "maps and protects memory")]

use parking_lot::Mutex;
use rustix::mm::{self, MapFlags, MprotectFlags, ProtFlags};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};
use zeroize::Zeroize;

/// Bytes of a place; the longest secret is a 32-byte key, with room to spare.
pub(super) const PLACE_LEN: usize = 64;

/// Bytes of a region, unless a page is larger: 256 places, and small against
/// the lock limits of 64 KiB found in the wild.
const REGION_LEN: usize = 16 << 10;

static FREE: Mutex<Vec<Place>> = Mutex::new(Vec::new());
static WARNED: AtomicBool = AtomicBool::new(false);

/// The exclusive use of [`PLACE_LEN`] bytes; gives them back when released.
pub(super) struct Place(NonNull<[u8; PLACE_LEN]>);

// SAFETY: the bytes belong to the process, not to a thread, and to one `Place`.
unsafe impl Send for Place {}
// SAFETY: through `&Place` the bytes can only be read.
unsafe impl Sync for Place {}

impl Place {
    /// Takes a place, all zeros.
    pub(super) fn take() -> Self {
        let mut free = FREE.lock();
        if free.is_empty() {
            map_region(&mut free);
        }
        free.pop().expect("a region was just added")
    }

    /// Wipes the place and lets others take it.
    pub(super) fn release(&mut self) {
        self.bytes_mut().zeroize();
        FREE.lock().push(Self(self.0));
    }

    pub(super) fn bytes(&self) -> &[u8; PLACE_LEN] {
        // SAFETY: the region is mapped for good, initialised (zero-filled by the
        // kernel) and this place is held by `self` alone.
        unsafe { self.0.as_ref() }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8; PLACE_LEN] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { self.0.as_mut() }
    }
}

fn map_region(free: &mut Vec<Place>) {
    let guard_len = page_len();
    let region_len = REGION_LEN.next_multiple_of(guard_len);
    let all_len = region_len + 2 * guard_len;
    // SAFETY: a new private mapping at an address of the kernel's choice touches
    // no memory that exists.
    let mapped = unsafe {
        mm::mmap_anonymous(ptr::null_mut(), all_len, ProtFlags::empty(), MapFlags::PRIVATE)
    };
    let base = mapped.expect("no memory for keys");
    // SAFETY: `guard_len + region_len` is inside the mapping of `all_len` bytes.
    let region = unsafe { base.byte_add(guard_len) };
    let access = MprotectFlags::READ | MprotectFlags::WRITE;
    // SAFETY: `region` starts on a page and lies inside the mapping just made,
    // to which nobody else has a pointer.
    unsafe { mm::mprotect(region, region_len, access) }.expect("no memory for keys");
    protect(region, region_len);

    for index in 0..region_len / PLACE_LEN {
        // SAFETY: the index keeps the pointer inside the region.
        let place = unsafe { region.byte_add(index * PLACE_LEN) };
        free.push(Place(NonNull::new(place.cast()).expect("the kernel maps nothing at zero")));
    }
}

fn protect(region: *mut std::ffi::c_void, len: usize) {
    // SAFETY: the region is mapped; locking does not change its content.
    let locked = unsafe { mm::mlock(region, len) };
    #[cfg(target_os = "linux")]
    // SAFETY: as above; the advice only concerns core dumps.
    let undumped = unsafe { mm::madvise(region, len, mm::Advice::LinuxDontDump) };
    #[cfg(not(target_os = "linux"))]
    let undumped = rustix::io::Result::Ok(());
    if let Err(errno) = locked.and(undumped)
        && !WARNED.swap(true, Ordering::Relaxed)
    {
        log::warn!(
            "keys may be swapped to disk: locking memory failed: {errno}; raise the limit on locked memory (ulimit -l)"
        );
    }
}

fn page_len() -> usize {
    // SAFETY: sysconf has no preconditions.
    let len = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(len).ok().filter(|len| len.is_power_of_two()).unwrap_or(REGION_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::FileExt as _;

    /// The address range and permissions of each mapping, in order.
    fn mappings() -> Vec<(usize, usize, String)> {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let number = |text: &str| usize::from_str_radix(text, 16).unwrap();
        let parse = |line: &str| {
            let (range, rest) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            (number(start), number(end), rest[..4].to_owned())
        };
        maps.lines().map(parse).collect()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn places_lie_between_guard_pages_and_outside_core_dumps() {
        let mut place = Place::take();
        let address = place.0.as_ptr().addr();
        let maps = mappings();
        let found = maps.iter().position(|(start, end, _)| (*start..*end).contains(&address));
        let index = found.unwrap();
        assert_eq!(maps[index].2, "rw-p");
        assert_eq!((maps[index - 1].1, &maps[index - 1].2[..]), (maps[index].0, "---p"));
        assert_eq!((maps[index + 1].0, &maps[index + 1].2[..]), (maps[index].1, "---p"));

        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let entry = smaps.split_once(&format!("{:x}-{:x} ", maps[index].0, maps[index].1));
        let flags = entry.unwrap().1.lines().find(|line| line.starts_with("VmFlags")).unwrap();
        assert!(flags.split_whitespace().any(|flag| flag == "dd"), "{flags}");
        place.release();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn released_places_are_wiped() {
        let mut place = Place::take();
        assert_eq!(place.bytes(), &[0; PLACE_LEN]);
        place.bytes_mut().fill(0xa5);
        let address = place.0.as_ptr().addr();
        place.release();
        // Another test may hold the place by now, but it does not hold these bytes.
        let mut bytes = [0; PLACE_LEN];
        let memory = fs::File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut bytes, address as u64).unwrap();
        assert_ne!(bytes, [0xa5; PLACE_LEN]);
    }

    #[test]
    fn places_do_not_overlap() {
        let mut places: Vec<_> = (0..600).map(|_| Place::take()).collect();
        let mut addresses: Vec<_> = places.iter().map(|place| place.0.as_ptr().addr()).collect();
        addresses.sort_unstable();
        assert!(addresses.windows(2).all(|pair| pair[1] - pair[0] >= PLACE_LEN));
        places.iter_mut().for_each(Place::release);
    }
}
