//! Keys, names, sealed objects and blocks against the vectors, both ways.

use super::{Vector, epoch_keys, namespace_keys, ns, vectors};
use crate::crypto::block::{self, BlockHead, BlockType};
use crate::crypto::compress::Codec;
use crate::crypto::envelope::{self, Fresh};
use crate::crypto::ids::hex;
use crate::crypto::kdf::{Argon2Params, argon2id, derive, extract};
use crate::crypto::{
    BlockId, Context, Epoch, Incarnation, Key32, MachineId, MasterKey, PackId, PublicKey,
    SignatureKind, SigningKey, VaultId, context::pack_context, names,
};
use serde_json::Value;

fn key(vector: &Value, name: &str) -> Key32 {
    Key32::copy_of(&vector.array(name))
}

fn master() -> MasterKey {
    let keys = &vectors()["keys"];
    MasterKey::new(VaultId(keys.array("vault_id")), key(keys, "mk"))
}

fn assert_key(derived: &Key32, vector: &Value, name: &str) {
    assert_eq!(hex(derived.expose()), vector.text(name), "{name}");
}

#[test]
fn keys_of_the_vault_and_namespace() {
    let (keys, master) = (&vectors()["keys"], master());
    let prk = extract(&keys.bytes("vault_id"), &keys.bytes("mk"));
    assert_key(&prk, keys, "prk_mk");
    let owner = master.owner_signing_key();
    assert_key(owner.seed(), keys, "owner_sign_seed");
    assert_eq!(hex(owner.public().as_bytes()), keys.text("owner_pk"));
    assert_key(&master.owner_box_secret(), keys, "owner_box_seed");
    assert_key(&master.vault_mac_key(), keys, "vault_mac_key");
    assert_key(&master.machine_key(MachineId(keys.array("machine"))), keys, "machine_key");
    let handle_key = master.nfs_handle_key(MachineId(keys.array("machine")), ns());
    assert_key(&handle_key, keys, "nfs_handle_key");
    assert_eq!(master.namespace_id(keys.small("ns_index")), ns());
    assert_key(&master.membership_name_key(ns()), keys, "membership_key");

    let names = namespace_keys();
    assert_key(names.tree_key(), keys, "k_tid");
    assert_key(names.dentry_key(), keys, "k_dent");
    assert_key(names.chunker_key(), keys, "k_cdc");
    let id = blake3::keyed_hash(&keys.array("k_id"), b"plaintext");
    assert_eq!(names.block_id(b"plaintext"), BlockId(*id.as_bytes()));
}

#[test]
fn keys_of_the_epochs() {
    for vector in vectors()["keys"].items("epochs") {
        let keys = epoch_keys(vector.number("epoch"));
        assert_key(&master().epoch_wrap_key(ns(), keys.epoch()), vector, "es_wrap");
        assert_key(keys.meta_key(), vector, "k_meta");
        assert_key(keys.data_key(), vector, "k_data");
        assert_key(keys.log_key(), vector, "k_log");
        assert_key(keys.name_key(), vector, "k_name");
        assert_key(&keys.block_key(&BlockId(vector.array("block_id"))), vector, "block_key");
    }
}

#[test]
fn argon2id_keys() {
    for vector in vectors().items("argon2id") {
        let [m_kib, t, p] = ["m_kib", "t", "p"].map(|name| vector.small(name));
        let params = Argon2Params::new(m_kib, t, p).unwrap();
        let made = argon2id(&vector.bytes("passphrase"), &vector.array("salt"), params);
        assert_key(&made.unwrap(), vector, "key");
    }
}

#[test]
fn padme_lengths() {
    for pair in vectors().items("padme") {
        let length = |index: usize| usize::try_from(pair[index].as_u64().unwrap()).unwrap();
        assert_eq!(envelope::padme(length(0)), length(1));
    }
}

#[test]
fn signatures() {
    for vector in vectors().items("sign") {
        let kind = match vector.text("kind") {
            "membership" => SignatureKind::Membership,
            "incarnation" => SignatureKind::Incarnation,
            "segment" => SignatureKind::Segment,
            "head" => SignatureKind::Head,
            "checkpoint" => SignatureKind::Checkpoint,
            other => panic!("{other}"),
        };
        let signer = SigningKey::from_seed(key(vector, "seed"));
        let body = vector.bytes("body");
        assert_eq!(hex(&signer.sign(kind, &body)), vector.text("signature"));
        let public = PublicKey::from_bytes(&vector.array("public")).unwrap();
        assert_eq!(public.verify(kind, &body, &vector.array("signature")), Ok(()));
    }
}

