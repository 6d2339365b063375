//! Holes: making, keeping and finding them.

use super::fixture::{Fixture, Verdict, fails, holds, name, pattern, same, with_size};
use crate::{Allocate, At, ErrorKind, Ino, OpenFlags, Result, SeekTo, Vfs};

super::list! { "sparse":
    a_byte_far_out_costs_little,
    a_punched_hole_reads_as_zeros,
    punching_past_the_end_does_not_grow,
    zeroing_grows_unless_told_not_to,
    reserving_grows_unless_told_not_to,
    reserving_leaves_data_alone,
    ranges_to_allocate_have_limits,
    allocating_needs_a_file,
    allocating_needs_a_handle_that_writes,
    seeking_finds_data_and_holes if |profile| profile.hole_granularity > 0,
    seeking_at_the_end_finds_nothing,
    a_file_without_holes_ends_in_one,
    a_file_that_is_one_hole_has_no_data if |profile| profile.hole_granularity > 0,
    seeking_never_passes_data_by,
}

const PUNCH: Allocate = Allocate::PunchHole;
const ZERO: Allocate = Allocate::Zero { keep_size: false };
const RESERVE: Allocate = Allocate::Reserve { keep_size: false };

async fn allocate<V: Vfs>(
    t: &Fixture<V>,
    ino: Ino,
    offset: u64,
    len: u64,
    what: Allocate,
) -> Result<u64> {
    Ok(t.fs.allocate(t.cx(), At::Ino(ino), offset, len, what).await?.after.size)
}

async fn seek<V: Vfs>(t: &Fixture<V>, ino: Ino, offset: u64, to: SeekTo) -> Result<u64> {
    t.fs.seek(t.cx(), At::Ino(ino), offset, to).await
}

async fn a_byte_far_out_costs_little<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let far = 1 << 40;
    t.write(ino, far, b"x").await?;
    let attr = t.attr(ino).await?;
    same(attr.size, far + 1, "length")?;
    if t.profile.hole_granularity > 0 {
        holds(attr.used < 16 << 20, "storage in use is no more than a few blocks")?;
    }
    same(t.read(ino, far - 3, 10).await?, b"\0\0\0x", "the end")?;
    same(t.read(ino, far / 2, 3).await?, b"\0\0\0", "the middle")
}

async fn a_punched_hole_reads_as_zeros<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let mut data = pattern(600_000, 1);
    let ino = t.file_with("f", &data).await?;
    for (offset, len) in [(131_072, 131_072), (10, 20), (300_000, 200_001)] {
        same(allocate(t, ino, offset, len, PUNCH).await?, 600_000, "length")?;
        data[offset as usize..(offset + len) as usize].fill(0);
        holds(t.read(ino, 0, 1_000_000).await? == data, "data")?;
    }
    t.write(ino, 200_000, b"new").await?;
    data[200_000..200_003].copy_from_slice(b"new");
    holds(t.read(ino, 0, 1_000_000).await? == data, "data after writing into the hole")
}

async fn punching_past_the_end_does_not_grow<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"0123456789").await?;
    same(allocate(t, ino, 5, 1000, PUNCH).await?, 10, "length across the end")?;
    same(t.read(ino, 0, 100).await?, b"01234\0\0\0\0\0", "data")?;
    same(allocate(t, ino, 1000, 1000, PUNCH).await?, 10, "length behind the end")
}

async fn zeroing_grows_unless_told_not_to<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"0123456789").await?;
    let keep = Allocate::Zero { keep_size: true };
    same(allocate(t, ino, 8, 100, keep).await?, 10, "length kept")?;
    same(t.read(ino, 0, 1000).await?, b"01234567\0\0", "data")?;
    same(allocate(t, ino, 4, 16, ZERO).await?, 20, "length grown")?;
    same(&t.read(ino, 0, 4).await?, b"0123", "data before")?;
    same(t.read(ino, 4, 1000).await?, [0; 16], "zeros")
}

async fn reserving_grows_unless_told_not_to<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    let keep = Allocate::Reserve { keep_size: true };
    same(allocate(t, ino, 0, 100_000, keep).await?, 4, "length kept")?;
    same(allocate(t, ino, 2, 10, RESERVE).await?, 12, "length grown")?;
    same(t.read(ino, 0, 100).await?, b"data\0\0\0\0\0\0\0\0", "data")
}

async fn reserving_leaves_data_alone<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let data = pattern(200_000, 5);
    let ino = t.file_with("f", &data).await?;
    same(allocate(t, ino, 0, 150_000, RESERVE).await?, 200_000, "length")?;
    holds(t.read(ino, 0, 1_000_000).await? == data, "data")
}

