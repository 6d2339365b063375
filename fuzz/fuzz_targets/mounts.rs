//! Who is mounted where: the kernel's table, as the command line and the adapter read
//! it, and what a daemon leaves beside its socket.

#![no_main]

use fuse_adapter::fuzz::find_mount;
use libfuzzer_sys::fuzz_target;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tgcryptfs::cli::control::MountRecord;
use tgcryptfs::cli::mount_table::{Mounted, find};

/// Mount points that are looked for in one table at most.
const ASKED_MAX: usize = 32;

/// What the kernel does to what would break its lines.
fn escape(field: &[u8]) -> Vec<u8> {
    let escaped = field.iter().map(|byte| match byte {
        b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
        byte => vec![*byte],
    });
    escaped.collect::<Vec<_>>().concat()
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Writes a table as the kernel does and has it read: mounts lie between bytes 0xff,
/// and what one consists of between bytes 0xfe.
fn written(input: &[u8]) {
    let mounts: Vec<[Vec<u8>; 3]> = input
        .split(|byte| *byte == 0xff)
        .map(|mount| {
            let mut parts = mount.split(|byte| *byte == 0xfe);
            let [path, kind, source] = [(); 3].map(|()| parts.next().unwrap_or_default());
            [[b"/", path].concat(), kind.to_vec(), source.to_vec()]
        })
        .collect();
    let mut table = Vec::new();
    for (id, [path, kind, source]) in mounts.iter().enumerate() {
        let [path, kind, source] = [path, kind, source].map(|field| escape(field));
        table.extend(format!("{id} 1 0:{id} / ").as_bytes());
        table.extend([&path, &b" rw shared:1 - "[..], &kind, b" ", &source, b" rw\n"].concat());
    }
    for [asked, ..] in mounts.iter().take(ASKED_MAX) {
        let asked = as_path(asked);
        let top = mounts.iter().rposition(|mount| as_path(&mount[0]) == asked);
        let top = top.expect("it is from there");
        let [_, kind, source] = &mounts[top];
        let is_named = kind.ends_with(b"tgcryptfs") || source.starts_with(b"tgcryptfs");
        let expected = match &kind[..] {
            fuse if fuse.starts_with(b"fuse") && is_named => Mounted::Fuse,
            b"nfs" if source.starts_with(b"127.0.0.1:/tgcryptfs-") => Mounted::Nfs { port: None },
            _ => Mounted::Other,
        };
        assert_eq!(find(&table, asked), expected);
        let kind = String::from_utf8_lossy(&escape(kind)).into_owned();
        assert_eq!(find_mount(&table, asked), Some((top as u64, kind)));
    }
    assert_eq!(find(&table, Path::new("relative")), Mounted::Nothing);
}

fuzz_target!(|input: &[u8]| {
    let Some((&which, input)) = input.split_first() else { return };
    match which % 3 {
        0 => {
            // Whatever a later kernel may write.
            let _ = find_mount(input, Path::new("/"));
            if find(input, Path::new("/")) != Mounted::Nothing {
                assert!(input.contains(&b'-'));
            }
        }
        1 => written(input),
        _ => {
            if let Some(record) = MountRecord::decode(input) {
                let bytes = record.encode().expect("what was text is text");
                assert_eq!(MountRecord::decode(&bytes), Some(record));
            }
        }
    }
});