#[test]
fn object_names() {
    for vector in vectors().items("names") {
        let keys = vector["epoch"].as_u64().map(epoch_keys);
        let keys = || keys.as_ref().unwrap();
        let machine = || MachineId(vector.array("machine"));
        let name = match vector.text("object") {
            "membership" => names::membership(&key(vector, "key"), ns(), vector.number("n")),
            "pack" => names::pack(keys(), PackId(vector.array("pack_id"))),
            "segment" => {
                let incarnation = Incarnation(vector.array("incarnation"));
                names::segment(keys(), machine(), incarnation, vector.number("seq"))
            }
            "head" => names::head(keys(), machine(), vector.number("counter")),
            "incarnation" => names::incarnation(keys(), machine(), vector.small("index")),
            "checkpoint" => names::checkpoint(keys(), machine(), vector.number("n")),
            other => panic!("{other}"),
        };
        assert_eq!(name, vector.text("name"));
    }
}

fn context_of(vector: &Value) -> Context {
    let machine = || MachineId(vector.array("machine"));
    match vector.text("object") {
        "membership" => Context::membership(ns(), vector.number("n")),
        "owner_wrap" => Context::owner_wrap(ns(), &vector.array("record_salt")),
        "previous_secret" => Context::previous_secret(ns(), Epoch(vector.small("previous"))),
        "segment" => {
            let incarnation = Incarnation(vector.array("incarnation"));
            Context::segment(ns(), machine(), incarnation, vector.number("seq"))
        }
        "head" => Context::head(ns(), machine(), vector.number("counter")),
        "incarnation" => Context::incarnation(ns(), machine(), vector.small("index")),
        "checkpoint" => Context::checkpoint(ns(), machine(), vector.number("n")),
        other => panic!("{other}"),
    }
}

#[test]
fn sealed_objects_open_and_seal_to_the_same_bytes() {
    for vector in vectors().items("sealed") {
        let (context, epoch) = (context_of(vector), Epoch(vector.small("epoch")));
        assert_eq!(hex(&context.bytes(epoch)), vector.text("ctx"));
        let (sealed, plaintext) = (vector.bytes("bytes"), vector.bytes("plaintext"));
        let key = key(vector, "key");

        let opened = envelope::open_under([(epoch, &key)], &context, &sealed).unwrap();
        assert_eq!(*opened.plaintext, plaintext);
        if vector.text("object") != "owner_wrap" {
            // The key is the one that the epoch has for the type.
            let epochs = [epoch_keys(1), epoch_keys(0)];
            assert_eq!(envelope::open(&epochs, &context, &sealed).unwrap().epoch, epoch);
        }

        let fresh = Fresh { salt: vector.array("salt"), nonce: vector.array("nonce") };
        let again = envelope::seal_with(&fresh, &key, epoch, &context, &plaintext).unwrap();
        assert_eq!(again, sealed, "{}", context.object());
    }
}

#[test]
fn blocks_open_and_seal_to_the_same_bytes() {
    let names = namespace_keys();
    for vector in vectors().items("blocks") {
        let code = |name| u8::try_from(vector.number(name)).unwrap();
        let head = BlockHead {
            block_type: BlockType::from_code(code("type")).unwrap(),
            id: BlockId(vector.array("id")),
            codec: Codec::from_code(code("codec")).unwrap(),
            plain_len: vector.small("plain_len"),
        };
        let keys = epoch_keys(vector.number("epoch"));
        let plaintext = vector.bytes("plaintext");
        assert_eq!(block::block_id(&names, head.block_type, &plaintext), head.id);
        let body = block::open(&keys, &head, &vector.bytes("bytes")).unwrap();
        assert_eq!(body, vector.bytes("body"));
        assert_eq!(block::decode(&names, &head, body.clone()).unwrap(), plaintext);

        let mut again = Vec::new();
        block::seal_with(&vector.array("nonce"), &keys, &head, &body, &mut again);
        assert_eq!(again, vector.bytes("bytes"), "{}", vector.text("name"));
    }
}

#[test]
fn pack_keys() {
    let vector = &vectors()["pack"];
    let keys = epoch_keys(vector.number("epoch"));
    let context = pack_context(ns(), keys.epoch(), PackId(vector.array("pack_id")));
    assert_eq!(hex(&context), vector.text("pctx"));
    let prk = extract(&vector.bytes("salt"), keys.data_key().expose());
    assert_key(&derive(&prk, "pack-commit", &[&context]), vector, "commit");
    assert_key(&derive(&prk, "pack-key", &[&context]), vector, "pack_key");
}

#[test]
fn manifest_and_checkpoint_nodes_have_tree_ids() {
    let names = namespace_keys();
    let manifests = vectors().items("manifest").iter();
    for node in manifests.chain(vectors()["checkpoint_tree"].items("nodes")) {
        assert_eq!(names.tree_id(&node.bytes("bytes")), BlockId(node.array("id")));
    }
}
