//! What the kernel keeps, and what makes it forget.

use crate::support::{Mounted, errno, is_root, sh, wait_until};
use bytes::Bytes;
use std::fs;
use std::os::unix::fs::MetadataExt;
use vfs::{At, Change, Context, Cred, Dac, IfExists, Ino, Name, OpenFlags, SetAttr, Vfs, WriteAt};

/// Does something to the model as another front end would: the mount is not told.
async fn elsewhere(fs: &Mounted, name: &str, content: &'static [u8]) -> Ino {
    let cred = Cred::root();
    let cx = Context { cred: &cred, dac: Dac::Enforce, op: None };
    let (name, attr) = (Name::new(name.as_bytes()).unwrap(), SetAttr::default());
    let flags = OpenFlags { truncate: true, ..OpenFlags::READ_WRITE };
    let made = fs.model.create(cx, Ino::ROOT, name, &attr, IfExists::Reuse, Some(flags));
    let made = made.await.unwrap();
    let (at, data) = (WriteAt::Offset(0), Bytes::from_static(content).into());
    let handle = made.handle.unwrap();
    fs.model.write(cx, At::Open(&handle), at, data, vfs::Stability::Buffered).await.unwrap();
    made.entry.attr.ino
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    crate::support::runtime().block_on(work)
}

#[test]
fn what_is_known_is_not_asked_again() {
    let fs = Mounted::new();
    fs::write(fs.at("f"), vec![1; 100_000]).unwrap();
    let counts = || ["lookup", "read", "readdir"].map(|method| fs.probe.count(method));
    let asks = || {
        let before = counts();
        assert_eq!(fs::read(fs.at("f")).unwrap().len(), 100_000);
        fs.at("f").metadata().unwrap();
        assert_eq!(errno(fs.at("absent").metadata()), libc::ENOENT);
        assert_eq!(fs::read_dir(fs.root()).unwrap().count(), 1);
        counts() != before
    };
    assert!(asks(), "the first time, something has to be asked");
    // Memory pressure and the end of a lifetime may make the kernel forget, so one
    // round that asks again is no fault; that every round asks would be.
    wait_until("names, their absence, data and listings to be cached", || !asks());
    // Our own changes show at once.
    fs::write(fs.at("absent"), "present").unwrap();
    assert_eq!(fs::read_dir(fs.root()).unwrap().count(), 2);
    fs::remove_file(fs.at("f")).unwrap();
    assert_eq!(errno(fs.at("f").metadata()), libc::ENOENT);
    assert_eq!(fs::read_dir(fs.root()).unwrap().count(), 1);
}

#[test]
fn announced_changes_of_data_and_attributes_show() {
    let fs = Mounted::new();
    fs::write(fs.at("f"), "before").unwrap();
    assert_eq!(fs::read_to_string(fs.at("f")).unwrap(), "before");
    let ino = block_on(elsewhere(&fs, "f", b"after!!!"));
    assert_eq!(ino.get(), fs.at("f").metadata().unwrap().ino());
    fs.model.announce(&Change::Data { ino, offset: 0, len: u64::MAX });
    wait_until("new data", || fs::read_to_string(fs.at("f")).unwrap() == "after!!!");

    let cred = Cred::root();
    let cx = Context { cred: &cred, dac: Dac::Enforce, op: None };
    let set = SetAttr { mode: Some(0o751), ..SetAttr::default() };
    block_on(fs.model.setattr(cx, At::Ino(ino), &set)).unwrap();
    fs.model.announce(&Change::Attr(ino));
    wait_until("a new mode", || fs.at("f").metadata().unwrap().mode() & 0o7777 == 0o751);
}

#[test]
fn announced_names_appear_and_disappear() {
    let fs = Mounted::new();
    assert_eq!(errno(fs.at("late").metadata()), libc::ENOENT);
    assert_eq!(fs::read_dir(fs.root()).unwrap().count(), 0);
    block_on(elsewhere(&fs, "late", b"x"));
    let change = Change::Entry { dir: Ino::ROOT, name: Bytes::from_static(b"late") };
    fs.model.announce(&change);
    wait_until("the new name", || fs.at("late").exists());
    assert_eq!(fs::read_dir(fs.root()).unwrap().count(), 1, "listings are renewed too");

    let cred = Cred::root();
    let cx = Context { cred: &cred, dac: Dac::Enforce, op: None };
    block_on(fs.model.unlink(cx, Ino::ROOT, Name::new(b"late").unwrap())).unwrap();
    fs.model.announce(&change);
    wait_until("the name to go", || !fs.at("late").exists());
    assert_eq!(fs::read_dir(fs.root()).unwrap().count(), 0);
}

