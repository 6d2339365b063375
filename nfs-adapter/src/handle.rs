//! File handles: what a client keeps instead of a path.
//!
//! `version | fs_id | inode | tag`, where the tag is the first half of a keyed BLAKE3 of
//! the rest. Whoever has no handle cannot make one, so knowing the number of an inode is
//! worth nothing; and since the key is kept with the vault and inode numbers are never
//! used again, a handle holds as long as its file does, across restarts as well.

use subtle::ConstantTimeEq;
use vfs::{ErrorKind, Ino};
use zeroize::Zeroizing;

/// The first byte of a handle.
const VERSION: u8 = 1;
/// What is told about: version, file system and inode.
const CLAIM_LEN: usize = 1 + 16 + 8;
const TAG_LEN: usize = 16;
/// Length of a handle; the protocol allows 64 bytes.
pub(crate) const HANDLE_LEN: usize = CLAIM_LEN + TAG_LEN;

/// Makes and checks the handles of one file system.
pub(crate) struct Handles {
    fs_id: [u8; 16],
    key: Zeroizing<[u8; 32]>,
}

impl Handles {
    pub(crate) fn new(fs_id: [u8; 16], key: Zeroizing<[u8; 32]>) -> Self {
        Self { fs_id, key }
    }

    /// The handle of an inode.
    pub(crate) fn handle(&self, ino: Ino) -> [u8; HANDLE_LEN] {
        let mut handle = [0; HANDLE_LEN];
        let (claim, tag) = handle.split_at_mut(CLAIM_LEN);
        claim[0] = VERSION;
        claim[1..17].copy_from_slice(&self.fs_id);
        claim[17..].copy_from_slice(&ino.get().to_be_bytes());
        tag.copy_from_slice(&self.tag(claim));
        handle
    }

    /// The inode of a handle that was made here.
    pub(crate) fn ino(&self, handle: &[u8]) -> vfs::Result<Ino> {
        let bad = || vfs::Error::from(ErrorKind::BadHandle);
        let handle: &[u8; HANDLE_LEN] = handle.try_into().map_err(|_| bad())?;
        let (claim, tag) = handle.split_at(CLAIM_LEN);
        let is_ours = self.tag(claim).ct_eq(tag);
        let (head, number) = claim.split_last_chunk().ok_or_else(bad)?;
        if !bool::from(is_ours) || head[0] != VERSION || head[1..] != self.fs_id {
            return Err(bad());
        }
        Ino::new(u64::from_be_bytes(*number)).map_err(|_| bad())
    }

    fn tag(&self, claim: &[u8]) -> [u8; TAG_LEN] {
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&blake3::keyed_hash(&self.key, claim).as_bytes()[..TAG_LEN]);
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::{HANDLE_LEN, Handles};
    use vfs::{ErrorKind, Ino};
    use zeroize::Zeroizing;

    fn handles(fs_id: u8, key: u8) -> Handles {
        Handles::new([fs_id; 16], Zeroizing::new([key; 32]))
    }

    fn refuses(handles: &Handles, handle: &[u8]) -> bool {
        handles.ino(handle).is_err_and(|error| error.kind() == ErrorKind::BadHandle)
    }

    #[test]
    fn a_handle_outlives_its_server() {
        let ino = Ino::new(1 << 62).unwrap();
        let handle = handles(1, 2).handle(ino);
        assert!(handle.len() <= 64);
        assert_eq!(handles(1, 2).ino(&handle).unwrap(), ino);
    }

    #[test]
    fn a_handle_with_any_bit_flipped_is_refused() {
        let ours = handles(1, 2);
        let handle = ours.handle(Ino::ROOT);
        for bit in 0..HANDLE_LEN * 8 {
            let mut forged = handle;
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(refuses(&ours, &forged), "bit {bit}");
        }
    }

    #[test]
    fn handles_of_others_and_other_lengths_are_refused() {
        let ours = handles(1, 2);
        let handle = ours.handle(Ino::ROOT);
        assert!(refuses(&ours, &handles(1, 3).handle(Ino::ROOT)), "another key");
        assert!(refuses(&ours, &handles(3, 2).handle(Ino::ROOT)), "another file system");
        assert!(refuses(&ours, &handle[..HANDLE_LEN - 1]));
        assert!(refuses(&ours, &[&handle[..], &[0]].concat()));
        assert!(refuses(&ours, &[]));
        assert!(refuses(&ours, &[0; HANDLE_LEN]));
    }
}
