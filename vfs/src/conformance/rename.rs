//! Moving names.

use super::fixture::{Fixture, Verdict, fails, holds, is_after, name, same};
use crate::{At, ErrorKind, Ino, OpenFlags, RenameMode, Result, Vfs};

super::list! { "rename":
    a_file_moves_within_a_directory,
    a_file_moves_between_directories,
    a_directory_moves_with_everything_in_it,
    a_file_is_replaced,
    a_replaced_file_with_another_name_keeps_it,
    an_empty_directory_is_replaced,
    a_full_directory_is_not_replaced,
    kinds_do_not_replace_each_other,
    the_source_must_exist,
    the_source_must_exist_whatever_is_asked_for,
    no_replace_does_not_replace,
    exchange_needs_both,
    files_trade_places,
    a_file_and_a_directory_trade_places,
    directories_trade_places_across_parents,
    a_directory_does_not_move_into_itself,
    a_directory_does_not_trade_places_with_what_is_in_it,
    a_directory_does_not_replace_its_ancestor,
    two_names_of_one_file_stay,
    two_names_of_one_file_trade_places_for_nothing,
    onto_itself_is_nothing,
    times_of_all_concerned,
    a_replaced_open_file_lives_on,
    both_ends_must_be_directories,
}

use RenameMode::{Exchange, NoReplace, Replace};

async fn mv<V: Vfs>(
    t: &Fixture<V>,
    from: (Ino, &str),
    to: (Ino, &str),
    mode: RenameMode,
) -> Result<()> {
    let (from, to) = ((from.0, name(from.1)), (to.0, name(to.1)));
    t.fs.rename(t.cx(), from, to, mode).await.map(drop)
}

async fn a_file_moves_within_a_directory<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file_with("a", b"data").await?;
    mv(t, (t.dir, "a"), (t.dir, "b"), Replace).await?;
    same(t.names(t.dir).await?, ["b"], "names")?;
    same(t.find(t.dir, "b").await?, ino, "inode")?;
    same(t.read(ino, 0, 10).await?, b"data", "data")
}

async fn a_file_moves_between_directories<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("a").await?;
    let there = t.dir("d").await?;
    let links = t.attr(t.dir).await?.nlink;
    mv(t, (t.dir, "a"), (there, "a"), Replace).await?;
    same(t.names(t.dir).await?, ["d"], "names here")?;
    same(t.find(there, "a").await?, ino, "inode there")?;
    same((t.attr(t.dir).await?.nlink, t.attr(there).await?.nlink), (links, 2), "links")
}

async fn a_directory_moves_with_everything_in_it<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (one, two) = (t.dir("one").await?, t.dir("two").await?);
    let moved = t.dir_in(one, "d").await?;
    let deep = t.dir_in(moved, "deep").await?;
    let file = t.file_in(deep, "f").await?;
    mv(t, (one, "d"), (two, "e"), Replace).await?;
    same((t.attr(one).await?.nlink, t.attr(two).await?.nlink), (2, 3), "links of the parents")?;
    same(t.attr(moved).await?.nlink, 3, "links of the directory")?;
    same(t.fs.parent(t.cx(), moved).await?.attr.ino, two, "parent")?;
    let found = t.find(t.find(t.find(two, "e").await?, "deep").await?, "f").await?;
    same(found, file, "a file in it")
}

async fn a_file_is_replaced<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let new = t.file_with("new", b"new").await?;
    let old = t.file_with("old", b"old").await?;
    mv(t, (t.dir, "new"), (t.dir, "old"), Replace).await?;
    same(t.names(t.dir).await?, ["old"], "names")?;
    same(t.find(t.dir, "old").await?, new, "inode")?;
    t.is_gone(old).await
}

async fn a_replaced_file_with_another_name_keeps_it<V: Vfs>(t: &Fixture<V>) -> Verdict {
    t.file("new").await?;
    let old = t.file_with("old", b"old").await?;
    t.fs.link(t.cx(), old, t.dir, name("other")).await?;
    mv(t, (t.dir, "new"), (t.dir, "old"), Replace).await?;
    same(t.attr(old).await?.nlink, 1, "links")?;
    same(t.find(t.dir, "other").await?, old, "the other name")
}

async fn an_empty_directory_is_replaced<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (new, old) = (t.dir("new").await?, t.dir("old").await?);
    t.file_in(new, "f").await?;
    let links = t.attr(t.dir).await?.nlink;
    mv(t, (t.dir, "new"), (t.dir, "old"), Replace).await?;
    same(t.find(t.dir, "old").await?, new, "inode")?;
    same(t.attr(t.dir).await?.nlink, links - 1, "links")?;
    t.is_gone(old).await
}

async fn a_full_directory_is_not_replaced<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (new, old) = (t.dir("new").await?, t.dir("old").await?);
    t.file_in(old, "f").await?;
    let moved = mv(t, (t.dir, "new"), (t.dir, "old"), Replace).await;
    fails(moved, ErrorKind::NotEmpty, "rename")?;
    same(t.find(t.dir, "new").await?, new, "the source is where it was")
}

