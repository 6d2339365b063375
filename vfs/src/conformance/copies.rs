//! Copying between files inside the file system.

use super::fixture::{Fixture, Verdict, fails, holds, is_after, pattern, same, with_size};
use crate::{At, ErrorKind, Ino, OpenFlags, Result, Vfs};

super::list! { "copies":
    a_whole_file_is_copied,
    parts_are_copied_wherever_they_lie,
    a_copy_stops_at_the_end_of_the_source,
    a_copy_grows_the_target,
    a_copy_takes_holes_along,
    a_file_is_copied_within_itself,
    overlapping_ranges_are_refused,
    a_copy_is_on_its_own_afterwards,
    a_part_that_was_copied_brings_nothing_else_along,
    a_copy_is_a_write_to_the_target,
    copying_needs_the_right_handles,
    copying_needs_files,
}

async fn copy<V: Vfs>(t: &Fixture<V>, from: (Ino, u64), to: (Ino, u64), len: u64) -> Result<u64> {
    t.fs.copy(t.cx(), (At::Ino(from.0), from.1), (At::Ino(to.0), to.1), len).await
}

async fn a_whole_file_is_copied<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let data = pattern(500_000, 3);
    let (from, to) = (t.file_with("from", &data).await?, t.file("to").await?);
    same(copy(t, (from, 0), (to, 0), 500_000).await?, 500_000, "count")?;
    holds(t.read(to, 0, 1_000_000).await? == data, "data")?;
    holds(t.read(from, 0, 1_000_000).await? == data, "data of the source")
}

async fn parts_are_copied_wherever_they_lie<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let data = pattern(600_000, 3);
    let from = t.file_with("from", &data).await?;
    let mut expected = pattern(600_000, 100);
    let to = t.file_with("to", &expected).await?;
    let parts = [
        (0, 131_072, 131_072),
        (131_072, 0, 262_144),
        (7, 300_000, 100_000),
        (400_001, 131_071, 3),
        (262_144, 262_150, 131_072),
    ];
    for (source, target, len) in parts {
        let copied = copy(t, (from, source as u64), (to, target as u64), len as u64).await?;
        same(copied, len as u64, "count")?;
        expected[target..target + len].copy_from_slice(&data[source..source + len]);
        holds(t.read(to, 0, 1_000_000).await? == expected, "data")?;
    }
    Ok(())
}

async fn a_copy_stops_at_the_end_of_the_source<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (from, to) = (t.file_with("from", b"0123456789").await?, t.file("to").await?);
    same(copy(t, (from, 6), (to, 0), 1000).await?, 4, "count across the end")?;
    same(t.read(to, 0, 100).await?, b"6789", "data")?;
    let before = t.attr(to).await?;
    same(copy(t, (from, 10), (to, 50), 1000).await?, 0, "count at the end")?;
    same(copy(t, (from, 1 << 40), (to, 50), 1000).await?, 0, "count behind the end")?;
    same(copy(t, (from, 0), (to, 50), 0).await?, 0, "count of nothing")?;
    let after = t.attr(to).await?;
    same((after.size, after.mtime), (4, before.mtime), "a target that got nothing")
}

async fn a_copy_grows_the_target<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (from, to) = (t.file_with("from", b"0123").await?, t.file_with("to", b"ab").await?);
    same(copy(t, (from, 0), (to, 5), 4).await?, 4, "count")?;
    same(t.read(to, 0, 100).await?, b"ab\0\0\x000123", "data")?;
    let max = t.fs.limits().file_size_max;
    fails(copy(t, (from, 0), (to, max), 4).await, ErrorKind::FileTooBig, "past the limit")
}

async fn a_copy_takes_holes_along<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let from = t.file_with("from", b"start").await?;
    t.write(from, 500_000, b"end").await?;
    let to = t.file_with("to", &pattern(600_000, 9)).await?;
    same(copy(t, (from, 0), (to, 0), 1 << 30).await?, 500_003, "count")?;
    let data = t.read(to, 0, 1_000_000).await?;
    same(data.len(), 600_000, "length")?;
    holds(data[..5] == *b"start" && data[500_000..500_003] == *b"end", "data")?;
    holds(data[5..500_000].iter().all(|byte| *byte == 0), "zeros from the hole")?;
    holds(data[500_003..] == pattern(600_000, 9)[500_003..], "what lies behind")?;
    let sparse = t.file("sparse").await?;
    t.set(sparse, &with_size(1 << 40)).await?;
    let target = t.file("target").await?;
    same(copy(t, (sparse, 0), (target, 0), 1 << 40).await?, 1 << 40, "count of a huge hole")?;
    same(t.attr(target).await?.size, 1 << 40, "length of a huge hole")
}

