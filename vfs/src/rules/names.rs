//! Adding, removing and moving names.
//!
//! The order of the checks is that of Linux's `fs/namei.c`; a name that is taken
//! is reported by the caller before these are asked, as there.

use super::{STICKY, is_superuser, may, may_look_up};
use crate::{Access, Attr, Cred, Dac, ErrorKind, Kind, RenameMode, Result};

const CHANGE: Access = Access::WRITE.and(Access::EXECUTE);

/// Checks that a name may be added to `dir`.
pub fn may_add(cred: &Cred, dir: &Attr, dac: Dac) -> Result<()> {
    may_look_up(cred, dir, dac)?;
    if dir.nlink == 0 {
        // Removed, but still open somewhere.
        return Err(ErrorKind::NotFound.into());
    }
    may(cred, dir, CHANGE, dac)
}

/// Checks that the caller may take the name of `victim` away from `dir`,
/// whatever kind it is: permission on the directory, and the sticky bit.
pub fn may_remove(cred: &Cred, dir: &Attr, victim: &Attr, dac: Dac) -> Result<()> {
    may_look_up(cred, dir, dac)?;
    may(cred, dir, CHANGE, dac)?;
    let owns = cred.uid == victim.uid || cred.uid == dir.uid || is_superuser(cred);
    if dac != Dac::Delegated && dir.mode & STICKY != 0 && !owns {
        return Err(ErrorKind::Permission.into());
    }
    Ok(())
}

/// Checks that `unlink` may remove the name of `victim`.
pub fn unlink(cred: &Cred, dir: &Attr, victim: &Attr, dac: Dac) -> Result<()> {
    may_remove(cred, dir, victim, dac)?;
    if victim.kind == Kind::Directory {
        return Err(ErrorKind::IsDirectory.into());
    }
    Ok(())
}

/// Checks that `rmdir` may remove `victim`.
pub fn rmdir(cred: &Cred, dir: &Attr, victim: &Attr, is_empty: bool, dac: Dac) -> Result<()> {
    may_remove(cred, dir, victim, dac)?;
    if victim.kind != Kind::Directory {
        return Err(ErrorKind::NotDirectory.into());
    }
    if !is_empty {
        return Err(ErrorKind::NotEmpty.into());
    }
    Ok(())
}

/// Checks that `inode` may get a further name in `dir`.
pub fn link(cred: &Cred, inode: &Attr, dir: &Attr, link_max: u32, dac: Dac) -> Result<()> {
    may_add(cred, dir, dac)?;
    if inode.kind == Kind::Directory {
        return Err(ErrorKind::Permission.into());
    }
    if inode.nlink == 0 {
        return Err(ErrorKind::NotFound.into());
    }
    if inode.nlink >= link_max {
        return Err(ErrorKind::TooManyLinks.into());
    }
    Ok(())
}

/// Checks that `kind` may be made by `mknod` in a directory that may be added to.
pub fn may_make_node(cred: &Cred, kind: Kind, dac: Dac) -> Result<()> {
    match kind {
        Kind::Regular | Kind::Directory | Kind::Symlink => Err(ErrorKind::Invalid.into()),
        Kind::Fifo | Kind::Socket => Ok(()),
        Kind::CharDevice { .. } | Kind::BlockDevice { .. } => {
            if dac == Dac::Delegated || is_superuser(cred) {
                Ok(())
            } else {
                Err(ErrorKind::Permission.into())
            }
        }
    }
}

/// What a rename is about, read under the locks that will perform it.
#[derive(Clone, Copy, Debug)]
pub struct RenameFacts<'a> {
    /// The directory that holds the old name.
    pub from_dir: &'a Attr,
    /// What the old name names.
    pub source: &'a Attr,
    /// The directory that is to hold the new name.
    pub to_dir: &'a Attr,
    /// What the new name names now.
    pub target: Option<&'a Attr>,
    /// Whether the source is `to_dir` or one of its ancestors.
    pub source_holds_to_dir: bool,
    /// Whether the target is `from_dir` or one of its ancestors.
    pub target_holds_from_dir: bool,
    /// Whether the target, if it is a directory, has no entries.
    pub target_is_empty: bool,
}

/// What a legal rename comes down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenamePlan {
    /// Both names already name the same inode: nothing changes, not even times.
    Nothing,
    /// The new name is free.
    Move,
    /// The new name's inode loses it.
    Replace,
    /// Both trade places.
    Exchange,
}

/// Decides a rename.
pub fn rename(
    cred: &Cred,
    facts: RenameFacts<'_>,
    mode: RenameMode,
    dac: Dac,
) -> Result<RenamePlan> {
    may_look_up(cred, facts.from_dir, dac)?;
    may_look_up(cred, facts.to_dir, dac)?;
    match (mode, facts.target) {
        (RenameMode::NoReplace, Some(_)) => return Err(ErrorKind::Exists.into()),
        (RenameMode::Exchange, None) => return Err(ErrorKind::NotFound.into()),
        _ => {}
    }
    if facts.source_holds_to_dir {
        return Err(ErrorKind::Invalid.into());
    }
    if facts.target_holds_from_dir {
        let exchange = mode == RenameMode::Exchange;
        return Err(if exchange { ErrorKind::Invalid } else { ErrorKind::NotEmpty }.into());
    }
    let Some(target) = facts.target else {
        may_remove(cred, facts.from_dir, facts.source, dac)?;
        may_add(cred, facts.to_dir, dac)?;
        may_change_parent(cred, facts, facts.source, dac)?;
        return Ok(RenamePlan::Move);
    };
    if target.ino == facts.source.ino {
        return Ok(RenamePlan::Nothing);
    }
    may_remove(cred, facts.from_dir, facts.source, dac)?;
    may_remove(cred, facts.to_dir, target, dac)?;
    if mode == RenameMode::Exchange {
        may_change_parent(cred, facts, facts.source, dac)?;
        may_change_parent(cred, facts, target, dac)?;
        return Ok(RenamePlan::Exchange);
    }
    match (facts.source.kind == Kind::Directory, target.kind == Kind::Directory) {
        (true, false) => return Err(ErrorKind::NotDirectory.into()),
        (false, true) => return Err(ErrorKind::IsDirectory.into()),
        _ => {}
    }
    may_change_parent(cred, facts, facts.source, dac)?;
    if target.kind == Kind::Directory && !facts.target_is_empty {
        return Err(ErrorKind::NotEmpty.into());
    }
    Ok(RenamePlan::Replace)
}

/// A directory that gets another parent has its `..` written.
fn may_change_parent(cred: &Cred, facts: RenameFacts<'_>, moved: &Attr, dac: Dac) -> Result<()> {
    if moved.kind == Kind::Directory && facts.from_dir.ino != facts.to_dir.ino {
        may(cred, moved, Access::WRITE, dac)?;
    }
    Ok(())
}