async fn ranges_to_allocate_have_limits<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    let max = t.fs.limits().file_size_max;
    for what in [PUNCH, ZERO, RESERVE] {
        let nothing = allocate(t, ino, 0, 0, what).await;
        fails(nothing, ErrorKind::Invalid, &format!("{what:?} of nothing"))?;
        let far = allocate(t, ino, max, 1, what).await;
        fails(far, ErrorKind::FileTooBig, &format!("{what:?} behind the limit"))?;
        let wrapped = allocate(t, ino, 10, u64::MAX, what).await;
        fails(wrapped, ErrorKind::FileTooBig, &format!("{what:?} off the scale"))?;
    }
    same(t.read(ino, 0, 100).await?, b"data", "data")
}

async fn allocating_needs_a_file<V: Vfs>(t: &Fixture<V>) -> Verdict {
    fails(allocate(t, t.dir, 0, 10, RESERVE).await, ErrorKind::IsDirectory, "a directory")
}

async fn allocating_needs_a_handle_that_writes<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"data").await?;
    let handle = t.open(ino, OpenFlags::READ).await?;
    let punched = t.fs.allocate(t.cx(), At::Open(&handle), 0, 4, PUNCH).await;
    fails(punched, ErrorKind::BadHandle, "punch")?;
    same(t.read(ino, 0, 100).await?, b"data", "data")
}

async fn seeking_finds_data_and_holes<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let unit = t.profile.hole_granularity;
    let ino = t.file("f").await?;
    // hole, data, hole, data, hole, each several units long.
    let data = pattern(4 * unit as usize, 1);
    t.write(ino, 4 * unit, &data).await?;
    t.write(ino, 12 * unit, &data).await?;
    t.set(ino, &with_size(20 * unit)).await?;
    let found = |offset, to| seek(t, ino, offset * unit, to);
    same(found(0, SeekTo::Hole).await?, 0, "hole from the start")?;
    same(found(0, SeekTo::Data).await?, 4 * unit, "data from the start")?;
    same(found(5, SeekTo::Data).await?, 5 * unit, "data from within data")?;
    same(found(5, SeekTo::Hole).await?, 8 * unit, "hole from within data")?;
    same(found(9, SeekTo::Data).await?, 12 * unit, "data from within a hole")?;
    same(found(12, SeekTo::Hole).await?, 16 * unit, "hole behind the last data")?;
    fails(found(17, SeekTo::Data).await, ErrorKind::NoSuchOffset, "data behind the last")?;
    allocate(t, ino, 4 * unit, 4 * unit, PUNCH).await?;
    same(found(0, SeekTo::Data).await?, 12 * unit, "data behind what was punched")
}

async fn seeking_at_the_end_finds_nothing<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"0123456789").await?;
    for to in [SeekTo::Data, SeekTo::Hole] {
        for offset in [10, 11, u64::MAX] {
            fails(seek(t, ino, offset, to).await, ErrorKind::NoSuchOffset, &format!("{to:?}"))?;
        }
    }
    let empty = t.file("empty").await?;
    fails(seek(t, empty, 0, SeekTo::Hole).await, ErrorKind::NoSuchOffset, "an empty file")
}

async fn a_file_without_holes_ends_in_one<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", &pattern(10_000, 1)).await?;
    same(seek(t, ino, 0, SeekTo::Data).await?, 0, "data")?;
    same(seek(t, ino, 5000, SeekTo::Hole).await?, 10_000, "hole")
}

async fn a_file_that_is_one_hole_has_no_data<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    t.set(ino, &with_size(10 * t.profile.hole_granularity)).await?;
    fails(seek(t, ino, 0, SeekTo::Data).await, ErrorKind::NoSuchOffset, "data")?;
    same(seek(t, ino, 1000, SeekTo::Hole).await?, 1000, "hole")
}

/// Walks files of random writes and holes by seeking, and checks that whatever is
/// not zero lies in what was called data.
async fn seeking_never_passes_data_by<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let mut next = crate::model::ops::numbers(11);
    for file in 0..5 {
        let ino = t.file(&format!("f{file}")).await?;
        for round in 0..12 {
            let (offset, len) = (u64::from(next() % 900_000), 1 + next() % 60_000);
            if round % 3 == 2 {
                allocate(t, ino, offset, len.into(), PUNCH).await?;
            } else {
                t.write(ino, offset, &vec![round + 1; len as usize]).await?;
            }
        }
        let data = t.read(ino, 0, 1 << 20).await?;
        let mut offset = 0;
        while let Ok(start) = seek(t, ino, offset, SeekTo::Data).await {
            holds(start >= offset, "data is not before where it was looked for")?;
            let hole = &data[offset as usize..start as usize];
            holds(hole.iter().all(|byte| *byte == 0), "a hole is all zeros")?;
            offset = seek(t, ino, start, SeekTo::Hole).await?;
            holds(offset > start, "data is at least a byte long")?;
            if offset >= data.len() as u64 {
                break;
            }
        }
        let rest = &data[(offset as usize).min(data.len())..];
        holds(rest.iter().all(|byte| *byte == 0), "what follows the last data is zeros")?;
        t.fs.unlink(t.cx(), t.dir, name(&format!("f{file}"))).await?;
    }
    Ok(())
}
