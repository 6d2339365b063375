//! Modes, owners, lengths and times.

use super::fixture::{Fixture, Verdict, fails, holds, is_after, name, same, with_mode, with_size};
use crate::{At, Attr, ErrorKind, IfExists, Make, SetAttr, SetTime, Timestamp, Vfs};

super::list! { "attributes":
    a_mode_has_twelve_bits,
    owners_change_together_and_alone,
    times_keep_nanoseconds_and_the_past,
    the_time_now_is_the_file_systems,
    setting_anything_changes_the_change_time,
    setting_nothing_changes_nothing,
    setting_the_same_length_is_a_change,
    a_guard_protects,
    all_or_nothing,
    creation_sets_all_times,
    reading_refreshes_a_stale_access_time,
    reading_leaves_a_fresh_access_time,
    reading_changes_nothing_else,
    an_old_access_time_is_refreshed,
    change_times_rise,
    every_change_is_counted if |profile| profile.has_change,
    root_drops_set_id_bits_by_chown,
    links_and_directories_have_attributes_too,
}

async fn a_mode_has_twelve_bits<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    for mode in [0, 0o7777, 0o4755, 0o2755, 0o1644, 0o600] {
        same(t.set(ino, &with_mode(mode)).await?.mode, mode, "mode in the answer")?;
        same(t.attr(ino).await?.mode, mode, "mode")?;
    }
    same(t.set(ino, &with_mode(0o10_0644)).await?.mode, 0o644, "mode with a kind in it")
}

async fn owners_change_together_and_alone<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let owner = |uid, gid| SetAttr { uid, gid, ..SetAttr::default() };
    let both = t.set(ino, &owner(Some(7), Some(8))).await?;
    same((both.uid, both.gid), (7, 8), "both")?;
    let group = t.set(ino, &owner(None, Some(9))).await?;
    same((group.uid, group.gid), (7, 9), "the group")?;
    let user = t.set(ino, &owner(Some(u32::MAX - 1), None)).await?;
    same((user.uid, user.gid), (u32::MAX - 1, 9), "the owner")
}

async fn times_keep_nanoseconds_and_the_past<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let times = [(0, 1), (1_234_567_890, 999_999_999), (-1, 500_000_000), (1 << 33, 7)];
    for (seconds, nanoseconds) in times {
        let time = Timestamp { seconds, nanoseconds };
        let other = Timestamp { seconds: seconds + 1, nanoseconds };
        let (atime, mtime) = (Some(SetTime::To(time)), Some(SetTime::To(other)));
        let set = t.set(ino, &SetAttr { atime, mtime, ..SetAttr::default() }).await?;
        same((set.atime, set.mtime), (time, other), "in the answer")?;
        let attr = t.attr(ino).await?;
        same((attr.atime, attr.mtime), (time, other), "afterwards")?;
    }
    Ok(())
}

async fn the_time_now_is_the_file_systems<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let old = Some(SetTime::To(Timestamp { seconds: 5, nanoseconds: 5 }));
    let before = t.set(ino, &SetAttr { atime: old, mtime: old, ..SetAttr::default() }).await?;
    let now = Some(SetTime::Now);
    let after = t.set(ino, &SetAttr { mtime: now, ..SetAttr::default() }).await?;
    holds(after.mtime >= before.ctime, "a modification time of now")?;
    same(after.atime, before.atime, "an access time that was not named")
}

async fn setting_anything_changes_the_change_time<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let time = Some(SetTime::To(Timestamp { seconds: 9, nanoseconds: 9 }));
    let sets = [
        with_mode(0o644),
        with_size(10),
        SetAttr { uid: Some(0), ..SetAttr::default() },
        SetAttr { gid: Some(0), ..SetAttr::default() },
        SetAttr { atime: time, ..SetAttr::default() },
        SetAttr { mtime: time, ..SetAttr::default() },
    ];
    let mut before = t.attr(ino).await?;
    for set in sets {
        let after = t.set(ino, &set).await?;
        holds(is_after(&t.profile, after.ctime, before.ctime), &format!("by {set:?}"))?;
        if set.size.is_none() && set.mtime.is_none() {
            same(after.mtime, before.mtime, "modification time")?;
        }
        before = after;
    }
    Ok(())
}

