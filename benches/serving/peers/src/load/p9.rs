//! The load over 9P2000.L.

mod wire;

use super::content::Content;
use super::{
    ASKED, DEPTH, Done, FILES, LISTINGS, Meter, READ_IN, SMALL, STREAMED, Turn, name, pump,
    somewhere,
};
use wire::{NO_FID, P9, Take, kind};

/// Fids that stay: the root, two directories, and a file.
const ROOT: u32 = 0;
const ONE: u32 = 1;
const SEVERAL: u32 = 2;
const FILE: u32 = 3;
/// A fid that is used for a while.
const BRIEF: u32 = 4;
/// Behind it one for each slot, and then one for each file.
const SLOTS: u32 = 16;
const FILE_FIDS: u32 = 64;
/// Files whose attributes are asked for.
const KNOWN: usize = 64;

const READ_ONLY: u32 = 0;
const READ_WRITE: u32 = 2;
const CREATE: u32 = 0o100;
const DIRECTORY: u32 = 0o200_000;
/// What `stat(2)` wants to know.
const GETATTR_BASIC: u64 = 0x7ff;

/// Runs a group of steps with messages of at most `msize` bytes.
pub(crate) fn run(address: &str, msize: u32, tree: &str, meter: Meter, group: &str) -> Done {
    let mut client = P9::connect(address)?;
    // Whole pages.
    let transfer = client.attach(msize, ROOT, tree)? as usize / 4096 * 4096;
    let mut load = Load { client, meter, transfer };
    match group {
        "streams" => load.streams(),
        "small" => load.small(),
        _ => Err("there is no such group".into()),
    }
}

struct Load {
    client: P9,
    meter: Meter,
    /// Bytes of a long read or write.
    transfer: usize,
}

fn slot_fid(slot: usize) -> u32 {
    SLOTS + slot as u32
}

impl Load {
    fn streams(&mut self) -> Done {
        let mut content = Content::new(1, STREAMED);
        self.client.create_now(ROOT, FILE, "streamed")?;
        let (meter, client, transfer) = (&self.meter, &mut self.client, self.transfer);
        let size = (STREAMED.div_ceil(transfer), STREAMED);
        meter.step("write", size, || write_all(client, &content, transfer))?;
        content.renew(2);
        meter.step("rewrite", size, || write_all(client, &content, transfer))?;
        meter.step("read", size, || read_all(client, &content, transfer))
    }

    fn small(&mut self) -> Done {
        let (meter, client, transfer) = (&self.meter, &mut self.client, self.transfer);
        for (fid, name) in [(ONE, "one"), (SEVERAL, "several")] {
            client.make_dir_now(ROOT, name)?;
            client.walk_now(ROOT, fid, &[name])?;
        }
        meter.step("create_one", (FILES, 0), || create(client, ONE, 1))?;
        meter.step("create", (FILES, 0), || create(client, SEVERAL, DEPTH))?;
        for item in 0..KNOWN {
            client.walk_now(SEVERAL, FILE_FIDS + item as u32, &[&name(item)])?;
        }
        meter.step("getattr_one", (FILES, 0), || get_attr(client, (1, FILES)))?;
        meter.step("getattr", (ASKED, 0), || get_attr(client, (DEPTH, ASKED)))?;
        meter.step("lookup", (ASKED, 0), || lookup(client))?;
        let content = Content::new(3, READ_IN);
        meter.step("small_write", (FILES, FILES * SMALL), || small_writes(client, &content))?;
        client.create_now(ROOT, FILE, "read-in")?;
        write_all(client, &content, transfer)?;
        meter.step("small_read", (ASKED, ASKED * SMALL), || small_reads(client, &content))?;
        meter.step("list", (LISTINGS * FILES, 0), || {
            (0..LISTINGS).try_for_each(|_| list(client, transfer))
        })?;
        meter.step("remove", (FILES, 0), || remove(client))
    }
}

