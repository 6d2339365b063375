//! Listing: every entry once, wherever a listing stops and goes on.

use super::fixture::{Fixture, Verdict, fails, holds, name, same};
use crate::{
    At, Budget, Cookie, DirPage, ErrorKind, Ino, Make, OpenFlags, RenameMode, Result, Vfs,
};
use std::collections::BTreeSet;

super::list! { "directories":
    everything_is_listed,
    an_empty_directory_ends_at_once,
    pages_of_any_size_say_the_same,
    names_limit_a_page,
    cookies_rise_and_keep_clear_of_dots,
    a_listing_goes_on_behind_what_was_removed,
    what_stays_is_listed_once_while_others_come_and_go,
    a_replaced_name_is_listed_once,
    attributes_come_along_when_wanted,
    kinds_come_along,
    a_handle_lists_its_directory,
    a_file_is_not_listed,
}

async fn page<V: Vfs>(t: &Fixture<V>, dir: Ino, after: Cookie, entries: u32) -> Result<DirPage> {
    let budget = Budget { entries, name_bytes: 1 << 20, with_attr: false };
    t.fs.readdir(t.cx(), At::Ino(dir), after, budget).await
}

async fn fill<V: Vfs>(t: &Fixture<V>, count: usize) -> Result<Vec<String>> {
    let names: Vec<_> = (0..count).map(|index| format!("entry {index:04}")).collect();
    for name in &names {
        t.file(name).await?;
    }
    Ok(names)
}

async fn everything_is_listed<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let names = fill(t, 300).await?;
    same(t.names(t.dir).await?, names, "names")?;
    for entry in t.list(t.dir, 1000).await? {
        let found = t.find(t.dir, &String::from_utf8_lossy(&entry.name)).await?;
        same(entry.ino, found, "inode")?;
    }
    Ok(())
}

async fn an_empty_directory_ends_at_once<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let listed = page(t, t.dir, Cookie::default(), 10).await?;
    holds(listed.entries.is_empty() && listed.end, "nothing, not even dots")?;
    same(listed.dir.ino, t.dir, "the directory's own attributes")
}

async fn pages_of_any_size_say_the_same<V: Vfs>(t: &Fixture<V>) -> Verdict {
    fill(t, 50).await?;
    let whole: Vec<_> =
        t.list(t.dir, 1000).await?.into_iter().map(|e| (e.cookie, e.name)).collect();
    for entries in [0, 1, 2, 7, 49, 50, 51] {
        let paged: Vec<_> =
            t.list(t.dir, entries).await?.into_iter().map(|e| (e.cookie, e.name)).collect();
        same(paged, &whole[..], &format!("pages of {entries}"))?;
    }
    let first = page(t, t.dir, Cookie::default(), 7).await?;
    same((first.entries.len(), first.end), (7, false), "the first page")
}

async fn names_limit_a_page<V: Vfs>(t: &Fixture<V>) -> Verdict {
    fill(t, 20).await?;
    let budget = |name_bytes| Budget { entries: 100, name_bytes, with_attr: false };
    let start = Cookie::default();
    let some = t.fs.readdir(t.cx(), At::Ino(t.dir), start, budget(55)).await?;
    same((some.entries.len(), some.end), (5, false), "names of ten bytes in 55")?;
    let one = t.fs.readdir(t.cx(), At::Ino(t.dir), start, budget(1)).await?;
    same((one.entries.len(), one.end), (1, false), "at least one")
}

async fn cookies_rise_and_keep_clear_of_dots<V: Vfs>(t: &Fixture<V>) -> Verdict {
    fill(t, 30).await?;
    let mut last = Cookie(2);
    for entry in t.list(t.dir, 7).await? {
        holds(entry.cookie > last, "cookies rise, from 3")?;
        holds(entry.cookie.0 < 1 << 63, "cookies fit in 63 bits")?;
        last = entry.cookie;
    }
    let behind = page(t, t.dir, last, 10).await?;
    holds(behind.entries.is_empty() && behind.end, "nothing behind the last")?;
    // An adapter that has served the dots goes on behind their cookies.
    same(page(t, t.dir, Cookie(2), 100).await?.entries.len(), 30, "entries behind the dots")
}

