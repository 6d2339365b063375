//! Open Network Computing remote procedure calls, version 2 (RFC 5531): the header of a
//! call, and the ways to answer one.

use crate::xdr::{Decoded, Decoder, Encoder, Malformed};

/// Bytes in front of every record.
pub(crate) const MARK_LEN: usize = 4;
/// Set in the mark of a record's last fragment.
pub(crate) const LAST_FRAGMENT: u32 = 1 << 31;
/// The procedure of every program that does nothing.
pub(crate) const NULL: u32 = 0;
/// The only version of the protocol.
const VERSION: u32 = 2;
/// The longest credential or verifier (`opaque_auth`).
const AUTH_LEN_MAX: usize = 400;
/// The longest machine name in an `AUTH_SYS` credential.
const MACHINE_LEN_MAX: usize = 255;
/// Most supplementary groups in an `AUTH_SYS` credential.
const GROUPS_MAX: usize = 16;

const CALL: u32 = 0;
const REPLY: u32 = 1;
const ACCEPTED: u32 = 0;
const DENIED: u32 = 1;

const AUTH_NONE: u32 = 0;
/// The flavour of credentials that name a user and groups.
pub(crate) const AUTH_SYS: u32 = 1;

/// Why a call was refused before its procedure was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Another version of the protocol.
    RpcVersion,
    /// The credential does not parse, or is of a kind that is not known.
    BadCredential,
    /// The credential is not good enough.
    WeakCredential,
    /// No such program.
    NoProgram,
    /// Another version of the program; this is the one there is.
    ProgramVersion(u32),
    /// No such procedure.
    NoProcedure,
    /// The arguments do not parse.
    Garbage,
    /// Something broke here.
    Broken,
}

/// Who says they are calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nobody in particular (`AUTH_NONE`).
    Nobody,
    /// A user (`AUTH_SYS`).
    User {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// Supplementary groups.
        groups: Box<[u32]>,
    },
}

/// The header of a call.
#[derive(Debug)]
pub(crate) struct Call {
    /// Which program.
    pub(crate) program: u32,
    /// Which version of it.
    pub(crate) version: u32,
    /// Which of its procedures.
    pub(crate) procedure: u32,
    /// Who calls.
    pub(crate) claim: Claim,
}

/// Takes the number of a call off the front of its record.
///
/// Fails for what is no call, which cannot be answered.
pub(crate) fn call_number(record: &mut Decoder<'_>) -> Decoded<u32> {
    let xid = record.u32()?;
    if record.u32()? == CALL { Ok(xid) } else { Err(Malformed) }
}

/// Takes the rest of the header off.
pub(crate) fn call(record: &mut Decoder<'_>) -> Result<Call, Refusal> {
    let garbage = |Malformed| Refusal::Garbage;
    if record.u32().map_err(garbage)? != VERSION {
        return Err(Refusal::RpcVersion);
    }
    let program = record.u32().map_err(garbage)?;
    let version = record.u32().map_err(garbage)?;
    let procedure = record.u32().map_err(garbage)?;
    let flavour = record.u32().map_err(garbage)?;
    let credential = record.opaque(AUTH_LEN_MAX).map_err(|_| Refusal::BadCredential)?;
    let claim = claim(flavour, credential).map_err(|_| Refusal::BadCredential)?;
    // The verifier is empty for both kinds of credential.
    record.u32().map_err(garbage)?;
    record.opaque(AUTH_LEN_MAX).map_err(garbage)?;
    Ok(Call { program, version, procedure, claim })
}

fn claim(flavour: u32, credential: &[u8]) -> Decoded<Claim> {
    match flavour {
        AUTH_NONE => Ok(Claim::Nobody),
        AUTH_SYS => {
            let mut credential = Decoder::new(credential);
            let _stamp = credential.u32()?;
            let _machine = credential.opaque(MACHINE_LEN_MAX)?;
            let (uid, gid) = (credential.u32()?, credential.u32()?);
            let count = credential.u32()? as usize;
            if count > GROUPS_MAX {
                return Err(Malformed);
            }
            let groups = (0..count).map(|_| credential.u32()).collect::<Decoded<_>>()?;
            Ok(Claim::User { uid, gid, groups })
        }
        _ => Err(Malformed),
    }
}

/// Begins the reply to a call that was accepted, with room for the record's mark.
pub(crate) fn accept(xid: u32, capacity: usize) -> Encoder {
    let mut reply = begin(xid, capacity);
    reply.u32(ACCEPTED);
    reply.u32(AUTH_NONE);
    reply.u32(0);
    reply.u32(0);
    reply
}