async fn a_file_is_copied_within_itself<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"0123456789").await?;
    same(copy(t, (ino, 0), (ino, 10), 10).await?, 10, "count behind")?;
    same(copy(t, (ino, 5), (ino, 2), 3).await?, 3, "count before")?;
    same(t.read(ino, 0, 100).await?, b"01567567890123456789", "data")
}

async fn overlapping_ranges_are_refused<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"0123456789").await?;
    for (source, target, len) in [(0, 0, 1), (0, 4, 5), (4, 0, 5)] {
        let copied = copy(t, (ino, source), (ino, target), len).await;
        fails(copied, ErrorKind::Invalid, "copy")?;
    }
    same(t.read(ino, 0, 100).await?, b"0123456789", "data")
}

async fn a_copy_is_on_its_own_afterwards<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let data = pattern(300_000, 3);
    let (from, to) = (t.file_with("from", &data).await?, t.file("to").await?);
    copy(t, (from, 0), (to, 0), 300_000).await?;
    t.write(from, 0, b"changed").await?;
    t.set(from, &with_size(10)).await?;
    holds(t.read(to, 0, 1_000_000).await? == data, "the copy, after the source changed")?;
    t.write(to, 3, b"changed").await?;
    same(t.read(from, 0, 100).await?[..7].to_vec(), b"changed", "the source")
}

async fn a_part_that_was_copied_brings_nothing_else_along<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let data = pattern(300_000, 3);
    let from = t.file_with("from", &data).await?;
    let (written, extended) = (t.file("written").await?, t.file("extended").await?);
    for (to, len) in [(written, 100), (extended, 200_000)] {
        same(copy(t, (from, 0), (to, 0), len).await?, len, "count")?;
    }
    t.write(written, 5000, b"x").await?;
    let read = t.read(written, 0, 10_000).await?;
    holds(read[..100] == data[..100] && read[5000] == b'x', "data before and behind the gap")?;
    holds(read[100..5000].iter().all(|byte| *byte == 0), "zeros in the gap")?;
    t.set(extended, &with_size(280_000)).await?;
    let read = t.read(extended, 0, 300_000).await?;
    holds(read[..200_000] == data[..200_000], "data that was copied")?;
    holds(read[200_000..].iter().all(|byte| *byte == 0), "zeros behind it")?;
    // What the source itself no longer shows stays away as well.
    t.set(from, &with_size(250_000)).await?;
    let whole = t.file("whole").await?;
    same(copy(t, (from, 0), (whole, 0), 300_000).await?, 250_000, "count of what is left")?;
    t.set(whole, &with_size(300_000)).await?;
    let read = t.read(whole, 0, 300_000).await?;
    holds(read[..250_000] == data[..250_000], "data of what is left")?;
    holds(read[250_000..].iter().all(|byte| *byte == 0), "zeros where the source was cut")
}

async fn a_copy_is_a_write_to_the_target<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (from, to) = (t.file_with("from", b"data").await?, t.file("to").await?);
    let before = (t.attr(from).await?, t.attr(to).await?);
    copy(t, (from, 0), (to, 0), 4).await?;
    let after = (t.attr(from).await?, t.attr(to).await?);
    holds(is_after(&t.profile, after.1.mtime, before.1.mtime), "modification time")?;
    holds(is_after(&t.profile, after.1.ctime, before.1.ctime), "change time")?;
    same((after.0.mtime, after.0.ctime), (before.0.mtime, before.0.ctime), "source's times")
}

async fn copying_needs_the_right_handles<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (from, to) = (t.file_with("from", b"data").await?, t.file("to").await?);
    let write_only = OpenFlags { read: false, ..OpenFlags::READ_WRITE };
    let (reads, writes) = (t.open(from, OpenFlags::READ).await?, t.open(to, write_only).await?);
    let (reads, writes) = (At::Open(&reads), At::Open(&writes));
    let backwards = t.fs.copy(t.cx(), (writes, 0), (reads, 0), 4).await;
    fails(backwards, ErrorKind::BadHandle, "the wrong way round")?;
    same(t.fs.copy(t.cx(), (reads, 0), (writes, 0), 4).await?, 4, "the right way")?;
    same(t.read(to, 0, 10).await?, b"data", "data")
}

async fn copying_needs_files<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    fails(copy(t, (t.dir, 0), (ino, 0), 1).await, ErrorKind::IsDirectory, "from a directory")?;
    fails(copy(t, (ino, 0), (t.dir, 0), 1).await, ErrorKind::IsDirectory, "to a directory")
}
