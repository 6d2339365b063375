//! Files that were safe before anything failed, each changed in one way. Afterwards each
//! is as it was or as its change says, whatever its caller was told, and as the change
//! says if that was made safe.

use super::Noticed;
use crate::program::support::noise;
use rustix::fs::XattrFlags;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Of a file: three blocks.
const LEN: usize = 300_000;
/// What is written anew: within a page, which goes out as one.
const PLACE: usize = 131_072 + 100;
const PLACE_LEN: usize = 3000;
const CUT_LEN: usize = 1000;
const LABEL: &str = "user.label";
const LABELLED: &[u8] = b"labelled";

#[derive(Clone, Copy, Debug)]
enum Change {
    Overwrite,
    Cut,
    Remove,
    Label,
    Dir,
}

const CHANGES: [Change; 5] =
    [Change::Overwrite, Change::Cut, Change::Remove, Change::Label, Change::Dir];

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Dir,
    File { data: Vec<u8>, label: Option<Vec<u8>> },
}

impl Change {
    fn name(self, part: &str) -> String {
        format!("kept-{part}-{self:?}")
    }

    fn data(self) -> Vec<u8> {
        noise(LEN, 100 + self as u64)
    }

    fn before(self) -> Found {
        match self {
            Self::Dir => Found::Nothing,
            _ => Found::File { data: self.data(), label: None },
        }
    }

    fn after(self) -> Found {
        let mut data = self.data();
        match self {
            Self::Overwrite => {
                data[PLACE..PLACE + PLACE_LEN].copy_from_slice(&noise(PLACE_LEN, 200));
                Found::File { data, label: None }
            }
            Self::Cut => {
                data.truncate(CUT_LEN);
                Found::File { data, label: None }
            }
            Self::Remove => Found::Nothing,
            Self::Label => Found::File { data, label: Some(LABELLED.to_vec()) },
            Self::Dir => Found::Dir,
        }
    }

    fn perform(self, path: &Path) -> io::Result<()> {
        let open = || OpenOptions::new().write(true).open(path);
        match self {
            Self::Overwrite => open()?.write_all_at(&noise(PLACE_LEN, 200), PLACE as u64),
            Self::Cut => open()?.set_len(CUT_LEN as u64),
            Self::Remove => fs::remove_file(path),
            Self::Label => {
                rustix::fs::setxattr(path, LABEL, LABELLED, XattrFlags::empty())?;
                Ok(())
            }
            Self::Dir => fs::create_dir(path),
        }
    }

    fn fsync(self, mount: &Path, path: &Path) -> io::Result<()> {
        let changed = if matches!(self, Self::Remove | Self::Dir) { mount } else { path };
        File::open(changed)?.sync_all()
    }
}

fn look(path: &Path) -> io::Result<Found> {
    let is_dir = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        data => data?.is_dir(),
    };
    if is_dir {
        return Ok(Found::Dir);
    }
    let (data, mut label) = (fs::read(path)?, vec![0; 256]);
    let label = match rustix::fs::getxattr(path, LABEL, &mut label[..]) {
        Err(rustix::io::Errno::NODATA) => None,
        len => Some(label[..len?].to_vec()),
    };
    Ok(Found::File { data, label })
}

/// One that was changed, or whose change failed.
#[derive(Debug)]
pub(super) struct Kept {
    name: String,
    change: Change,
    is_safe: bool,
}

/// Makes the files that a part of a run changes, and makes them safe.
pub(super) fn make(mount: &Path, part: &str) {
    for change in CHANGES {
        if let Found::File { data, .. } = change.before() {
            let path = mount.join(change.name(part));
            fs::write(&path, data).unwrap();
            File::open(&path).unwrap().sync_all().unwrap();
        }
    }
    File::open(mount).unwrap().sync_all().unwrap();
}

/// Changes them.
pub(super) fn change(mount: &Path, part: &str, noticed: &mut Noticed) -> Vec<Kept> {
    let mut kept = Vec::new();
    for change in CHANGES {
        let name = change.name(part);
        let path = mount.join(&name);
        let is_safe =
            noticed.is_done(change.perform(&path)) && noticed.is_done(change.fsync(mount, &path));
        kept.push(Kept { name, change, is_safe });
    }
    kept
}

pub(super) fn check(mount: &Path, kept: &[Kept]) -> Result<(), String> {
    for Kept { name, change, is_safe } in kept {
        let found = look(&mount.join(name)).map_err(|error| format!("{name}: {error}"))?;
        if found != change.after() && (*is_safe || found != change.before()) {
            let found = match found {
                Found::File { data, label } => format!("{} bytes, {label:?}", data.len()),
                other => format!("{other:?}"),
            };
            return Err(format!("{name}: safe {is_safe}, found {found}"));
        }
    }
    Ok(())
}
