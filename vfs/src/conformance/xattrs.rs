//! Extended attributes.

use super::fixture::{Fixture, Verdict, fails, holds, is_after, name, same, with_mode, with_size};
use crate::rules::CAPABILITY;
use crate::{
    Allocate, At, Cred, ErrorKind, Ino, Make, OpenFlags, RenameMode, Result, SetAttr, Vfs,
    XattrMode,
};
use bytes::Bytes;

super::list! { "xattrs":
    values_are_kept_replaced_and_removed,
    names_are_listed,
    create_and_replace_are_conditions,
    an_attribute_that_is_not_there,
    values_may_be_empty_and_binary,
    sizes_have_limits,
    namespaces_have_rules,
    trusted_is_roots_alone if |profile| profile.enforces_dac,
    user_attributes_follow_permissions if |profile| profile.enforces_dac,
    links_have_no_user_attributes,
    attributes_belong_to_the_inode,
    setting_changes_the_change_time,
    capabilities_go_with_every_change,
}

async fn set<V: Vfs>(t: &Fixture<V>, ino: Ino, name: &str, value: &[u8]) -> Result<()> {
    set_if(t, ino, name, value, XattrMode::Either).await
}

async fn set_if<V: Vfs>(
    t: &Fixture<V>,
    ino: Ino,
    name: &str,
    value: &[u8],
    mode: XattrMode,
) -> Result<()> {
    let value = Some(Bytes::copy_from_slice(value));
    t.fs.set_xattr(t.cx(), ino, name.as_bytes(), value, mode).await
}

async fn remove<V: Vfs>(t: &Fixture<V>, ino: Ino, name: &str) -> Result<()> {
    t.fs.set_xattr(t.cx(), ino, name.as_bytes(), None, XattrMode::Either).await
}

async fn get<V: Vfs>(t: &Fixture<V>, ino: Ino, name: &str) -> Result<Vec<u8>> {
    Ok(t.fs.xattr(t.cx(), ino, name.as_bytes()).await?.to_vec())
}

async fn listed<V: Vfs>(t: &Fixture<V>, ino: Ino) -> Result<Vec<Bytes>> {
    let mut names = t.fs.xattrs(t.cx(), ino).await?;
    names.sort_unstable();
    Ok(names)
}

async fn values_are_kept_replaced_and_removed<V: Vfs>(t: &Fixture<V>) -> Verdict {
    for ino in [t.file("f").await?, t.dir("d").await?] {
        set(t, ino, "user.a", b"one").await?;
        same(get(t, ino, "user.a").await?, b"one", "value")?;
        set(t, ino, "user.a", b"another").await?;
        same(get(t, ino, "user.a").await?, b"another", "value replaced")?;
        remove(t, ino, "user.a").await?;
        fails(get(t, ino, "user.a").await, ErrorKind::NoData, "value removed")?;
    }
    Ok(())
}

async fn names_are_listed<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    holds(listed(t, ino).await?.is_empty(), "none to begin with")?;
    for name in ["user.b", "user.a", "user.\u{e9}", "security.x"] {
        set(t, ino, name, name.as_bytes()).await?;
    }
    same(listed(t, ino).await?, ["security.x", "user.a", "user.b", "user.\u{e9}"], "names")?;
    remove(t, ino, "user.b").await?;
    same(listed(t, ino).await?, ["security.x", "user.a", "user.\u{e9}"], "names left")
}

async fn create_and_replace_are_conditions<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let replaced = set_if(t, ino, "user.a", b"x", XattrMode::Replace).await;
    fails(replaced, ErrorKind::NoData, "replacing nothing")?;
    set_if(t, ino, "user.a", b"one", XattrMode::Create).await?;
    let created = set_if(t, ino, "user.a", b"x", XattrMode::Create).await;
    fails(created, ErrorKind::Exists, "creating again")?;
    same(get(t, ino, "user.a").await?, b"one", "value")?;
    set_if(t, ino, "user.a", b"two", XattrMode::Replace).await?;
    same(get(t, ino, "user.a").await?, b"two", "value replaced")
}

async fn an_attribute_that_is_not_there<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    fails(get(t, ino, "user.a").await, ErrorKind::NoData, "read")?;
    fails(remove(t, ino, "user.a").await, ErrorKind::NoData, "remove")
}

async fn values_may_be_empty_and_binary<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let bytes: Vec<u8> = (0..=255).collect();
    for value in [&b""[..], b"\0", &bytes] {
        set(t, ino, "user.a", value).await?;
        same(get(t, ino, "user.a").await?, value, "value")?;
    }
    Ok(())
}

async fn sizes_have_limits<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let too_long = set(t, ino, "user.a", &vec![0; 65_537]).await;
    fails(too_long, ErrorKind::Range, "a value of 65537 bytes")?;
    // Names and values of one inode come to 64 KiB at most.
    set(t, ino, "user.a", &vec![1; 40_000]).await?;
    let too_many = set(t, ino, "user.b", &vec![2; 40_000]).await;
    fails(too_many, ErrorKind::NoSpace, "80000 bytes altogether")?;
    same(get(t, ino, "user.a").await?.len(), 40_000, "the one that fits")?;
    set(t, ino, "user.a", &vec![3; 60_000]).await?;
    let longest = format!("user.{}", "n".repeat(250));
    set(t, ino, &longest, b"v").await?;
    same(get(t, ino, &longest).await?, b"v", "a name of 255 bytes")?;
    let too_long = set(t, ino, &format!("{longest}n"), b"v").await;
    fails(too_long, ErrorKind::Range, "a name of 256 bytes")
}