async fn setting_nothing_changes_nothing<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let before = t.attr(ino).await?;
    let after = t.set(ino, &SetAttr::default()).await?;
    same(after.ctime, before.ctime, "change time")
}

async fn setting_the_same_length_is_a_change<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    let before = t.attr(ino).await?;
    let after = t.set(ino, &with_size(4)).await?;
    holds(is_after(&t.profile, after.mtime, before.mtime), "modification time")?;
    holds(is_after(&t.profile, after.ctime, before.ctime), "change time")
}

async fn a_guard_protects<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let seen = t.attr(ino).await?.ctime;
    let guarded = |mode| SetAttr { only_if_ctime: Some(seen), ..with_mode(mode) };
    t.set(ino, &guarded(0o600)).await?;
    if t.profile.exact_times {
        fails(t.set(ino, &guarded(0o640)).await, ErrorKind::NotSync, "the second time")?;
        same(t.attr(ino).await?.mode, 0o600, "mode")?;
    }
    let never = Some(Timestamp { seconds: 1, nanoseconds: 1 });
    let set = SetAttr { only_if_ctime: never, ..with_mode(0) };
    fails(t.set(ino, &set).await, ErrorKind::NotSync, "a time that never was")
}

async fn all_or_nothing<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let before = t.attr(t.dir).await?;
    let set = SetAttr { size: Some(0), uid: Some(7), ..with_mode(0o700) };
    fails(t.set(t.dir, &set).await, ErrorKind::IsDirectory, "a length for a directory")?;
    let after = t.attr(t.dir).await?;
    same((after.mode, after.uid), (before.mode, before.uid), "mode and owner")?;
    let ino = t.file("f").await?;
    let set = SetAttr { size: Some(u64::MAX), ..with_mode(0o700) };
    fails(t.set(ino, &set).await, ErrorKind::FileTooBig, "too long")?;
    same(t.attr(ino).await?.mode, 0o644, "mode")
}

async fn creation_sets_all_times<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let dir = t.attr(t.dir).await?;
    let attr = with_mode(0o644);
    let file = t.fs.create(t.cx(), t.dir, name("f"), &attr, IfExists::Fail, None).await?;
    let made = t.fs.make(t.cx(), t.dir, name("d"), Make::Directory, &attr).await?;
    for attr in [file.entry.attr, made.entry.attr] {
        same((attr.atime, attr.ctime), (attr.mtime, attr.mtime), "times")?;
        if t.profile.has_btime {
            same(attr.btime, attr.mtime, "creation time")?;
        }
        holds(attr.ctime >= dir.ctime, "it is now")?;
    }
    Ok(())
}

async fn stamp<V: Vfs>(t: &Fixture<V>, atime: i64, mtime: i64) -> crate::Result<Attr> {
    let ino = t.file_with("f", b"data").await?;
    let at = |seconds| Some(SetTime::To(Timestamp { seconds, nanoseconds: 0 }));
    t.set(ino, &SetAttr { atime: at(atime), mtime: at(mtime), ..SetAttr::default() }).await
}

async fn reading_refreshes_a_stale_access_time<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let before = stamp(t, 1000, 2000).await?;
    t.read(before.ino, 0, 4).await?;
    let after = t.attr(before.ino).await?;
    holds(after.atime.seconds > 1_000_000, "access time is about now")?;
    let old = Some(SetTime::To(Timestamp { seconds: 1000, nanoseconds: 0 }));
    t.set(t.dir, &SetAttr { atime: old, ..SetAttr::default() }).await?;
    t.list(t.dir, 100).await?;
    let dir = t.attr(t.dir).await?;
    holds(dir.atime.seconds > 1_000_000, "access time of a directory that was listed")
}

async fn reading_leaves_a_fresh_access_time<V: Vfs>(t: &Fixture<V>) -> Verdict {
    // In a year nobody has reached: newer than any change, and not a day old.
    let before = stamp(t, 1 << 33, 2000).await?;
    t.read(before.ino, 0, 4).await?;
    same(t.attr(before.ino).await?.atime, before.atime, "access time")
}