#[test]
fn a_name_made_elsewhere_meanwhile_is_opened_with_its_own_permissions() {
    let fs = Mounted::new();
    assert_eq!(errno(fs.at("f").metadata()), libc::ENOENT);
    // The kernel still believes that there is none, so it sends a create.
    block_on(elsewhere(&fs, "f", b"theirs"));
    let stranger = |script: &str| {
        let demoted = "setpriv --reuid 65534 --regid 65534 --clear-groups";
        let demoted = if is_root() { demoted } else { "" };
        sh(&format!("{demoted} sh -c '{script}' sh \"$1\" 2>&1 || true"), &[&fs.at("f")])
    };
    let refused = stranger("echo mine >> \"$1\"");
    assert!(refused.contains("Permission denied"), "{refused}");
    if is_root() {
        let file = fs::File::options().append(true).create(true).open(fs.at("f"));
        assert_eq!(file.unwrap().metadata().unwrap().len(), 6, "what is there was opened");
    }
    assert_eq!(errno(fs::File::create_new(fs.at("f"))), libc::EEXIST);
}

#[test]
fn announcements_never_block_requests() {
    let fs = Mounted::new();
    fs::create_dir(fs.at("d")).unwrap();
    let ino = |name: &str| Ino::new(fs.at(name).metadata().unwrap().ino()).unwrap();
    let dir = ino("d");
    let file = fs.file("f", &[1; 10_000]);
    let (f, root) = (ino("f"), fs.root());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..3000_u32 {
                fs.model.announce(&Change::Data { ino: f, offset: 0, len: u64::MAX });
                let name = Bytes::from((i % 50).to_string());
                fs.model.announce(&Change::Entry { dir, name });
                fs.model.announce(&Change::Attr(dir));
            }
        });
        for worker in 0..2 {
            let file = &file;
            scope.spawn(move || {
                use std::os::unix::fs::FileExt;
                let mut buffer = [0; 10_000];
                for i in 0..500_u32 {
                    let path = root.join("d").join((i % 50).to_string() + &"x".repeat(worker));
                    fs::write(&path, [2; 5000]).unwrap();
                    file.read_exact_at(&mut buffer, 0).unwrap();
                    assert_eq!(fs::read(&path).unwrap().len(), 5000);
                    fs::remove_file(&path).unwrap();
                }
            });
        }
    });
    assert_eq!(fs::read_dir(fs.at("d")).unwrap().count(), 0);
}

#[test]
fn inodes_can_be_found_by_number_as_an_nfs_export_does() {
    use std::os::fd::AsRawFd;
    let fs = Mounted::new();
    fs::create_dir_all(fs.at("a/b")).unwrap();
    fs::write(fs.at("a/b/f"), "deep").unwrap();
    let handle = file_handle(&fs.at("a/b/f"));
    // The kernel forgets the inode, and has to ask for it by number.
    sh("sync; echo 2 > /proc/sys/vm/drop_caches || true", &[]);
    let root = fs::File::open(fs.root()).unwrap();
    let opened = open_by_handle(root.as_raw_fd(), &handle);
    let Ok(mut file) = opened else {
        assert!(!is_root(), "{opened:?}");
        return;
    };
    let mut text = String::new();
    std::io::Read::read_to_string(&mut file, &mut text).unwrap();
    assert_eq!(text, "deep");
}

#[repr(C)]
#[derive(Clone)]
struct KernelHandle {
    header: [i32; 2],
    bytes: [u8; 128],
}

#[expect(unsafe_code, reason = "the C library has no safe wrapper for it")]
fn file_handle(path: &std::path::Path) -> KernelHandle {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut handle = KernelHandle { header: [128, 0], bytes: [0; 128] };
    let mut mount_id = 0;
    // SAFETY: the structure has the documented layout, with room for what it announces.
    let result = unsafe {
        libc::name_to_handle_at(
            libc::AT_FDCWD,
            path.as_ptr(),
            (&raw mut handle).cast(),
            &raw mut mount_id,
            0,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    handle
}

#[expect(unsafe_code, reason = "the C library has no safe wrapper for it")]
fn open_by_handle(mount: i32, handle: &KernelHandle) -> std::io::Result<fs::File> {
    use std::os::fd::FromRawFd;
    let mut handle = handle.clone();
    // SAFETY: the structure was filled by `name_to_handle_at`.
    let fd = unsafe { libc::open_by_handle_at(mount, (&raw mut handle).cast(), libc::O_RDONLY) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the call has just made this descriptor and nobody else knows it.
    Ok(unsafe { fs::File::from_raw_fd(fd) })
}
