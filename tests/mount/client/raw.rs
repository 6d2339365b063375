//! System calls that rustix does not offer, or not for every file.

#![expect(unsafe_code, reason = "neither std nor rustix has safe wrappers for these")]

use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Bytes of the longest file handle the kernel makes.
const HANDLE_BYTES: usize = libc::MAX_HANDLE_SZ as usize;

/// What the kernel calls a file besides its names, as `struct file_handle` has it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct FileHandle {
    header: [i32; 2],
    bytes: [u8; HANDLE_BYTES],
}

fn check(result: i32) -> Result<i32, Errno> {
    if result >= 0 {
        return Ok(result);
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// The handle of an open file.
pub(crate) fn handle_of(file: BorrowedFd<'_>) -> Result<FileHandle, Errno> {
    let mut handle = FileHandle { header: [HANDLE_BYTES as i32, 0], bytes: [0; HANDLE_BYTES] };
    let mut mount_id = 0;
    // SAFETY: the structure has the documented layout, with room for what it announces.
    check(unsafe {
        libc::name_to_handle_at(
            file.as_raw_fd(),
            c"".as_ptr(),
            (&raw mut handle).cast(),
            &raw mut mount_id,
            libc::AT_EMPTY_PATH,
        )
    })?;
    Ok(handle)
}

/// Finds a file by its handle, without opening it for anything.
pub(crate) fn find_handle(mount: BorrowedFd<'_>, handle: &FileHandle) -> Result<OwnedFd, Errno> {
    let mut handle = *handle;
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the structure was filled by `name_to_handle_at`.
    let fd = check(unsafe {
        libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut handle).cast(), flags)
    })?;
    // SAFETY: the call has just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `truncate(2)`.
pub(crate) fn truncate(path: &str, len: i64) -> Result<(), Errno> {
    let path = CString::new(path).map_err(|_| Errno::INVAL)?;
    // SAFETY: the path ends with a NUL and is only read.
    check(unsafe { libc::truncate(path.as_ptr(), len) }).map(drop)
}

/// A byte-range lock that belongs to an open file description; `end` of `None` reaches
/// the end of the file however it grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: i64,
    pub(crate) end: Option<i64>,
    /// `None` unlocks.
    pub(crate) exclusive: Option<bool>,
}

impl Range {
    fn to_kernel(self) -> libc::flock {
        let sort = match self.exclusive {
            Some(true) => libc::F_WRLCK,
            Some(false) => libc::F_RDLCK,
            None => libc::F_UNLCK,
        };
        libc::flock {
            l_type: sort as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: self.start,
            l_len: self.end.map_or(0, |end| end - self.start),
            l_pid: 0,
        }
    }
}

/// Takes or drops a lock without waiting (`F_OFD_SETLK`).
pub(crate) fn set_lock(file: BorrowedFd<'_>, range: Range) -> Result<(), Errno> {
    let lock = range.to_kernel();
    // SAFETY: the structure is what the command wants and is only read.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) }).map(drop)
}

/// A lock that would refuse this one (`F_OFD_GETLK`).
pub(crate) fn refusing_lock(file: BorrowedFd<'_>, range: Range) -> Result<Option<Range>, Errno> {
    let mut lock = range.to_kernel();
    // SAFETY: the structure is what the command wants, and lives while it is filled.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) })?;
    let exclusive = match i32::from(lock.l_type) {
        libc::F_WRLCK => true,
        libc::F_RDLCK => false,
        _ => return Ok(None),
    };
    let end = (lock.l_len != 0).then_some(lock.l_start + lock.l_len);
    Ok(Some(Range { start: lock.l_start, end, exclusive: Some(exclusive) }))
}
