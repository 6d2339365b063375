//! What a membership record says, and the rules for it.

use super::{MembershipError, rule};
use crate::codec::{Problem, Reader, Result as DecodeResult, Writer};
use crate::crypto::{Incarnation, MachineId, PublicKey, block::PLAIN_LEN_MAX};

/// The only version of the format.
pub(super) const FORMAT_VERSION: u8 = 1;

/// Bytes of a sealed previous secret.
pub const PREVIOUS_SECRET_LEN: usize = 124;

const NAME_LEN_MAX: usize = 64;
const LABEL_LEN_MAX: usize = 64;
/// Members of a namespace at most.
pub(super) const MEMBERS_MAX: usize = 256;
const CUTOFFS_MAX: usize = 1024;
const MEMBER_LEN_MIN: usize = 16 + 2 + 1 + 1 + 32 + 32 + 4;
const CUTOFF_LEN: usize = 16 + 8 + 8 + 32;

/// A record's body without what follows from elsewhere: its place in the chain,
/// its epoch, its secrets and its wraps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// The hash of the record before; zero for record 0.
    pub prev_hash: [u8; 32],
    /// The namespace's number in the vault.
    pub ns_index: u32,
    /// The namespace's name.
    pub name: String,
    /// Bytes of a block of file data.
    pub block_size: u32,
    /// The oldest version of the format that may still be used.
    pub format_min: u8,
    /// Vault headers of lower generations are out of date.
    pub vault_generation_min: u64,
    /// When it was made, as a hybrid logical clock.
    pub created: u64,
    /// The secret of the epoch before, sealed under this one, if the epoch rose.
    pub previous_secret: Option<[u8; PREVIOUS_SECRET_LEN]>,
    /// Who takes part.
    pub members: Vec<Member>,
    /// Where the logs of removed machines end.
    pub cutoffs: Vec<Cutoff>,
}

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Role {
    /// Read.
    Read = 1,
    /// Read and write.
    Write = 2,
    /// Also act for the owner in the namespace.
    Admin = 3,
}

/// What a member's machine holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Level {
    /// The master key, while the vault is open.
    Owner = 1,
    /// Its own keys and the epoch secrets.
    Member = 2,
}

/// A machine that takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The machine.
    pub machine: MachineId,
    /// Its share of the inode numbers, from 1; never given to another machine.
    pub slot: u16,
    /// What it may do.
    pub role: Role,
    /// What it holds.
    pub level: Level,
    /// Verifies what it signs.
    pub signing_key: PublicKey,
    /// Its X25519 public key.
    pub box_key: [u8; 32],
    /// Its name for people.
    pub label: String,
}

/// The end of a removed machine's log: what lies behind does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cutoff {
    /// The machine.
    pub machine: MachineId,
    /// The incarnation it was removed in.
    pub incarnation: Incarnation,
    /// The last segment that counts.
    pub seq: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

impl Body {
    /// Checks what a record must fulfil on its own.
    pub(super) fn check(&self) -> Result<(), MembershipError> {
        if self.format_min > FORMAT_VERSION {
            return Err(MembershipError::VersionTooNew { version: self.format_min });
        }
        rule(self.format_min >= 1, "format versions count from 1")?;
        let has_block_size = (1..=PLAIN_LEN_MAX).contains(&self.block_size);
        rule(has_block_size, "blocks have 1 byte to 4 MiB")?;
        rule(self.name.len() <= NAME_LEN_MAX, "names have at most 64 bytes")?;
        rule(self.members.len() <= MEMBERS_MAX, "a namespace has at most 256 members")?;
        rule(self.cutoffs.len() <= CUTOFFS_MAX, "a namespace has at most 1024 cut-offs")?;
        for (index, member) in self.members.iter().enumerate() {
            rule(member.slot >= 1, "slot 0 belongs to the root directory")?;
            rule(member.label.len() <= LABEL_LEN_MAX, "labels have at most 64 bytes")?;
            let clash =
                |other: &Member| other.machine == member.machine || other.slot == member.slot;
            rule(!self.members[..index].iter().any(clash), "machines and slots are distinct")?;
        }
        Ok(())
    }

