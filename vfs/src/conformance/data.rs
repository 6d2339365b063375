//! Reading and writing.

use super::fixture::{Fixture, Verdict, fails, holds, is_after, name, pattern, same, with_size};
use crate::{At, ErrorKind, IfExists, Make, OpenFlags, Segments, SetAttr, Stability, Vfs, WriteAt};
use bytes::Bytes;

super::list! { "data":
    what_is_written_is_read,
    a_read_stops_at_the_end,
    the_end_is_reported,
    a_write_replaces_only_its_range,
    a_write_past_the_end_leaves_zeros,
    a_write_takes_all_slices,
    a_write_at_the_end_appends,
    appends_through_two_handles_do_not_meet,
    an_empty_write_is_nothing,
    cutting_and_growing,
    what_was_cut_off_stays_away,
    writes_across_block_borders,
    writes_of_every_shape_agree_with_a_plain_array,
    files_have_a_longest_length,
    no_file_is_created_longer_than_that,
    only_files_have_data,
    a_write_changes_the_times,
    a_late_write_leaves_the_modification_time if |profile| profile.late_writes,
}

async fn what_is_written_is_read<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let data = pattern(100_000, 1);
    let ino = t.file("f").await?;
    let written = t.write(ino, 0, &data).await?;
    same(written.count, 100_000, "count")?;
    same(t.attr(ino).await?.size, 100_000, "length")?;
    holds(t.read(ino, 0, 200_000).await? == data, "data")?;
    holds(t.read(ino, 777, 9000).await? == data[777..9777], "a part of it")
}

async fn a_read_stops_at_the_end<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"0123456789").await?;
    same(t.read(ino, 7, 100).await?, b"789", "across the end")?;
    same(t.read(ino, 10, 100).await?, b"", "at the end")?;
    same(t.read(ino, 1 << 40, 100).await?, b"", "far behind the end")?;
    same(t.read(ino, 3, 0).await?, b"", "nothing")
}

async fn the_end_is_reported<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"0123456789").await?;
    let read = async |offset, len| t.fs.read(t.cx(), At::Ino(ino), offset, len).await;
    holds(!read(0, 9).await?.eof, "one byte is left")?;
    holds(read(0, 10).await?.eof, "exactly all")?;
    holds(read(5, 100).await?.eof, "more than there is")?;
    holds(read(10, 1).await?.eof, "at the end")?;
    let empty = t.file("empty").await?;
    holds(t.fs.read(t.cx(), At::Ino(empty), 0, 1).await?.eof, "an empty file")
}

async fn a_write_replaces_only_its_range<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"0123456789").await?;
    t.write(ino, 3, b"abc").await?;
    same(t.read(ino, 0, 100).await?, b"012abc6789", "data")
}

async fn a_write_past_the_end_leaves_zeros<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"start").await?;
    t.write(ino, 300_000, b"end").await?;
    let data = t.read(ino, 0, 400_000).await?;
    same(data.len(), 300_003, "length")?;
    same(&data[..5], b"start", "start")?;
    holds(data[5..300_000].iter().all(|byte| *byte == 0), "zeros between")?;
    same(&data[300_000..], b"end", "end")
}

async fn a_write_takes_all_slices<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let slices = [&b"one"[..], b"", b"two", b"three"].map(Bytes::from_static);
    let data = Segments::from(slices.to_vec());
    let place = WriteAt::Offset(1);
    let written = t.fs.write(t.cx(), At::Ino(ino), place, data, Stability::Buffered).await?;
    same(written.count, 11, "count")?;
    same(t.read(ino, 0, 100).await?, b"\0onetwothree", "data")
}

async fn a_write_at_the_end_appends<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    for part in [&b"one"[..], b"two", b"three"] {
        t.write_at(At::Ino(ino), WriteAt::End, part).await?;
    }
    same(t.read(ino, 0, 100).await?, b"onetwothree", "data")?;
    t.set(ino, &with_size(3)).await?;
    t.write_at(At::Ino(ino), WriteAt::End, b"!").await?;
    same(t.read(ino, 0, 100).await?, b"one!", "data after a cut")
}

