//! Password and key files, the first line of a stream, and what a daemon is handed
//! through its standard input.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use tgcryptfs::cli::password::{first_line, hand_over, take_over};
use tgcryptfs::vault::password::{read_file, read_key_file};
use tgcryptfs::vault::{Credential, Passphrase};
use tgcryptfs_fuzz::scratch_dir;

fn files(input: &[u8]) {
    let dir = scratch_dir();
    let path = dir.path().join("secret");
    fs::write(&path, input).expect("room in memory");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
    let line = input.strip_suffix(b"\n").map_or(input, |l| l.strip_suffix(b"\r").unwrap_or(l));
    let typed = std::str::from_utf8(line).ok().filter(|_| input.len() <= 4096);
    match (read_file(&path), typed.map(Passphrase::new)) {
        (Ok(read), Some(Ok(typed))) => assert!(read.is_equal(&typed)),
        (read, typed) => assert!(read.is_err() && typed.is_none_or(|typed| typed.is_err())),
    }
    assert_eq!(read_key_file(&path).is_ok(), (32..=65_536).contains(&input.len()));
}

fuzz_target!(|input: &[u8]| {
    let Some((&which, input)) = input.split_first() else { return };
    match which % 3 {
        0 => files(input),
        1 => {
            let line = input.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let read = first_line(input).ok();
            assert_eq!(read.as_ref().map(|text| text.as_str()), std::str::from_utf8(line).ok());
        }
        _ => {
            let Ok(credential) = take_over(input) else { return };
            let bytes = |credential: &Credential| {
                let mut pipe = Vec::new();
                hand_over(credential, &mut pipe).expect("memory takes everything");
                pipe
            };
            let handed = bytes(&credential);
            let again = take_over(&handed[..]).expect("it is what was handed over");
            assert_eq!(bytes(&again), handed);
            if let Credential::KeyFile(_) = credential {
                assert_eq!(handed, input);
            }
        }
    }
});