async fn a_listing_goes_on_behind_what_was_removed<V: Vfs>(t: &Fixture<V>) -> Verdict {
    fill(t, 20).await?;
    let first = page(t, t.dir, Cookie::default(), 10).await?;
    for entry in &first.entries {
        t.fs.unlink(t.cx(), t.dir, crate::Name::new(&entry.name)?).await?;
    }
    let after = first.entries.last().map_or(Cookie::default(), |entry| entry.cookie);
    let rest = page(t, t.dir, after, 100).await?;
    same(rest.entries.len(), 10, "the other ten")?;
    let seen: BTreeSet<_> = first.entries.iter().chain(&rest.entries).map(|e| &e.name).collect();
    same(seen.len(), 20, "all twenty")
}

async fn what_stays_is_listed_once_while_others_come_and_go<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let stay = fill(t, 60).await?;
    for index in 0..30 {
        t.file(&format!("goes {index}")).await?;
    }
    let (mut seen, mut after) = (Vec::new(), Cookie::default());
    for round in 0.. {
        let listed = page(t, t.dir, after, 3).await?;
        after = listed.entries.last().map_or(after, |entry| entry.cookie);
        seen.extend(listed.entries.into_iter().map(|entry| entry.name));
        if listed.end {
            break;
        }
        holds(round < 1000, "the listing ends though names keep coming")?;
        if round < 30 {
            t.fs.unlink(t.cx(), t.dir, name(&format!("goes {round}"))).await?;
            t.file(&format!("comes {round}")).await?;
        }
    }
    for name in stay {
        let count = seen.iter().filter(|seen| **seen == name.as_bytes()).count();
        same(count, 1, &format!("times that {name} is listed"))?;
    }
    Ok(())
}

async fn a_replaced_name_is_listed_once<V: Vfs>(t: &Fixture<V>) -> Verdict {
    fill(t, 10).await?;
    let first = page(t, t.dir, Cookie::default(), 5).await?;
    t.file("new").await?;
    // Both a name that was listed and one that was not are replaced.
    let listed = crate::Name::new(&first.entries[0].name)?;
    t.fs.rename(t.cx(), (t.dir, name("new")), (t.dir, listed), RenameMode::Replace).await?;
    let after = first.entries.last().map_or(Cookie::default(), |entry| entry.cookie);
    let rest = page(t, t.dir, after, 100).await?;
    let again = rest.entries.iter().any(|entry| entry.name == first.entries[0].name);
    holds(!again, "a name that was there throughout is not listed again")?;
    same(rest.entries.len(), 5, "the rest")
}

async fn attributes_come_along_when_wanted<V: Vfs>(t: &Fixture<V>) -> Verdict {
    t.file_with("f", b"data").await?;
    t.dir("d").await?;
    let budget = Budget { entries: 10, name_bytes: 1000, with_attr: true };
    let listed = t.fs.readdir(t.cx(), At::Ino(t.dir), Cookie::default(), budget).await?;
    same(listed.entries.len(), 2, "entries")?;
    for entry in listed.entries {
        let attr = entry.entry.map(|entry| entry.attr);
        same(attr, Some(t.attr(entry.ino).await?), "attributes")?;
    }
    let without = page(t, t.dir, Cookie::default(), 10).await?;
    holds(without.entries.iter().all(|entry| entry.entry.is_none()), "none unless wanted")
}

async fn kinds_come_along<V: Vfs>(t: &Fixture<V>) -> Verdict {
    t.file("f").await?;
    t.dir("d").await?;
    t.made(t.dir, "l", Make::Symlink { target: b"t" }, 0o777).await?;
    t.made(t.dir, "p", Make::Node(crate::Kind::Fifo), 0o644).await?;
    for entry in t.list(t.dir, 10).await? {
        same(entry.kind, t.attr(entry.ino).await?.kind, "kind")?;
    }
    Ok(())
}

async fn a_handle_lists_its_directory<V: Vfs>(t: &Fixture<V>) -> Verdict {
    fill(t, 5).await?;
    let handle = t.open(t.dir, OpenFlags::READ).await?;
    let budget = Budget { entries: 100, name_bytes: 1000, with_attr: false };
    let listed = t.fs.readdir(t.cx(), At::Open(&handle), Cookie::default(), budget).await?;
    same((listed.entries.len(), listed.end), (5, true), "entries")
}

async fn a_file_is_not_listed<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    fails(page(t, ino, Cookie::default(), 1).await, ErrorKind::NotDirectory, "by number")?;
    let handle = t.open(ino, OpenFlags::READ).await?;
    let budget = Budget { entries: 1, name_bytes: 1000, with_attr: false };
    let listed = t.fs.readdir(t.cx(), At::Open(&handle), Cookie::default(), budget).await;
    fails(listed, ErrorKind::NotDirectory, "by handle")
}