async fn kinds_do_not_replace_each_other<V: Vfs>(t: &Fixture<V>) -> Verdict {
    t.file("f").await?;
    t.dir("d").await?;
    let over_dir = mv(t, (t.dir, "f"), (t.dir, "d"), Replace).await;
    fails(over_dir, ErrorKind::IsDirectory, "a file over a directory")?;
    let over_file = mv(t, (t.dir, "d"), (t.dir, "f"), Replace).await;
    fails(over_file, ErrorKind::NotDirectory, "a directory over a file")?;
    same(t.names(t.dir).await?, ["d", "f"], "names")
}

async fn the_source_must_exist<V: Vfs>(t: &Fixture<V>) -> Verdict {
    t.file("f").await?;
    let moved = mv(t, (t.dir, "missing"), (t.dir, "f"), Replace).await;
    fails(moved, ErrorKind::NotFound, "onto a name that is taken")?;
    let moved = mv(t, (t.dir, "missing"), (t.dir, "free"), Replace).await;
    fails(moved, ErrorKind::NotFound, "onto one that is free")?;
    same(t.names(t.dir).await?, ["f"], "names")
}

async fn the_source_must_exist_whatever_is_asked_for<V: Vfs>(t: &Fixture<V>) -> Verdict {
    t.file("f").await?;
    for mode in [NoReplace, Exchange] {
        let moved = mv(t, (t.dir, "missing"), (t.dir, "f"), mode).await;
        fails(moved, ErrorKind::NotFound, &format!("{mode:?}"))?;
    }
    same(t.names(t.dir).await?, ["f"], "names")
}

async fn no_replace_does_not_replace<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("a").await?;
    t.file("b").await?;
    let moved = mv(t, (t.dir, "a"), (t.dir, "b"), NoReplace).await;
    fails(moved, ErrorKind::Exists, "a taken name")?;
    fails(
        mv(t, (t.dir, "a"), (t.dir, "a"), NoReplace).await,
        ErrorKind::Exists,
        "the name itself",
    )?;
    mv(t, (t.dir, "a"), (t.dir, "c"), NoReplace).await?;
    same(t.find(t.dir, "c").await?, ino, "a free name")?;
    same(t.names(t.dir).await?, ["b", "c"], "names")
}

async fn exchange_needs_both<V: Vfs>(t: &Fixture<V>) -> Verdict {
    t.file("a").await?;
    let moved = mv(t, (t.dir, "a"), (t.dir, "b"), Exchange).await;
    fails(moved, ErrorKind::NotFound, "exchange")
}

async fn files_trade_places<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (a, b) = (t.file("a").await?, t.file("b").await?);
    mv(t, (t.dir, "a"), (t.dir, "b"), Exchange).await?;
    same((t.find(t.dir, "a").await?, t.find(t.dir, "b").await?), (b, a), "inodes")?;
    same((t.attr(a).await?.nlink, t.attr(b).await?.nlink), (1, 1), "links")
}

async fn a_file_and_a_directory_trade_places<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (here, there) = (t.dir("here").await?, t.dir("there").await?);
    let dir = t.dir_in(here, "x").await?;
    let inside = t.file_in(dir, "inside").await?;
    let file = t.file_in(there, "y").await?;
    mv(t, (here, "x"), (there, "y"), Exchange).await?;
    same((t.find(here, "x").await?, t.find(there, "y").await?), (file, dir), "inodes")?;
    same((t.attr(here).await?.nlink, t.attr(there).await?.nlink), (2, 3), "links")?;
    same(t.fs.parent(t.cx(), dir).await?.attr.ino, there, "parent")?;
    same(t.find(dir, "inside").await?, inside, "what is in it")
}

async fn directories_trade_places_across_parents<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (here, there) = (t.dir("here").await?, t.dir("there").await?);
    let (x, y) = (t.dir_in(here, "x").await?, t.dir_in(there, "y").await?);
    t.file_in(x, "full").await?;
    t.file_in(y, "full").await?;
    mv(t, (here, "x"), (there, "y"), Exchange).await?;
    same((t.find(here, "x").await?, t.find(there, "y").await?), (y, x), "inodes")?;
    same((t.attr(here).await?.nlink, t.attr(there).await?.nlink), (3, 3), "links")?;
    same(t.fs.parent(t.cx(), x).await?.attr.ino, there, "parent of one")?;
    same(t.fs.parent(t.cx(), y).await?.attr.ino, here, "parent of the other")
}