fn write_all(client: &mut P9, content: &Content, transfer: usize) -> Done {
    pump(client, DEPTH, content.len().div_ceil(transfer), |client, turn| {
        let offset = turn.item * transfer;
        let data = content.at(offset, transfer);
        if turn.stage == 0 {
            client.write(turn.slot, FILE, offset as u64, data)?;
            return Ok(true);
        }
        expect_written(turn.reply, data.len())
    })?;
    client.begin(0, kind::FSYNC).u32(FILE).u32(0);
    client.ask().map(drop)
}

/// All of a write has to be taken. Never anything more to do.
fn expect_written(reply: &[u8], len: usize) -> Done<bool> {
    match Take::of(reply, kind::WRITE)?.u32()? as usize {
        count if count == len => Ok(false),
        _ => Err("a write was short".into()),
    }
}

fn read_all(client: &mut P9, content: &Content, transfer: usize) -> Done {
    pump(client, DEPTH, content.len().div_ceil(transfer), |client, turn| {
        read(client, &turn, content, (turn.item * transfer, transfer))
    })
}

/// One read of what was written.
fn read(
    client: &mut P9,
    turn: &Turn<'_>,
    content: &Content,
    (offset, len): (usize, usize),
) -> Done<bool> {
    if turn.stage == 0 {
        client.begin(turn.slot, kind::READ).u32(FILE).u64(offset as u64).u32(len as u32).end();
        return Ok(true);
    }
    let mut reply = Take::of(turn.reply, kind::READ)?;
    let count = reply.u32()? as usize;
    if !content.matches(offset, len, reply.bytes(count)?) {
        return Err("what was read is not what was written".into());
    }
    Ok(false)
}

/// As Linux does: another fid for the directory, which becomes the file's.
fn create(client: &mut P9, dir: u32, depth: usize) -> Done {
    pump(client, depth, FILES, |client, Turn { slot, item, stage, reply }| {
        let fid = slot_fid(slot);
        match stage {
            0 => client.put_walk(slot, dir, fid, &[]),
            1 => {
                Take::of(reply, kind::WALK)?;
                client.put_create(slot, fid, &name(item));
            }
            2 => {
                Take::of(reply, kind::LCREATE)?;
                client.begin(slot, kind::CLUNK).u32(fid).end();
            }
            _ => return Take::of(reply, kind::CLUNK).map(|_| false),
        }
        Ok(true)
    })
}

fn get_attr(client: &mut P9, (depth, count): (usize, usize)) -> Done {
    pump(client, depth, count, |client, turn| {
        if turn.stage == 0 {
            let fid = FILE_FIDS + (turn.item % KNOWN) as u32;
            client.begin(turn.slot, kind::GETATTR).u32(fid).u64(GETATTR_BASIC).end();
            return Ok(true);
        }
        Take::of(turn.reply, kind::GETATTR)?.bytes(153)?;
        Ok(false)
    })
}

/// A walk to a name, and letting go of it.
fn lookup(client: &mut P9) -> Done {
    pump(client, DEPTH, ASKED, |client, Turn { slot, item, stage, reply }| {
        let fid = slot_fid(slot);
        match stage {
            0 => client.put_walk(slot, SEVERAL, fid, &[&name(item % FILES)]),
            1 => {
                expect_walked(reply, 1)?;
                client.begin(slot, kind::CLUNK).u32(fid).end();
            }
            _ => return Take::of(reply, kind::CLUNK).map(|_| false),
        }
        Ok(true)
    })
}

fn expect_walked(reply: &[u8], names: usize) -> Done {
    match usize::from(Take::of(reply, kind::WALK)?.u16()?) {
        count if count == names => Ok(()),
        _ => Err("a name is not there".into()),
    }
}

/// Walk, open, write, fsync, clunk.
fn small_writes(client: &mut P9, content: &Content) -> Done {
    pump(client, DEPTH, FILES, |client, Turn { slot, item, stage, reply }| {
        let fid = slot_fid(slot);
        match stage {
            0 => client.put_walk(slot, SEVERAL, fid, &[&name(item)]),
            1 => {
                expect_walked(reply, 1)?;
                client.begin(slot, kind::LOPEN).u32(fid).u32(READ_WRITE).end();
            }
            2 => {
                Take::of(reply, kind::LOPEN)?;
                client.write(slot, fid, 0, content.at(item * SMALL % READ_IN, SMALL))?;
            }
            3 => {
                expect_written(reply, SMALL)?;
                client.begin(slot, kind::FSYNC).u32(fid).u32(0).end();
            }
            4 => {
                Take::of(reply, kind::FSYNC)?;
                client.begin(slot, kind::CLUNK).u32(fid).end();
            }
            _ => return Take::of(reply, kind::CLUNK).map(|_| false),
        }
        Ok(true)
    })
}