async fn reading_changes_nothing_else<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let before = stamp(t, 1000, 2000).await?;
    t.read(before.ino, 0, 4).await?;
    let after = t.attr(before.ino).await?;
    same((after.mtime, after.ctime), (before.mtime, before.ctime), "the other times")?;
    same(after.change, before.change, "count of changes")
}

async fn an_old_access_time_is_refreshed<V: Vfs>(t: &Fixture<V>) -> Verdict {
    // Newer than the modification, older than the change.
    let before = stamp(t, 2000, 1000).await?;
    t.read(before.ino, 0, 4).await?;
    holds(t.attr(before.ino).await?.atime > before.atime, "access time before the change")?;
    t.fs.unlink(t.cx(), t.dir, name("f")).await?;
    // Newer than the change, older than a modification that is yet to come.
    let before = stamp(t, 1 << 33, (1 << 33) + 1).await?;
    t.read(before.ino, 0, 4).await?;
    let after = t.attr(before.ino).await?;
    holds(after.atime < before.atime, "access time before the modification")
}

async fn change_times_rise<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let mut last = t.attr(ino).await?.ctime;
    for round in 0..200 {
        let attr = t.set(ino, &with_mode(0o600 + round % 8)).await?;
        holds(is_after(&t.profile, attr.ctime, last), "change time")?;
        last = attr.ctime;
    }
    Ok(())
}

async fn every_change_is_counted<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let mut last = t.attr(ino).await?.change;
    for round in 0..6 {
        match round {
            0 => t.write(ino, 0, b"x").await.map(drop)?,
            1 => t.set(ino, &with_mode(0o600)).await.map(drop)?,
            2 => t.set(ino, &with_size(0)).await.map(drop)?,
            3 => t.fs.link(t.cx(), ino, t.dir, name("g")).await.map(drop)?,
            4 => t.fs.unlink(t.cx(), t.dir, name("f")).await.map(drop)?,
            _ => {
                let (from, to) = ((t.dir, name("g")), (t.dir, name("h")));
                t.fs.rename(t.cx(), from, to, crate::RenameMode::Replace).await?;
            }
        }
        let now = t.attr(ino).await?.change;
        holds(now > last, &format!("change {round} is counted"))?;
        last = now;
    }
    let before = t.attr(t.dir).await?.change;
    t.file("new").await?;
    holds(t.attr(t.dir).await?.change > before, "a new name is a change of the directory")
}

async fn root_drops_set_id_bits_by_chown<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let chown = SetAttr { uid: Some(5), ..SetAttr::default() };
    t.set(ino, &with_mode(0o6755)).await?;
    same(t.set(ino, &chown).await?.mode, 0o755, "mode of what may be run")?;
    t.set(ino, &with_mode(0o2644)).await?;
    same(t.set(ino, &chown).await?.mode, 0o2644, "set-group-id without execution")?;
    let dir = t.dir("d").await?;
    t.set(dir, &with_mode(0o6755)).await?;
    same(t.set(dir, &chown).await?.mode, 0o6755, "mode of a directory")
}

async fn links_and_directories_have_attributes_too<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let link = t.made(t.dir, "l", Make::Symlink { target: b"f" }, 0o777).await?;
    let owner = SetAttr { uid: Some(7), gid: Some(8), ..SetAttr::default() };
    let attr = t.set(link, &owner).await?;
    same((attr.uid, attr.gid), (7, 8), "owner of a link")?;
    let time = Timestamp { seconds: 77, nanoseconds: 7 };
    let set = SetAttr { mtime: Some(SetTime::To(time)), ..SetAttr::default() };
    same(t.set(link, &set).await?.mtime, time, "time of a link")?;
    let dir = t.dir("d").await?;
    let set = SetAttr { mtime: Some(SetTime::To(time)), ..with_mode(0o1711) };
    t.fs.setattr(t.cx(), At::Ino(dir), &set).await?;
    let attr = t.attr(dir).await?;
    same((attr.mode, attr.mtime), (0o1711, time), "a directory")
}