async fn namespaces_have_rules<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    for name in ["user.x", "trusted.x", "security.x"] {
        set(t, ino, name, b"v").await?;
        same(get(t, ino, name).await?, b"v", name)?;
    }
    for name in ["x", "other.x", "com.apple.quarantine"] {
        fails(set(t, ino, name, b"v").await, ErrorKind::NotSupported, name)?;
    }
    fails(set(t, ino, "user.", b"v").await, ErrorKind::Invalid, "only a namespace")
}

async fn trusted_is_roots_alone<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    set(t, ino, "trusted.x", b"v").await?;
    t.give(ino, 1000, 1000, 0o666).await?;
    let user = Cred::user(1000, 1000);
    let cx = t.as_user(&user);
    fails(t.fs.xattr(cx, ino, b"trusted.x").await, ErrorKind::NoData, "read by the owner")?;
    let value = Some(Bytes::from_static(b"w"));
    let written = t.fs.set_xattr(cx, ino, b"trusted.x", value, XattrMode::Either).await;
    fails(written, ErrorKind::Permission, "written by the owner")?;
    holds(t.fs.xattrs(cx, ino).await?.is_empty(), "listed for the owner")?;
    same(listed(t, ino).await?.len(), 1, "listed for root")
}

async fn user_attributes_follow_permissions<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    set(t, ino, "user.a", b"v").await?;
    let user = Cred::user(1000, 1000);
    let cx = t.as_user(&user);
    t.set(ino, &with_mode(0o604)).await?;
    same(&t.fs.xattr(cx, ino, b"user.a").await?[..], b"v", "with read permission")?;
    let value = Some(Bytes::from_static(b"w"));
    let written = t.fs.set_xattr(cx, ino, b"user.a", value, XattrMode::Either).await;
    fails(written, ErrorKind::Access, "written without permission")?;
    t.set(ino, &with_mode(0o600)).await?;
    fails(t.fs.xattr(cx, ino, b"user.a").await, ErrorKind::Access, "read without permission")
}

async fn links_have_no_user_attributes<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let link = t.made(t.dir, "l", Make::Symlink { target: b"t" }, 0o777).await?;
    fails(set(t, link, "user.a", b"v").await, ErrorKind::Permission, "user")?;
    set(t, link, "trusted.a", b"v").await?;
    same(get(t, link, "trusted.a").await?, b"v", "trusted")
}

async fn attributes_belong_to_the_inode<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    set(t, ino, "user.a", b"v").await?;
    t.fs.link(t.cx(), ino, t.dir, name("g")).await?;
    let to = (t.dir, name("h"));
    t.fs.rename(t.cx(), (t.dir, name("f")), to, RenameMode::Replace).await?;
    for text in ["g", "h"] {
        let found = t.find(t.dir, text).await?;
        same(get(t, found, "user.a").await?, b"v", text)?;
    }
    let fresh = t.file("f").await?;
    holds(listed(t, fresh).await?.is_empty(), "a new file has none")
}

async fn setting_changes_the_change_time<V: Vfs>(t: &Fixture<V>) -> Verdict {
    let ino = t.file("f").await?;
    let first = t.attr(ino).await?;
    set(t, ino, "user.a", b"v").await?;
    let second = t.attr(ino).await?;
    remove(t, ino, "user.a").await?;
    let third = t.attr(ino).await?;
    holds(is_after(&t.profile, second.ctime, first.ctime), "by setting")?;
    holds(is_after(&t.profile, third.ctime, second.ctime), "by removing")?;
    same(third.mtime, first.mtime, "modification time")
}

async fn capabilities_go_with_every_change<V: Vfs>(t: &Fixture<V>) -> Verdict {
    // Revision 2, with one permitted capability: what kernels accept.
    let mut value = [0; 20];
    (value[3], value[5]) = (2, 4);
    let capability = std::str::from_utf8(CAPABILITY).unwrap_or_default();
    let from = t.file_with("from", b"data").await?;
    let owner = SetAttr { uid: Some(1000), ..SetAttr::default() };
    for change in ["write", "cut", "extension", "open", "allocation", "copy", "owner"] {
        let ino = t.file_with(change, b"some data").await?;
        set(t, ino, capability, &value).await?;
        t.set(ino, &with_mode(0o755)).await?;
        t.read(ino, 0, 10).await?;
        same(get(t, ino, capability).await?, value, "what neither mode nor reading changes")?;
        match change {
            "write" => t.write(ino, 3, b"x").await.map(drop)?,
            "cut" => t.set(ino, &with_size(2)).await.map(drop)?,
            "extension" => t.set(ino, &with_size(100)).await.map(drop)?,
            "open" => {
                let flags = OpenFlags { truncate: true, ..OpenFlags::READ_WRITE };
                t.open(ino, flags).await.map(drop)?;
            }
            "allocation" => {
                let what = Allocate::Reserve { keep_size: false };
                t.fs.allocate(t.cx(), At::Ino(ino), 0, 100, what).await?;
            }
            "copy" => {
                t.fs.copy(t.cx(), (At::Ino(from), 0), (At::Ino(ino), 0), 4).await?;
            }
            _ => t.set(ino, &owner).await.map(drop)?,
        }
        fails(get(t, ino, capability).await, ErrorKind::NoData, change)?;
    }
    let dir = t.dir("dir").await?;
    set(t, dir, "user.a", b"v").await?;
    t.set(dir, &owner).await?;
    same(get(t, dir, "user.a").await?, b"v", "another attribute")
}
