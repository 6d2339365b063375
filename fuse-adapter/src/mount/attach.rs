//! Puts a FUSE connection on a directory: by `mount(2)` for whoever may, through
//! `fusermount3` for everybody else.

use super::helper;
use crate::error::MountError;
use crate::options::Options;
use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

const DEVICE: &str = "/dev/fuse";

/// Opens the FUSE device.
fn open_device() -> io::Result<File> {
    File::options().read(true).write(true).open(DEVICE)
}

/// Mounts on `path`; what comes back speaks FUSE with the kernel.
pub(crate) fn attach(path: &Path, options: &Options) -> Result<OwnedFd, MountError> {
    match open_device() {
        Ok(device) => {
            if attach_directly(&device, path, options)? {
                return Ok(device.into());
            }
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(MountError::DeviceDenied);
        }
        Err(error) if is_no_device(&error) => return Err(MountError::NoDevice),
        Err(source) => {
            let path = PathBuf::from(DEVICE);
            return Err(MountError::Io { action: "open", path, source });
        }
    }
    attach_through_helper(path, options)
}

fn is_no_device(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    [Errno::NOENT, Errno::NODEV, Errno::NXIO].into_iter().any(|e| number == Some(e.raw_os_error()))
}

/// Answers whether the kernel let us; it lets nobody but root.
fn attach_directly(device: &File, path: &Path, options: &Options) -> Result<bool, MountError> {
    let data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions{}",
        device.as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
        if options.allow_other { ",allow_other" } else { "" },
    );
    let failed = |source: io::Error| {
        let path = path.to_owned();
        MountError::Io { action: "mount on", path, source }
    };
    let data = CString::new(data).map_err(|error| failed(error.into()))?;
    let flags = if options.read_only { MountFlags::RDONLY } else { MountFlags::empty() };
    let source = options.fs_name.as_str();
    match rustix::mount::mount(source, path, options.fs_type(), flags, &*data) {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::ACCESS) => Ok(false),
        Err(Errno::NODEV) => Err(MountError::NoDevice),
        Err(errno) => Err(failed(errno.into())),
    }
}

fn attach_through_helper(path: &Path, options: &Options) -> Result<OwnedFd, MountError> {
    let mut list = format!(
        "fsname={},subtype={},default_permissions",
        helper::escape(&options.fs_name),
        helper::escape(&options.sub_type),
    );
    list.push_str(if options.read_only { ",ro" } else { ",rw" });
    if options.allow_other {
        list.push_str(",allow_other");
    }
    let failed = |source| {
        let path = path.to_owned();
        MountError::Io { action: "mount on", path, source }
    };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    // The helper sends the device over this socket, which it gets as its standard
    // input: the one descriptor a child may be handed without unsafe code.
    let output = helper::run(|command| {
        let socket =
            theirs.try_clone().map_or_else(|_| Stdio::null(), |fd| OwnedFd::from(fd).into());
        command.arg("-o").arg(&list).arg("--").arg(path);
        command.env("_FUSE_COMMFD", "0").env("LC_ALL", "C").stdin(socket);
    })?;
    drop(theirs);
    let device = receive_device(&ours).map_err(failed)?;
    device
        .filter(|_| output.status.success())
        .ok_or_else(|| helper::refusal(path, &String::from_utf8_lossy(&output.stderr)))
}

/// The descriptor that was sent over `socket`, if one was.
fn receive_device(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0_u8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut byte)];
    // Everything there will ever be has been sent, for the helper has exited.
    recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            return Ok(descriptors.next());
        }
    }
    Ok(None)
}
