//! The load over NFSv3 (RFC 1813).

mod wire;

use super::content::Content;
use super::{
    ASKED, DEPTH, Done, FILES, LISTINGS, Meter, READ_IN, SMALL, STREAMED, Turn, name, pump,
    somewhere,
};
use wire::{In, Nfs, procedure};

const UNSTABLE: u32 = 0;
/// The largest transfer that is asked for; servers may want less.
const TRANSFER_MAX: usize = 1 << 20;
/// Bytes of a listing asked for at once, names alone and with all else.
const LISTED: (u32, u32) = (8 << 10, 32 << 10);

/// Runs a group of steps.
pub(crate) fn run(
    address: &str,
    mount_address: &str,
    path: &str,
    meter: Meter,
    group: &str,
) -> Done {
    let root = Nfs::connect(mount_address)?.mount(path)?;
    let mut client = Nfs::connect(address)?;
    let (read_max, write_max) = client.limits(&root)?;
    let transfer = |max: u32| (max as usize).min(TRANSFER_MAX);
    let mut load =
        Load { client, root, meter, read: transfer(read_max), write: transfer(write_max) };
    match group {
        "streams" => load.streams(),
        "small" => load.small(),
        _ => Err("there is no such group".into()),
    }
}

struct Load {
    client: Nfs,
    root: Vec<u8>,
    meter: Meter,
    /// Bytes of a long read.
    read: usize,
    /// Bytes of a long write.
    write: usize,
}

/// What a write says of its data: whether a `COMMIT` is due.
fn is_unstable(reply: &[u8], len: usize) -> Done<bool> {
    let mut reply = In::of(reply)?;
    reply.wcc()?;
    if reply.u32()? as usize != len {
        return Err("a write was short".into());
    }
    Ok(reply.u32()? == UNSTABLE)
}

impl Load {
    fn streams(&mut self) -> Done {
        let mut content = Content::new(1, STREAMED);
        let file = self.client.create(&self.root, "streamed")?;
        let (meter, client) = (&self.meter, &mut self.client);
        let size = (STREAMED.div_ceil(self.write), STREAMED);
        meter.step("write", size, || write_all(client, &file, &content, self.write))?;
        content.renew(2);
        meter.step("rewrite", size, || write_all(client, &file, &content, self.write))?;
        let size = (STREAMED.div_ceil(self.read), STREAMED);
        meter.step("read", size, || read_all(client, &file, &content, self.read))
    }

    fn small(&mut self) -> Done {
        let one = self.client.make_dir(&self.root, "one")?;
        let several = self.client.make_dir(&self.root, "several")?;
        let (meter, client) = (&self.meter, &mut self.client);
        let mut files = vec![Vec::new(); FILES];
        meter.step("create_one", (FILES, 0), || create(client, &one, 1, &mut files))?;
        meter.step("create", (FILES, 0), || create(client, &several, DEPTH, &mut files))?;
        meter.step("getattr_one", (FILES, 0), || get_attr(client, &files, (1, FILES)))?;
        meter.step("getattr", (ASKED, 0), || get_attr(client, &files, (DEPTH, ASKED)))?;
        meter.step("lookup", (ASKED, 0), || lookup(client, &several, &files))?;
        let content = Content::new(3, READ_IN);
        meter.step("small_write", (FILES, FILES * SMALL), || {
            small_writes(client, &files, &content)
        })?;
        let file = client.create(&self.root, "read-in")?;
        write_all(client, &file, &content, self.write)?;
        meter
            .step("small_read", (ASKED, ASKED * SMALL), || small_reads(client, &file, &content))?;
        meter.step("list", (LISTINGS * FILES, 0), || {
            (0..LISTINGS).try_for_each(|_| list(client, &several))
        })?;
        meter.step("remove", (FILES, 0), || remove(client, &several))
    }
}

fn write_all(client: &mut Nfs, file: &[u8], content: &Content, transfer: usize) -> Done {
    let mut is_due = false;
    pump(client, DEPTH, content.len().div_ceil(transfer), |client, turn| {
        let offset = turn.item * transfer;
        let data = content.at(offset, transfer);
        if turn.stage == 0 {
            client.write(turn.slot, file, offset as u64, data)?;
            return Ok(true);
        }
        is_due |= is_unstable(turn.reply, data.len())?;
        Ok(false)
    })?;
    if is_due { client.commit_now(file) } else { Ok(()) }
}