fn small_reads(client: &mut P9, content: &Content) -> Done {
    pump(client, DEPTH, ASKED, |client, turn| {
        read(client, &turn, content, (somewhere(turn.item), SMALL))
    })
}

/// Lists a directory, one page after another.
fn list(client: &mut P9, transfer: usize) -> Done {
    client.walk_now(SEVERAL, BRIEF, &[])?;
    client.begin(0, kind::LOPEN).u32(BRIEF).u32(READ_ONLY | DIRECTORY);
    client.ask()?;
    let (mut cookie, mut found) = (0, 0);
    loop {
        client.begin(0, kind::READDIR).u32(BRIEF).u64(cookie).u32(transfer as u32);
        let reply = client.ask()?;
        let mut page = Take::of(&reply, kind::READDIR)?;
        if page.u32()? == 0 {
            break;
        }
        while !page.is_empty() {
            page.bytes(13)?;
            cookie = page.u64()?;
            page.bytes(1)?;
            let len = page.u16()?.into();
            found += usize::from(page.bytes(len)?.starts_with(b"file-"));
        }
    }
    client.begin(0, kind::CLUNK).u32(BRIEF);
    client.ask()?;
    if found == FILES { Ok(()) } else { Err(format!("{found} names are listed").into()) }
}

/// Walk, remove: `Tunlinkat` is not known to every server.
fn remove(client: &mut P9) -> Done {
    pump(client, DEPTH, FILES, |client, Turn { slot, item, stage, reply }| {
        let fid = slot_fid(slot);
        match stage {
            0 => client.put_walk(slot, SEVERAL, fid, &[&name(item)]),
            1 => {
                expect_walked(reply, 1)?;
                client.begin(slot, kind::REMOVE).u32(fid).end();
            }
            _ => return Take::of(reply, kind::REMOVE).map(|_| false),
        }
        Ok(true)
    })
}

impl P9 {
    /// Agrees on a version and attaches root to a tree; the longest read or write.
    fn attach(&mut self, msize: u32, fid: u32, tree: &str) -> Done<u32> {
        let msize = self.version(msize)?;
        self.begin(0, kind::ATTACH).u32(fid).u32(NO_FID).string("root").string(tree).u32(0);
        self.ask()?;
        Ok(msize - wire::IO_OVERHEAD)
    }

    fn put_walk(&mut self, slot: usize, fid: u32, new_fid: u32, names: &[&str]) {
        self.begin(slot, kind::WALK).u32(fid).u32(new_fid).u16(names.len() as u16);
        names.iter().fold(&mut *self, |message, name| message.string(name)).end();
    }

    fn walk_now(&mut self, fid: u32, new_fid: u32, names: &[&str]) -> Done {
        self.put_walk(0, fid, new_fid, names);
        let reply = self.answer()?;
        expect_walked(&reply, names.len())
    }

    fn put_create(&mut self, slot: usize, fid: u32, name: &str) {
        let message = self.begin(slot, kind::LCREATE).u32(fid).string(name);
        message.u32(READ_WRITE | CREATE).u32(0o644).u32(0).end();
    }

    /// A new file, open.
    fn create_now(&mut self, dir: u32, fid: u32, name: &str) -> Done {
        self.walk_now(dir, fid, &[])?;
        self.put_create(0, fid, name);
        Take::of(&self.answer()?, kind::LCREATE).map(drop)
    }

    fn make_dir_now(&mut self, dir: u32, name: &str) -> Done {
        self.begin(0, kind::MKDIR).u32(dir).string(name).u32(0o755).u32(0);
        self.ask().map(drop)
    }
}
