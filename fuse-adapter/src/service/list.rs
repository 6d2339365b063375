//! Listings.

use super::{Asking, Service};
use crate::core::{Known, Listing, Sink};
use crate::dispatch::{Op, run};
use crate::wire::{Arguments, Body, Malformed, Opcode, listed_len, listed_plus_len};
use std::sync::Arc;
use vfs::Vfs;

/// Most bytes of one listing, whatever the kernel offers room for.
const LEN_MAX: u32 = 1 << 20;

impl<V: Vfs> Service<V> {
    pub(super) fn list(&self, asking: Asking, mut rest: Arguments<'_>) -> Result<(), Malformed> {
        let (handle, after, room) = (rest.u64()?, rest.u64()?, rest.u32()?.min(LEN_MAX) as usize);
        let body = Body::with_capacity(room);
        match asking.opcode {
            Opcode::ReadDir => self.fill(asking, handle, after, Plain { body, room }),
            _ => self.fill(asking, handle, after, Plus { body, room }),
        }
        Ok(())
    }

    fn fill<S: Sink + AsRef<Body> + 'static>(
        &self,
        Asking { opcode, ino, who, reply }: Asking,
        handle: u64,
        after: u64,
        mut sink: S,
    ) {
        let core = Arc::clone(&self.core);
        run(&self.runtime, async move {
            let listed = core.list(&who, ino, handle, after, &mut sink).await;
            let body = sink.as_ref();
            match listed {
                // The next request meets the error again; what was listed is good.
                Err(error) if body.len() == 0 => reply.refuse(Op { opcode, ino }.report(&error)),
                _ => reply.body(body),
            }
        });
    }
}

/// A listing of names.
struct Plain {
    body: Body,
    room: usize,
}

/// A listing of names with attributes.
struct Plus {
    body: Body,
    room: usize,
}

impl AsRef<Body> for Plain {
    fn as_ref(&self) -> &Body {
        &self.body
    }
}

impl AsRef<Body> for Plus {
    fn as_ref(&self) -> &Body {
        &self.body
    }
}

impl Sink for Plain {
    const WITH_ATTR: bool = false;

    fn is_full(&mut self, entry: &Listing<'_>) -> bool {
        if self.body.len() + listed_len(entry.name) > self.room {
            return true;
        }
        self.body.push_listed(entry.ino, entry.cookie, entry.kind, entry.name);
        false
    }
}

impl Sink for Plus {
    const WITH_ATTR: bool = true;

    fn is_full(&mut self, entry: &Listing<'_>) -> bool {
        // The core gives attributes to a sink that asks for them.
        let Some(Known { attr, ttl }) = &entry.known else { return false };
        if self.body.len() + listed_plus_len(entry.name) > self.room {
            return true;
        }
        self.body.push_listed_plus((attr, *ttl), entry.cookie, entry.name);
        false
    }
}