async fn a_directory_does_not_move_into_itself<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let outer = t.dir("outer").await?;
    let inner = t.dir_in(outer, "inner").await?;
    for dir in [outer, inner] {
        let moved = mv(t, (t.dir, "outer"), (dir, "x"), Replace).await;
        fails(moved, ErrorKind::Invalid, "rename")?;
    }
    same(t.names(t.dir).await?, ["outer"], "names")?;
    same(t.find(outer, "inner").await?, inner, "what is in it")
}

async fn a_directory_does_not_trade_places_with_what_is_in_it<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let outer = t.dir("outer").await?;
    let inner = t.dir_in(outer, "inner").await?;
    t.dir_in(inner, "deep").await?;
    let moved = mv(t, (t.dir, "outer"), (outer, "inner"), Exchange).await;
    fails(moved, ErrorKind::Invalid, "with an entry")?;
    let moved = mv(t, (inner, "deep"), (t.dir, "outer"), Exchange).await;
    fails(moved, ErrorKind::Invalid, "of something deep in it with it")
}

async fn a_directory_does_not_replace_its_ancestor<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let outer = t.dir("outer").await?;
    let inner = t.dir_in(outer, "inner").await?;
    t.dir_in(inner, "deep").await?;
    let moved = mv(t, (inner, "deep"), (t.dir, "outer"), Replace).await;
    fails(moved, ErrorKind::NotEmpty, "replace")
}

async fn two_names_of_one_file_stay<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("a").await?;
    t.fs.link(t.cx(), ino, t.dir, name("b")).await?;
    let before = (t.attr(ino).await?, t.attr(t.dir).await?);
    mv(t, (t.dir, "a"), (t.dir, "b"), Replace).await?;
    same(t.names(t.dir).await?, ["a", "b"], "names")?;
    let after = (t.attr(ino).await?, t.attr(t.dir).await?);
    same((after.0.ctime, after.1.ctime), (before.0.ctime, before.1.ctime), "change times")
}

async fn two_names_of_one_file_trade_places_for_nothing<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("a").await?;
    t.fs.link(t.cx(), ino, t.dir, name("b")).await?;
    let before = (t.attr(ino).await?, t.attr(t.dir).await?);
    mv(t, (t.dir, "a"), (t.dir, "b"), Exchange).await?;
    same(t.names(t.dir).await?, ["a", "b"], "names")?;
    let after = (t.attr(ino).await?, t.attr(t.dir).await?);
    same((after.0.ctime, after.1.ctime), (before.0.ctime, before.1.ctime), "change times")
}

async fn onto_itself_is_nothing<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (file, dir) = (t.file("f").await?, t.dir("d").await?);
    mv(t, (t.dir, "f"), (t.dir, "f"), Replace).await?;
    mv(t, (t.dir, "d"), (t.dir, "d"), Replace).await?;
    same((t.find(t.dir, "f").await?, t.find(t.dir, "d").await?), (file, dir), "inodes")
}

async fn times_of_all_concerned<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let (here, there) = (t.dir("here").await?, t.dir("there").await?);
    let ino = t.file_in(here, "f").await?;
    let before = (t.attr(ino).await?, t.attr(here).await?, t.attr(there).await?);
    let (old, new) = ((here, name("f")), (there, name("f")));
    let (old, new) = t.fs.rename(t.cx(), old, new, Replace).await?;
    let after = (t.attr(ino).await?, t.attr(here).await?, t.attr(there).await?);
    holds(is_after(&t.profile, after.0.ctime, before.0.ctime), "change time of the file")?;
    same(after.0.mtime, before.0.mtime, "modification time of the file")?;
    for (after, before) in [(&after.1, &before.1), (&after.2, &before.2)] {
        holds(is_after(&t.profile, after.mtime, before.mtime), "directory's modification time")?;
        holds(is_after(&t.profile, after.ctime, before.ctime), "directory's change time")?;
    }
    same((old.before_mtime, new.before_mtime), (before.1.mtime, before.2.mtime), "before")?;
    same((old.after.mtime, new.after.mtime), (after.1.mtime, after.2.mtime), "after")
}

async fn a_replaced_open_file_lives_on<V: Vfs>(t: &Fixture<V>) -> Verdict {
    t.file_with("new", b"new").await?;
    let old = t.file_with("old", b"old").await?;
    let handle = t.open(old, OpenFlags::READ).await?;
    mv(t, (t.dir, "new"), (t.dir, "old"), Replace).await?;
    same(t.read_at(At::Open(&handle), 0, 10).await?, b"old", "data of the replaced file")?;
    same(t.fs.getattr(t.cx(), At::Open(&handle)).await?.attr.nlink, 0, "links")?;
    drop(handle);
    t.is_gone(old).await
}

async fn both_ends_must_be_directories<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let file = t.file("f").await?;
    let moved = mv(t, (t.dir, "f"), (file, "x"), Replace).await;
    fails(moved, ErrorKind::NotDirectory, "to")?;
    let moved = mv(t, (file, "x"), (t.dir, "f"), Replace).await;
    fails(moved, ErrorKind::NotDirectory, "from")
}