async fn appends_through_two_handles_do_not_meet<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let flags = OpenFlags { read: false, ..OpenFlags::READ_WRITE };
    let (one, two) = (t.open(ino, flags).await?, t.open(ino, flags).await?);
    for round in 0..50 {
        let lines = [vec![b'a'; 1000 + round], vec![b'b'; 500 + round]];
        let (at_one, at_two) = (At::Open(&one), At::Open(&two));
        // Both are under way at once, as far as the implementation lets them be.
        let mut first = Box::pin(t.write_at(at_one, WriteAt::End, &lines[0]));
        let mut second = Box::pin(t.write_at(at_two, WriteAt::End, &lines[1]));
        let begun = super::poll_once(first.as_mut()).await;
        let other = super::poll_once(second.as_mut()).await;
        if let std::task::Poll::Ready(written) = other {
            written?;
        } else {
            second.await?;
        }
        if let std::task::Poll::Ready(written) = begun {
            written?;
        } else {
            first.await?;
        }
    }
    let expected = (0..50).map(|round| 1500 + 2 * round).sum::<usize>();
    let data = t.read(ino, 0, 200_000).await?;
    same(data.len(), expected, "length")?;
    let count = |byte| data.iter().filter(|found| **found == byte).count();
    same(count(b'a') + count(b'b'), expected, "bytes that were written")?;
    let runs = data.chunk_by(|a, b| a == b).count();
    holds(runs <= 100, "no line is torn")
}

async fn an_empty_write_is_nothing<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"abc").await?;
    let before = t.attr(ino).await?;
    same(t.write(ino, 1000, b"").await?.count, 0, "count")?;
    let after = t.attr(ino).await?;
    same((after.size, after.mtime, after.ctime), (3, before.mtime, before.ctime), "attributes")
}

async fn cutting_and_growing<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let data = pattern(200_000, 2);
    let ino = t.file_with("f", &data).await?;
    for size in [150_000, 131_072, 131_071, 4096, 1, 0] {
        same(t.set(ino, &with_size(size)).await?.size, size, "length")?;
        holds(t.read(ino, 0, 200_000).await? == data[..size as usize], "what is left")?;
    }
    same(t.set(ino, &with_size(100_000)).await?.size, 100_000, "length after growing")?;
    holds(t.read(ino, 0, 200_000).await? == vec![0; 100_000], "zeros")
}

async fn what_was_cut_off_stays_away<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", &[0xff; 10_000]).await?;
    t.set(ino, &with_size(5000)).await?;
    t.set(ino, &with_size(9000)).await?;
    let data = t.read(ino, 0, 20_000).await?;
    holds(data[..5000].iter().all(|byte| *byte == 0xff), "what was left")?;
    holds(data[5000..] == [0; 4000], "zeros behind it")?;
    t.set(ino, &with_size(100)).await?;
    t.write(ino, 200, b"x").await?;
    same(&t.read(ino, 100, 100).await?[..], [0; 100], "zeros before a later write")
}

async fn writes_across_block_borders<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let mut expected = vec![0; 600_000];
    for border in [4096, 65_536, 131_072, 262_144, 524_288] {
        for offset in [border - 10, border, border + 10] {
            let data = pattern(25, offset as u8);
            t.write(ino, offset as u64, &data).await?;
            expected[offset..offset + 25].copy_from_slice(&data);
        }
    }
    expected.truncate(524_288 + 35);
    holds(t.read(ino, 0, 1_000_000).await? == expected, "data")
}

async fn writes_of_every_shape_agree_with_a_plain_array<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let mut next = crate::model::ops::numbers(7);
    let mut below = move |limit: u32| next() % limit;
    let mut expected: Vec<u8> = Vec::new();
    for round in 0..300_u32 {
        let offset = below(400_000) as usize;
        match below(8) {
            0 => {
                t.set(ino, &with_size(offset as u64)).await?;
                expected.resize(offset, 0);
            }
            1 => {
                let read = t.read(ino, offset as u64, 10_000).await?;
                let from = offset.min(expected.len());
                let to = (offset + 10_000).min(expected.len()).max(from);
                holds(read == expected[from..to], &format!("data read in round {round}"))?;
            }
            _ => {
                let len = 1 + below(if round % 10 == 0 { 200_000 } else { 5000 }) as usize;
                let data = pattern(len, round as u8);
                t.write(ino, offset as u64, &data).await?;
                expected.resize(expected.len().max(offset + len), 0);
                expected[offset..offset + len].copy_from_slice(&data);
            }
        }
    }
    same(t.attr(ino).await?.size, expected.len() as u64, "length")?;
    holds(t.read(ino, 0, 1_000_000).await? == expected, "data in the end")
}