/// Length of what [`accept`] begins with.
pub(crate) const ACCEPTED_LEN: usize = MARK_LEN + 6 * 4;

fn begin(xid: u32, capacity: usize) -> Encoder {
    let mut reply = Encoder::with_capacity(ACCEPTED_LEN + capacity);
    reply.u32(0);
    reply.u32(xid);
    reply.u32(REPLY);
    reply
}

/// The whole reply to a call that was refused.
pub(crate) fn refuse(xid: u32, refusal: Refusal) -> Encoder {
    let words: &[u32] = match refusal {
        Refusal::RpcVersion => &[DENIED, 0, VERSION, VERSION],
        Refusal::BadCredential => &[DENIED, 1, 1],
        Refusal::WeakCredential => &[DENIED, 1, 5],
        Refusal::NoProgram => &[ACCEPTED, AUTH_NONE, 0, 1],
        Refusal::ProgramVersion(there_is) => &[ACCEPTED, AUTH_NONE, 0, 2, there_is, there_is],
        Refusal::NoProcedure => &[ACCEPTED, AUTH_NONE, 0, 3],
        Refusal::Garbage => &[ACCEPTED, AUTH_NONE, 0, 4],
        Refusal::Broken => &[ACCEPTED, AUTH_NONE, 0, 5],
    };
    let mut reply = begin(xid, 0);
    for word in words {
        reply.u32(*word);
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::{Claim, Refusal, call, call_number, refuse};
    use crate::xdr::{Decoder, Encoder};
    use proptest::prelude::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn header(rpc_version: u32, flavour: u32, credential: &[u8]) -> Vec<u8> {
        let mut record = Encoder::default();
        for word in [rpc_version, 100_003, 3, 1, flavour] {
            record.u32(word);
        }
        record.opaque(credential);
        record.u32(0);
        record.u32(0);
        record.into_vec()
    }

    fn claim_of(flavour: u32, credential: &[u8]) -> Result<Claim, Refusal> {
        call(&mut Decoder::new(&header(2, flavour, credential))).map(|call| call.claim)
    }

    #[test]
    fn a_reply_is_not_a_call() {
        assert_eq!(call_number(&mut Decoder::new(&words(&[7, 0]))), Ok(7));
        assert!(call_number(&mut Decoder::new(&words(&[7, 1]))).is_err());
        assert!(call_number(&mut Decoder::new(&words(&[7]))).is_err());
    }

    #[test]
    fn users_have_at_most_sixteen_groups() {
        assert_eq!(claim_of(0, &[]), Ok(Claim::Nobody));
        let user = Claim::User { uid: 5, gid: 6, groups: Box::new([7, 8]) };
        assert_eq!(claim_of(1, &words(&[0, 0, 5, 6, 2, 7, 8])), Ok(user));
        let mut many = vec![0, 0, 5, 6, 17];
        many.extend([9; 17]);
        assert_eq!(claim_of(1, &words(&many)), Err(Refusal::BadCredential));
        let cut_off = words(&[0, 0, 5, 6, 2, 7]);
        assert_eq!(claim_of(1, &cut_off), Err(Refusal::BadCredential));
        assert_eq!(claim_of(1, &words(&[0, 256])), Err(Refusal::BadCredential), "machine name");
        assert_eq!(claim_of(6, &[]), Err(Refusal::BadCredential), "RPCSEC_GSS");
        assert_eq!(claim_of(0, &[0; 404]), Err(Refusal::BadCredential), "too long");
    }

    #[test]
    fn another_version_is_told_which_there_is() {
        let refused = call(&mut Decoder::new(&header(3, 0, &[]))).map(|_| ());
        assert_eq!(refused, Err(Refusal::RpcVersion));
        let reply = refuse(9, Refusal::RpcVersion).into_vec();
        assert_eq!(reply, words(&[0, 9, 1, 1, 0, 2, 2]));
        let reply = refuse(9, Refusal::ProgramVersion(3)).into_vec();
        assert_eq!(reply, words(&[0, 9, 1, 0, 0, 0, 2, 3, 3]));
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(record in proptest::collection::vec(any::<u8>(), 0..128)) {
            let mut decoder = Decoder::new(&record);
            if call_number(&mut decoder).is_ok() {
                let _ = call(&mut decoder);
            }
        }

        #[test]
        fn a_header_that_is_cut_off_is_refused(cut in 0_usize..64) {
            let whole = header(2, 1, &words(&[0, 0, 5, 6, 2, 7, 8]));
            prop_assume!(cut < whole.len());
            prop_assert!(call(&mut Decoder::new(&whole[..cut])).is_err());
            prop_assert!(call(&mut Decoder::new(&whole)).is_ok());
        }
    }
}