    /// Checks what a record must take over from the one before.
    pub(super) fn check_follows(&self, previous: &Self) -> Result<(), MembershipError> {
        for member in &self.members {
            let earlier = previous.members.iter().find(|earlier| earlier.machine == member.machine);
            let keeps_keys = earlier.is_none_or(|earlier| {
                earlier.slot == member.slot
                    && earlier.signing_key == member.signing_key
                    && earlier.box_key == member.box_key
            });
            rule(keeps_keys, "a machine keeps its slot and keys")?;
            let takes_slot = previous
                .members
                .iter()
                .any(|earlier| earlier.slot == member.slot && earlier.machine != member.machine);
            rule(!takes_slot, "a slot belongs to one machine for ever")?;
        }
        let keeps = previous.cutoffs.iter().all(|cutoff| self.cutoffs.contains(cutoff));
        rule(keeps, "cut-offs stay")
    }

    /// Everything from `hlc created` on.
    pub(super) fn write_rest(&self, writer: &mut Writer) {
        writer.u64(self.created);
        writer.opt(self.previous_secret.as_ref(), |writer, sealed| {
            writer.raw(sealed);
        });
        writer.list(&self.members, |writer, member| member.write(writer));
        writer.list(&self.cutoffs, |writer, cutoff| cutoff.write(writer));
    }
}

impl Member {
    fn write(&self, writer: &mut Writer) {
        writer.raw(&self.machine.0).u16(self.slot).u8(self.role as u8).u8(self.level as u8);
        writer.raw(self.signing_key.as_bytes()).raw(&self.box_key).lp(self.label.as_bytes());
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> DecodeResult<Self> {
        Ok(Self {
            machine: MachineId(reader.array("member's machine")?),
            slot: reader.u16("member's slot")?,
            role: reader.code("member's role", |code| {
                [Role::Read, Role::Write, Role::Admin].into_iter().find(|role| *role as u8 == code)
            })?,
            level: reader.code("member's level", |code| {
                [Level::Owner, Level::Member].into_iter().find(|level| *level as u8 == code)
            })?,
            signing_key: read_public_key(reader)?,
            box_key: reader.array("member's box key")?,
            label: read_text(reader, "member's label", LABEL_LEN_MAX)?,
        })
    }
}

impl Cutoff {
    fn write(&self, writer: &mut Writer) {
        writer.raw(&self.machine.0).raw(&self.incarnation.0).u64(self.seq).raw(&self.hash);
    }

    fn read(reader: &mut Reader<'_>) -> DecodeResult<Self> {
        Ok(Self {
            machine: MachineId(reader.array("cut-off's machine")?),
            incarnation: Incarnation(reader.array("cut-off's incarnation")?),
            seq: reader.u64("cut-off's seq")?,
            hash: reader.array("cut-off's hash")?,
        })
    }
}

pub(super) fn read_name(reader: &mut Reader<'_>) -> DecodeResult<String> {
    read_text(reader, "namespace name", NAME_LEN_MAX)
}

/// What [`Body::write_rest`] wrote.
pub(super) struct Rest {
    pub(super) created: u64,
    pub(super) previous_secret: Option<[u8; PREVIOUS_SECRET_LEN]>,
    pub(super) members: Vec<Member>,
    pub(super) cutoffs: Vec<Cutoff>,
}

pub(super) fn read_rest(reader: &mut Reader<'_>) -> DecodeResult<Rest> {
    Ok(Rest {
        created: reader.u64("creation time")?,
        previous_secret: reader.opt("previous secret", |r| r.array("previous secret"))?,
        members: reader.list("members", MEMBERS_MAX, MEMBER_LEN_MIN, Member::read)?,
        cutoffs: reader.list("cut-offs", CUTOFFS_MAX, CUTOFF_LEN, Cutoff::read)?,
    })
}

fn read_text(reader: &mut Reader<'_>, field: &'static str, max: usize) -> DecodeResult<String> {
    let offset = reader.offset();
    let bytes = reader.lp(field, max)?;
    let text = std::str::from_utf8(bytes)
        .map_err(|_| reader.error_at(offset, field, Problem::Invalid { rule: "text is UTF-8" }))?;
    Ok(text.to_owned())
}

fn read_public_key(reader: &mut Reader<'_>) -> DecodeResult<PublicKey> {
    let (offset, field) = (reader.offset(), "member's signing key");
    let bytes = reader.array(field)?;
    PublicKey::from_bytes(&bytes).map_err(|_| {
        let rule = "public keys are canonical and not of small order";
        reader.error_at(offset, field, Problem::Invalid { rule })
    })
}
