//! Heads: where each machine's log ends, so that a reader who knows nothing
//! notices when the end is missing.
//!
//! A machine's heads are numbered. The newest is kept, those with a multiple of
//! [`KEPT_LATELY`] among the last [`KEPT_FOR_EVER`], and of the rest those with a
//! multiple of that: enough to find the newest by asking for a few dozen names.

use super::follow::Source;
use super::publish::Publisher;
use super::{Error, Inner, Result};
use crate::crypto::{Context, SignatureKind, envelope, names};
use crate::ids::{Hlc, MachineId};
use crate::log::object_name;
use crate::log::record::Head;
use crate::meta::singles::Single;
use crate::store::PutMode;

const KEPT_FOR_EVER: u64 = 1024;
const KEPT_LATELY: u64 = 32;

impl Inner {
    /// Tells where this machine's log ends now.
    pub(super) async fn send_head(&self, publisher: &mut Publisher) -> Result<()> {
        let keyring = self.blocks.keyring();
        let (keys, own) = (keyring.current(), publisher.own);
        let (machine, counter) = (publisher.identity.machine, own.next_head);
        let head = Head {
            namespace: keyring.namespace,
            machine,
            counter,
            incarnation: own.incarnation,
            next_seq: own.next_seq,
            last: own.last,
            hlc: Hlc(self.state.lock().hlc.0),
            checkpoint: own.checkpoint,
        };
        let mut signed = head.encode();
        publisher.identity.signing.sign_onto(SignatureKind::Head, &mut signed);
        let context = Context::head(keyring.namespace, machine, counter);
        let sealed = envelope::seal(&self.env, keys, &context, &signed)?;
        let name = object_name(&names::head(keys, machine, counter));
        self.store.put(&name, sealed.into(), PutMode::Overwrite).await?;
        publisher.own.next_head += 1;
        publisher.own.told_seq = own.next_seq;
        let own = publisher.own;
        self.db.write(|txn| own.save(txn))?;
        for old in obsolete(counter) {
            self.store.delete(&object_name(&names::head(keys, machine, old))).await?;
        }
        Ok(())
    }
}

/// Heads that `newest` makes obsolete.
fn obsolete(newest: u64) -> Vec<u64> {
    let mut old = Vec::new();
    if let Some(previous) = newest.checked_sub(1)
        && !previous.is_multiple_of(KEPT_LATELY)
    {
        old.push(previous);
    }
    if newest > 0 && newest.is_multiple_of(KEPT_FOR_EVER) {
        let window = newest - KEPT_FOR_EVER..newest;
        old.extend(window.step_by(KEPT_LATELY as usize).skip(1));
    }
    old
}

impl Source<'_> {
    /// The newest head of a machine that the store shows.
    pub(super) async fn newest_head(&self, machine: MachineId) -> Result<Option<Head>> {
        // The last multiple of 1024 that is there, by halves.
        let (mut there, mut step) = (0, 1);
        if !self.has_head(machine, 0).await? {
            return Ok(None);
        }
        while self.has_head(machine, (there + step) * KEPT_FOR_EVER).await? {
            there += step;
            step *= 2;
        }
        while step > 1 {
            step /= 2;
            if self.has_head(machine, (there + step) * KEPT_FOR_EVER).await? {
                there += step;
            }
        }
        let mut newest = there * KEPT_FOR_EVER;
        while self.has_head(machine, newest + KEPT_LATELY).await? {
            newest += KEPT_LATELY;
        }
        for counter in (newest + 1..newest + KEPT_LATELY).rev() {
            if self.has_head(machine, counter).await? {
                newest = counter;
                break;
            }
        }
        self.head(machine, newest).await.map(Some)
    }

    async fn has_head(&self, machine: MachineId, counter: u64) -> Result<bool> {
        self.is_there(|keys| names::head(keys, machine, counter)).await
    }

    async fn head(&self, machine: MachineId, counter: u64) -> Result<Head> {
        let context = Context::head(self.keyring.namespace, machine, counter);
        let refused = || Error::Unauthorised { machine };
        let plain = self
            .find(&context, |keys| names::head(keys, machine, counter))
            .await?
            .ok_or(Error::Withheld { machine, seq: 0 })?;
        let member = self.chain.newest().member(machine).ok_or_else(refused)?;
        let body =
            member.signing_key.verify_signed(SignatureKind::Head, &plain).map_err(|_| refused())?;
        let head = Head::decode(body)?;
        let is_asked_for = (head.namespace, head.machine, head.counter)
            == (self.keyring.namespace, machine, counter);
        if is_asked_for { Ok(head) } else { Err(refused()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The search of [`Source::newest_head`] over a set of numbers.
    fn newest_of(there: &BTreeSet<u64>) -> u64 {
        let windows = there.iter().filter(|n| n.is_multiple_of(KEPT_FOR_EVER)).max().unwrap();
        let mut newest = *windows;
        while there.contains(&(newest + KEPT_LATELY)) {
            newest += KEPT_LATELY;
        }
        (newest..newest + KEPT_LATELY).rev().find(|n| there.contains(n)).unwrap()
    }

    #[test]
    fn few_heads_are_kept_and_the_newest_is_found() {
        let mut there = BTreeSet::new();
        for counter in 0..5000 {
            there.insert(counter);
            for old in obsolete(counter) {
                there.remove(&old);
            }
            assert_eq!(newest_of(&there), counter);
            assert!(there.len() <= 2 + 32 + (counter / KEPT_FOR_EVER) as usize, "{counter}");
        }
    }
}