async fn files_have_a_longest_length<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let max = t.fs.limits().file_size_max;
    let ino = t.file_with("f", b"kept").await?;
    fails(t.write(ino, max, b"x").await, ErrorKind::FileTooBig, "a write behind the limit")?;
    if t.profile.refuses_whole_writes {
        fails(t.write(ino, max - 1, b"xy").await, ErrorKind::FileTooBig, "a write across it")?;
    }
    fails(t.write(ino, u64::MAX, b"xy").await, ErrorKind::FileTooBig, "a write off the scale")?;
    let grown = t.set(ino, &with_size(max + 1)).await;
    fails(grown, ErrorKind::FileTooBig, "growing past the limit")?;
    same(t.read(ino, 0, 100).await?, b"kept", "data")?;
    t.write(ino, max - 1, b"x").await?;
    same(t.attr(ino).await?.size, max, "the longest file")?;
    same(t.read(ino, max - 2, 100).await?, b"\0x", "its end")
}

async fn no_file_is_created_longer_than_that<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let too_long = SetAttr { mode: Some(0o644), ..with_size(t.fs.limits().file_size_max + 1) };
    for if_exists in [IfExists::Fail, IfExists::Reuse] {
        let made = t.fs.create(t.cx(), t.dir, name("f"), &too_long, if_exists, None).await;
        fails(made.map(drop), ErrorKind::FileTooBig, &format!("a new file, {if_exists:?}"))?;
        same(t.names(t.dir).await?, [""; 0], "what is left behind")?;
    }
    let ino = t.file_with("f", b"kept").await?;
    let made = t.fs.create(t.cx(), t.dir, name("f"), &too_long, IfExists::Reuse, None).await;
    fails(made.map(drop), ErrorKind::FileTooBig, "one that is there")?;
    same(t.read(ino, 0, 100).await?, b"kept", "data")
}

async fn only_files_have_data<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let link = t.made(t.dir, "l", Make::Symlink { target: b"t" }, 0o777).await?;
    let fifo = t.made(t.dir, "p", Make::Node(crate::Kind::Fifo), 0o666).await?;
    for (ino, kind) in
        [(t.dir, ErrorKind::IsDirectory), (link, ErrorKind::Invalid), (fifo, ErrorKind::Invalid)]
    {
        fails(t.read(ino, 0, 1).await, kind, "read")?;
        fails(t.write(ino, 0, b"x").await, kind, "write")?;
        fails(t.set(ino, &with_size(0)).await, kind, "setting the length")?;
    }
    Ok(())
}

async fn a_late_write_leaves_the_modification_time<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("f", b"start").await?;
    let before = t.attr(ino).await?;
    let after = t.write_at(At::Ino(ino), WriteAt::Late(3), b"late").await?.wcc.after;
    same(after.mtime, before.mtime, "modification time")?;
    holds(is_after(&t.profile, after.ctime, before.ctime), "change time")?;
    same(t.read(ino, 0, 100).await?, b"stalate", "data")
}

async fn a_write_changes_the_times<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let before = t.attr(ino).await?;
    let after = t.write(ino, 0, b"x").await?.wcc.after;
    holds(is_after(&t.profile, after.mtime, before.mtime), "modification time")?;
    holds(is_after(&t.profile, after.ctime, before.ctime), "change time")?;
    same((after.atime, after.btime), (before.atime, before.btime), "the other times")?;
    let again = t.attr(ino).await?;
    same((again.mtime, again.ctime), (after.mtime, after.ctime), "the answer's times")
}
