//! The path of a Unix socket: only its owner may connect, and what a server that died has
//! left there is replaced.

use crate::cli::exit::{Code, Failure, OrFail};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::fs::{Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Longest path that fits into an address.
const PATH_LEN_MAX: usize = 107;

/// A socket in the file system; dropping it removes it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    number: u64,
}

impl SocketFile {
    /// Listens at `path`.
    ///
    /// The socket is made in a directory that nobody else can enter, gets its mode there,
    /// and is then moved to its place: at no moment can somebody else connect. The move
    /// follows no link, and only a socket that nobody listens on is moved away.
    pub(super) fn bind(path: &Path) -> Result<(UnixListener, Self), Failure> {
        if path.as_os_str().len() > PATH_LEN_MAX {
            let message = format!("choose a path of at most {PATH_LEN_MAX} bytes for the socket");
            return Err(Failure::new(Code::Usage, message));
        }
        refuse_what_is_there(path)?;
        let made = make(path);
        let (listener, data) =
            made.or_fail(Code::Other, format!("cannot make the socket {}", path.display()))?;
        let file = Self { path: path.to_owned(), device: data.dev(), number: data.ino() };
        Ok((listener, file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_own = |data: &Metadata| (data.dev(), data.ino()) == (self.device, self.number);
        if std::fs::symlink_metadata(&self.path).is_ok_and(|data| is_own(&data)) {
            // A socket that stays is replaced by the next server.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

fn refuse_what_is_there(path: &Path) -> Result<(), Failure> {
    let message = |what: &str| format!("choose another path: {} is {what}", path.display());
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::because(Code::Other, message("out of reach"), error)),
        Ok(data) if !data.file_type().is_socket() => {
            Err(Failure::new(Code::Usage, message("something else than a socket")))
        }
        Ok(_) if is_listened_on(path) => {
            Err(Failure::new(Code::Busy, message("the socket of a server that runs")))
        }
        Ok(_) => Ok(()),
    }
}

/// Whether somebody listens there; whoever is too busy to accept counts.
fn is_listened_on(path: &Path) -> bool {
    let connected = SocketAddrUnix::new(path).and_then(|addr| {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        connect(&socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?, &addr)
    });
    connected != Err(Errno::CONNREFUSED)
}

fn make(path: &Path) -> io::Result<(UnixListener, Metadata)> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let private = parent.join(format!(".tgcryptfs-{}", std::process::id()));
    // What a process of the same number left is of no use to anybody.
    drop(std::fs::remove_file(private.join("s")));
    drop(std::fs::remove_dir(&private));
    rustix::fs::mkdir(&private, rustix::fs::Mode::RWXU)?;
    let made = private.join("s");
    let bound = (|| {
        let listener = UnixListener::bind(&made)?;
        std::fs::set_permissions(&made, Permissions::from_mode(0o600))?;
        let data = std::fs::symlink_metadata(&made)?;
        std::fs::rename(&made, path)?;
        Ok((listener, data))
    })();
    if bound.is_err() {
        drop(std::fs::remove_file(&made));
    }
    drop(std::fs::remove_dir(&private));
    bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn only_its_owner_may_open_it_and_it_goes_with_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let (listener, file) = SocketFile::bind(&path).unwrap();
        let mode = std::fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
        UnixStream::connect(&path).unwrap();
        assert_eq!(SocketFile::bind(&path).unwrap_err().code(), Code::Busy);
        drop((listener, file));
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_nobody_listens_on_is_replaced_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        let (first, file) = SocketFile::bind(&path).unwrap();
        // Somebody else's later socket is not removed with ours.
        drop(first);
        let (_second, later) = SocketFile::bind(&path).unwrap();
        drop(file);
        UnixStream::connect(&path).unwrap();
        drop(later);
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(SocketFile::bind(&path).unwrap_err().code(), Code::Usage);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, target) = (dir.path().join("socket"), dir.path().join("target"));
        for is_there in [false, true] {
            if is_there {
                drop(UnixListener::bind(&target).unwrap());
            }
            std::os::unix::fs::symlink(&target, &path).unwrap();
            assert_eq!(SocketFile::bind(&path).unwrap_err().code(), Code::Usage);
            assert_eq!(target.exists(), is_there);
            std::fs::remove_file(&path).unwrap();
        }
        assert!(SocketFile::bind(&dir.path().join("no/socket")).is_err());
        assert!(SocketFile::bind(&dir.path().join("s".repeat(120))).is_err());
    }
}
