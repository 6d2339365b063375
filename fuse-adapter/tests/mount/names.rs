//! The tree: every kind of inode, names, links, renames, attributes.

use crate::support::{Mounted, errno, errno_of, is_root, read_write};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, RenameFlags, Timespec, Timestamps, XattrFlags, mknodat,
    renameat_with, utimensat,
};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

#[test]
fn directories_files_and_links_come_and_go() {
    let fs = Mounted::new();
    fs::create_dir(fs.at("d")).unwrap();
    assert_eq!(fs.root().metadata().unwrap().nlink(), 3, "the new directory's `..`");
    fs::write(fs.at("d/f"), b"one").unwrap();
    fs::hard_link(fs.at("d/f"), fs.at("g")).unwrap();
    let (f, g) = (fs.at("d/f").metadata().unwrap(), fs.at("g").metadata().unwrap());
    assert_eq!((f.ino(), f.nlink()), (g.ino(), 2));
    File::options().append(true).open(fs.at("g")).unwrap().write_all(b" two").unwrap();
    assert_eq!(fs::read(fs.at("d/f")).unwrap(), b"one two");

    assert_eq!(errno(fs::remove_dir(fs.at("d"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::remove_file(fs.at("d"))), libc::EISDIR);
    assert_eq!(errno(fs::create_dir(fs.at("g"))), libc::EEXIST);
    assert_eq!(errno(fs::hard_link(fs.at("d"), fs.at("h"))), libc::EPERM);
    fs::remove_file(fs.at("d/f")).unwrap();
    assert_eq!(fs.at("g").metadata().unwrap().nlink(), 1);
    fs::remove_dir(fs.at("d")).unwrap();
    fs::remove_file(fs.at("g")).unwrap();
    assert_eq!(fs::read_dir(fs.root()).unwrap().count(), 0);
}

#[test]
fn symbolic_links_are_data() {
    let fs = Mounted::new();
    fs::write(fs.at("target"), b"here").unwrap();
    symlink("target", fs.at("good")).unwrap();
    symlink("/nowhere/at/all", fs.at("bad")).unwrap();
    let long = "x/".repeat(2047);
    symlink(&long, fs.at("long")).unwrap();
    assert_eq!(fs::read(fs.at("good")).unwrap(), b"here");
    assert_eq!(fs::read_link(fs.at("bad")).unwrap(), Path::new("/nowhere/at/all"));
    assert_eq!(fs::read_link(fs.at("long")).unwrap().as_os_str().len(), 4094);
    let link = fs.at("bad").symlink_metadata().unwrap();
    assert!(link.file_type().is_symlink() && link.len() == 15);
    assert_eq!(errno(fs::read(fs.at("bad"))), libc::ENOENT);
    // The second look comes from the kernel's cache.
    let asked = fs.probe.count("readlink");
    assert_eq!(fs::read_link(fs.at("bad")).unwrap(), Path::new("/nowhere/at/all"));
    assert_eq!(fs.probe.count("readlink"), asked);
}

#[test]
fn fifos_sockets_devices_and_plain_nodes() {
    let fs = Mounted::new();
    let make = |name: &str, kind, device| {
        mknodat(CWD, fs.at(name), kind, Mode::from_raw_mode(0o640), device)
    };
    make("fifo", FileType::Fifo, 0).unwrap();
    make("file", FileType::RegularFile, 0).unwrap();
    std::os::unix::net::UnixListener::bind(fs.at("socket")).unwrap();
    assert!(fs.at("fifo").metadata().unwrap().file_type().is_fifo());
    assert!(fs.at("socket").metadata().unwrap().file_type().is_socket());
    assert!(fs.at("file").metadata().unwrap().is_file());

    // Both ends of the fifo are the kernel's; the file system only names it.
    let path = fs.at("fifo");
    std::thread::scope(|scope| {
        scope.spawn(|| fs::write(&path, b"through the pipe").unwrap());
        let mut text = String::new();
        File::open(&path).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "through the pipe");
    });

    if is_root() {
        make("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)).unwrap();
        make("disk", FileType::BlockDevice, rustix::fs::makedev(259, 0x1_2345)).unwrap();
        let disk = fs.at("disk").metadata().unwrap();
        assert!(disk.file_type().is_block_device());
        assert_eq!(disk.rdev(), libc::makedev(259, 0x1_2345));
        // Root's mounts allow devices.
        assert_eq!(fs::write(fs.at("null"), b"gone").err().map(|e| e.to_string()), None);
        assert_eq!(fs::read(fs.at("null")).unwrap(), b"");
    }
}

#[test]
fn renames_with_every_flag() {
    let fs = Mounted::new();
    let rename =
        |from: &str, to: &str, flags| renameat_with(CWD, fs.at(from), CWD, fs.at(to), flags);
    let read = |name: &str| String::from_utf8(fs::read(fs.at(name)).unwrap()).unwrap();
    fs::write(fs.at("a"), "A").unwrap();
    fs::write(fs.at("b"), "B").unwrap();
    fs::create_dir_all(fs.at("d/e")).unwrap();

    assert_eq!(errno_of(rename("a", "b", RenameFlags::NOREPLACE)), libc::EEXIST);
    rename("a", "c", RenameFlags::NOREPLACE).unwrap();
    rename("b", "c", RenameFlags::EXCHANGE).unwrap();
    assert_eq!((read("b"), read("c")), ("A".to_owned(), "B".to_owned()));
    rename("b", "d", RenameFlags::EXCHANGE).unwrap();
    assert!(fs.at("b/e").is_dir());
    assert_eq!(read("d"), "A");
    assert_eq!(errno_of(rename("b", "nothing", RenameFlags::EXCHANGE)), libc::ENOENT);
    assert_eq!(errno_of(rename("c", "w", RenameFlags::WHITEOUT)), libc::EINVAL);

    fs::rename(fs.at("d"), fs.at("c")).unwrap();
    assert_eq!(read("c"), "A");
    assert_eq!(errno(fs::rename(fs.at("b"), fs.at("b/e/f"))), libc::EINVAL);
    fs::create_dir(fs.at("full")).unwrap();
    fs::write(fs.at("full/x"), "").unwrap();
    assert_eq!(errno(fs::rename(fs.at("b"), fs.at("full"))), libc::ENOTEMPTY);
    fs::rename(fs.at("b/e"), fs.at("full/e")).unwrap();
    assert_eq!(fs.at("full").metadata().unwrap().nlink(), 3);
    assert_eq!(fs.at("b").metadata().unwrap().nlink(), 2);
}

#[test]
fn names_are_bytes_up_to_255_of_them() {
    let fs = Mounted::new();
    let longest = "n".repeat(255);
    fs::write(fs.at(&longest), "long").unwrap();
    assert_eq!(errno(fs::write(fs.at("n".repeat(256)), "")), libc::ENAMETOOLONG);
    assert_eq!(errno(fs.at("n".repeat(256)).metadata()), libc::ENAMETOOLONG);
    let odd = [&b"\xff\xfe\x80"[..], b"new\nline", b" ", b"...", "\u{e9}".as_bytes()];
    for name in odd {
        fs::write(fs.at(OsStr::from_bytes(name)), name).unwrap();
    }
    let listed: BTreeSet<Vec<u8>> = fs::read_dir(fs.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
        .collect();
    let expected = odd.iter().map(|name| name.to_vec()).chain([longest.into_bytes()]).collect();
    assert_eq!(listed, expected);
    for name in odd {
        assert_eq!(fs::read(fs.at(OsStr::from_bytes(name))).unwrap(), name);
    }
}

#[test]
fn five_thousand_names_are_listed_once_each() {
    let fs = Mounted::new();
    fs::create_dir(fs.at("d")).unwrap();
    let expected: BTreeSet<String> =
        (0..5000).map(|i| format!("a name of some length {i}")).collect();
    for name in &expected {
        mknodat(CWD, fs.at("d").join(name), FileType::RegularFile, Mode::RUSR, 0).unwrap();
    }
    let list = || -> Vec<String> {
        let entries = fs::read_dir(fs.at("d")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let listed = list();
    assert_eq!(listed.len(), 5000);
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), expected);
    // The dots, their numbers, and going back to a place in the middle.
    let dir = rustix::fs::open(fs.at("d"), rustix::fs::OFlags::RDONLY, Mode::empty()).unwrap();
    let mut stream = rustix::fs::Dir::read_from(&dir).unwrap();
    let all: Vec<_> = std::iter::from_fn(|| stream.read()).map(Result::unwrap).collect();
    assert_eq!(all.len(), 5002);
    let ino_of = |name: &str| all.iter().find(|e| e.file_name().to_bytes() == name.as_bytes());
    assert_eq!(ino_of(".").unwrap().ino(), fs.at("d").metadata().unwrap().ino());
    assert_eq!(ino_of("..").unwrap().ino(), fs.root().metadata().unwrap().ino());
    // Removing while listing loses nothing.
    let mut removed = 0;
    for entry in fs::read_dir(fs.at("d")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
        removed += 1;
    }
    assert_eq!((removed, list().len()), (5000, 0));
    fs::remove_dir(fs.at("d")).unwrap();
}

#[test]
fn modes_owners_and_the_umask() {
    let fs = Mounted::new();
    let mode = |name: &str| fs.at(name).metadata().unwrap().mode() & 0o7777;
    let set = |name: &str, mode| fs::set_permissions(fs.at(name), fs::Permissions::from_mode(mode));
    // The process's umask is not this test's to change, so a shell's is used.
    let script = "umask 027; cd \"$1\"; : > f; mkdir d; mkfifo p";
    crate::support::sh(script, &[fs.root()]);
    assert_eq!((mode("f"), mode("d"), mode("p")), (0o640, 0o750, 0o640));
    set("f", 0o6751).unwrap();
    assert_eq!(mode("f"), 0o6751);
    set("d", 0o1777).unwrap();
    assert_eq!(mode("d"), 0o1777);
    if is_root() {
        chown(fs.at("f"), Some(12), Some(34)).unwrap();
        let owned = fs.at("f").metadata().unwrap();
        assert_eq!((owned.uid(), owned.gid()), (12, 34));
        assert_eq!(mode("f"), 0o751, "a new owner gets no set-id bits");
    }
    assert_eq!(fs.at("f").metadata().unwrap().blksize(), 128 << 10);
}

#[test]
fn writing_drops_set_id_bits_unless_root_writes() {
    if !is_root() {
        return;
    }
    let fs = Mounted::new();
    let file = fs.file("f", b"content");
    let mode = || fs.at("f").metadata().unwrap().mode() & 0o7777;
    let arm = || fs::set_permissions(fs.at("f"), fs::Permissions::from_mode(0o6777)).unwrap();
    let as_nobody = |script: &str| {
        let script = format!(
            "setpriv --reuid 65534 --regid 65534 --clear-groups sh -c '{script}' sh \"$1\""
        );
        crate::support::sh(&script, &[&fs.at("f")]);
    };
    arm();
    (&file).write_all(b"by root").unwrap();
    assert_eq!(mode(), 0o6777);
    as_nobody("echo x >> \"$1\"");
    assert_eq!(mode(), 0o777);
    arm();
    as_nobody("truncate -s 3 \"$1\"");
    assert_eq!(mode(), 0o777);
    arm();
    as_nobody(": > \"$1\"");
    assert_eq!(mode(), 0o777);
}

#[test]
fn permissions_are_the_kernels_business() {
    if !is_root() {
        return;
    }
    let fs = Mounted::new();
    fs::write(fs.at("secret"), "s").unwrap();
    fs::set_permissions(fs.at("secret"), fs::Permissions::from_mode(0o640)).unwrap();
    chown(fs.at("secret"), Some(0), Some(4321)).unwrap();
    let tried = |groups: &str| {
        let script = format!(
            "setpriv --reuid 65534 --regid 65534 {groups} cat \"$1\" >/dev/null 2>&1 && echo yes || echo no"
        );
        crate::support::sh(&script, &[&fs.at("secret")])
    };
    assert_eq!(tried("--clear-groups"), "no");
    // A supplementary group, which FUSE never tells anybody about.
    assert_eq!(tried("--groups 4321"), "yes");
}

#[test]
fn times_keep_their_nanoseconds_on_both_sides_of_1970() {
    let fs = Mounted::new();
    fs::write(fs.at("f"), "").unwrap();
    let cases = [(0, 0), (1, 1), (1_700_000_000, 123_456_789), (-1, 0), (-1, 250_000_000)];
    let far = [(-5_000_000_000, 999_999_999), (i64::from(u32::MAX) + 1, 7), (-9, 1)];
    for (seconds, nanoseconds) in cases.into_iter().chain(far) {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let other = Timespec { tv_sec: seconds + 1, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: other, last_modification: time };
        utimensat(CWD, fs.at("f"), &times, AtFlags::empty()).unwrap();
        // Past the kernel's cache: what the file system has.
        fs.model.announce(&vfs::Change::Attr(
            vfs::Ino::new(fs.at("f").metadata().unwrap().ino()).unwrap(),
        ));
        let asked = fs.probe.count("getattr");
        crate::support::wait_until("a fresh look", || {
            fs.at("f").metadata().unwrap();
            fs.probe.count("getattr") > asked
        });
        let seen = fs.at("f").metadata().unwrap();
        assert_eq!((seen.mtime(), seen.mtime_nsec()), (seconds, nanoseconds));
        assert_eq!((seen.atime(), seen.atime_nsec()), (seconds + 1, nanoseconds));
    }
    // "Now" is the file system's now.
    let file = read_write().open(fs.at("f")).unwrap();
    file.set_times(fs::FileTimes::new()).unwrap();
    crate::support::sh("touch \"$1\"", &[&fs.at("f")]);
    let seen = fs.at("f").metadata().unwrap();
    assert!(seen.mtime() > 1_700_000_000, "{}", seen.mtime());
}

#[test]
fn extended_attributes() {
    let fs = Mounted::new();
    fs::write(fs.at("f"), "").unwrap();
    let path = fs.at("f");
    let set = |name: &str, value: &[u8], flags| rustix::fs::setxattr(&path, name, value, flags);
    let get = |name: &str, room: usize| {
        let mut value = vec![0_u8; room];
        rustix::fs::getxattr(&path, name, &mut *value).map(|len| {
            value.truncate(len.min(room));
            (len, value)
        })
    };
    set("user.a", b"value", XattrFlags::empty()).unwrap();
    set("user.big", &[7; 40_000], XattrFlags::CREATE).unwrap();
    assert_eq!(errno_of(set("user.a", b"", XattrFlags::CREATE)), libc::EEXIST);
    assert_eq!(errno_of(set("user.b", b"", XattrFlags::REPLACE)), libc::ENODATA);
    assert_eq!(get("user.a", 100).unwrap(), (5, b"value".to_vec()));
    assert_eq!(rustix::fs::getxattr_query(&path, "user.a").unwrap(), 5);
    assert_eq!(errno_of(get("user.a", 4)), libc::ERANGE);
    assert_eq!(get("user.big", 65_536).unwrap().0, 40_000);
    assert_eq!(errno_of(get("user.b", 9)), libc::ENODATA);

    let mut list = vec![0_u8; 100];
    let len = rustix::fs::listxattr(&path, &mut *list).unwrap();
    assert_eq!(len, rustix::fs::listxattr_query(&path).unwrap());
    list.truncate(len);
    let names: BTreeSet<&[u8]> = list.split(|&b| b == 0).filter(|n| !n.is_empty()).collect();
    assert_eq!(names, BTreeSet::from([&b"user.a"[..], b"user.big"]));
    assert_eq!(errno_of(rustix::fs::listxattr(&path, &mut [0_u8; 3])), libc::ERANGE);

    rustix::fs::removexattr(&path, "user.big").unwrap();
    assert_eq!(errno_of(rustix::fs::removexattr(&path, "user.big")), libc::ENODATA);
    // An ACL nobody would enforce; the bytes are a valid one: u::rw- g::r-- o::---.
    let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x04\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
    let refused = set("system.posix_acl_access", acl, XattrFlags::empty());
    assert_eq!(errno_of(refused), libc::EOPNOTSUPP);
}

#[test]
fn statfs_says_what_the_volume_says() {
    let fs = Mounted::new();
    let seen = rustix::fs::statvfs(fs.root()).unwrap();
    let volume = vfs_stat(&fs);
    assert_eq!(seen.f_namemax, 255);
    assert_eq!(seen.f_blocks * seen.f_frsize, volume.bytes_total / 4096 * 4096);
    assert_eq!(seen.f_bavail * seen.f_frsize, volume.bytes_free / 4096 * 4096);
    assert_eq!((seen.f_files, seen.f_ffree), (volume.inodes_total, volume.inodes_free));
}

fn vfs_stat(fs: &Mounted) -> vfs::VolumeStat {
    use vfs::Vfs;
    let cred = vfs::Cred::root();
    let cx = vfs::Context { cred: &cred, dac: vfs::Dac::Delegated, op: None };
    crate::support::runtime().block_on(fs.model.statfs(cx)).unwrap()
}