fn read_all(client: &mut Nfs, file: &[u8], content: &Content, transfer: usize) -> Done {
    pump(client, DEPTH, STREAMED.div_ceil(transfer), |client, turn| {
        read(client, &turn, file, content, (turn.item * transfer, transfer))
    })
}

/// One read of what was written.
fn read(
    client: &mut Nfs,
    turn: &Turn<'_>,
    file: &[u8],
    content: &Content,
    (offset, len): (usize, usize),
) -> Done<bool> {
    if turn.stage == 0 {
        client.begin(turn.slot, procedure::READ).opaque(file).u64(offset as u64).u32(len as u32);
        client.end();
        return Ok(true);
    }
    let mut reply = In::of(turn.reply)?;
    reply.attributes()?;
    reply.bytes(8)?;
    if !content.matches(offset, len, reply.opaque()?) {
        return Err("what was read is not what was written".into());
    }
    Ok(false)
}

fn create(client: &mut Nfs, dir: &[u8], depth: usize, files: &mut [Vec<u8>]) -> Done {
    pump(client, depth, FILES, |client, turn| {
        if turn.stage == 0 {
            client.put_create(turn.slot, dir, &name(turn.item));
            return Ok(true);
        }
        files[turn.item] = wire::created(turn.reply)?;
        Ok(false)
    })
}

fn get_attr(client: &mut Nfs, files: &[Vec<u8>], (depth, count): (usize, usize)) -> Done {
    pump(client, depth, count, |client, turn| {
        if turn.stage == 0 {
            let file = &files[turn.item % files.len()];
            client.begin(turn.slot, procedure::GETATTR).opaque(file);
            client.end();
            return Ok(true);
        }
        In::of(turn.reply)?.bytes(84)?;
        Ok(false)
    })
}

fn lookup(client: &mut Nfs, dir: &[u8], files: &[Vec<u8>]) -> Done {
    pump(client, DEPTH, ASKED, |client, turn| {
        let item = turn.item % files.len();
        if turn.stage == 0 {
            client.put_name(turn.slot, procedure::LOOKUP, dir, &name(item));
            client.end();
            return Ok(true);
        }
        if In::of(turn.reply)?.opaque()? != files[item] {
            return Err("the handle is another".into());
        }
        Ok(false)
    })
}

fn small_writes(client: &mut Nfs, files: &[Vec<u8>], content: &Content) -> Done {
    pump(client, DEPTH, files.len(), |client, turn| {
        let file = &files[turn.item];
        match turn.stage {
            0 => {
                client.write(turn.slot, file, 0, content.at(turn.item * SMALL % READ_IN, SMALL))?
            }
            1 if is_unstable(turn.reply, SMALL)? => client.put_commit(turn.slot, file),
            1 => return Ok(false),
            _ => {
                In::of(turn.reply)?;
                return Ok(false);
            }
        }
        Ok(true)
    })
}

fn small_reads(client: &mut Nfs, file: &[u8], content: &Content) -> Done {
    pump(client, DEPTH, ASKED, |client, turn| {
        read(client, &turn, file, content, (somewhere(turn.item), SMALL))
    })
}

/// Lists a directory with attributes and handles, one page after another.
fn list(client: &mut Nfs, dir: &[u8]) -> Done {
    let (mut cookie, mut verifier, mut found) = (0, [0; 8], 0);
    let (mut is_over, mut record) = (false, Vec::new());
    while !is_over {
        client.begin(0, procedure::READDIRPLUS).opaque(dir).u64(cookie).bytes(&verifier);
        client.u32(LISTED.0).u32(LISTED.1);
        let mut reply = In::of(client.ask(&mut record)?)?;
        reply.attributes()?;
        verifier.copy_from_slice(reply.bytes(8)?);
        let before = cookie;
        while reply.u32()? == 1 {
            reply.bytes(8)?;
            found += usize::from(reply.opaque()?.starts_with(b"file-"));
            cookie = reply.u64()?;
            reply.attributes()?;
            if reply.u32()? == 1 {
                reply.opaque()?;
            }
        }
        is_over = reply.u32()? == 1;
        if cookie == before && !is_over {
            return Err("a listing does not go on".into());
        }
    }
    if found == FILES { Ok(()) } else { Err(format!("{found} names are listed").into()) }
}

fn remove(client: &mut Nfs, dir: &[u8]) -> Done {
    pump(client, DEPTH, FILES, |client, turn| {
        if turn.stage == 0 {
            client.put_name(turn.slot, procedure::REMOVE, dir, &name(turn.item));
            client.end();
            return Ok(true);
        }
        In::of(turn.reply)?;
        Ok(false)
    })
}
