//! Names are bytes.

use super::fixture::{Fixture, Verdict, fails, same, with_mode};
use crate::{ErrorKind, IfExists, Name, Vfs};

super::list! { "names":
    any_bytes_are_a_name,
    names_that_look_alike_are_different,
    a_name_of_255_bytes_is_kept,
    illegal_names_do_not_parse,
}

async fn any_bytes_are_a_name<V: Vfs>(t: &Fixture<V>) -> Verdict {
    // Every byte but NUL and the slash, a few to a name.
    let bytes: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    for chunk in bytes.chunks(10) {
        let name = Name::new(chunk)?;
        let attr = with_mode(0o644);
        let made = t.fs.create(t.cx(), t.dir, name, &attr, IfExists::Fail, None).await?;
        let found = t.fs.lookup(t.cx(), t.dir, name).await?;
        same(found.attr.ino, made.entry.attr.ino, "inode")?;
    }
    let mut listed: Vec<u8> = Vec::new();
    for entry in t.list(t.dir, 3).await? {
        listed.extend_from_slice(&entry.name);
    }
    listed.sort_unstable();
    same(listed, bytes, "bytes of all names")
}

async fn names_that_look_alike_are_different<V: Vfs>(t: &Fixture<V>) -> Verdict {
    // Precomposed and decomposed, upper and lower case, with a space at the end.
    for name in ["\u{e9}", "e\u{301}", "a", "A", "a "] {
        t.file(name).await?;
    }
    same(t.list(t.dir, 100).await?.len(), 5, "names")
}

async fn a_name_of_255_bytes_is_kept<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let long = "n".repeat(255);
    let ino = t.file(&long).await?;
    same(t.find(t.dir, &long).await?, ino, "inode")?;
    fails(t.find(t.dir, &long[1..]).await, ErrorKind::NotFound, "one byte less")?;
    same(t.names(t.dir).await?, [long], "names")?;
    same(t.fs.limits().name_max, 255, "advertised limit")
}

async fn illegal_names_do_not_parse<V: Vfs>(_: &Fixture<V>) -> Verdict {
    let illegal: [&[u8]; 5] = [b"", b".", b"..", b"a/b", b"a\0b"];
    for name in illegal {
        fails(Name::new(name), ErrorKind::Invalid, "name")?;
    }
    fails(Name::new(&[b'n'; 256]), ErrorKind::NameTooLong, "256 bytes")
}
