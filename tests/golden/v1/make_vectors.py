#!/usr/bin/env python3
"""Test vectors for format version 1, made from docs/FORMAT.md and nothing else.

This is a second implementation of the format. It shares no code with the
program, so that a mistake in one of the two shows as a difference.

    pip install cryptography blake3 argon2-cffi
    python3 make_vectors.py            writes vectors.json beside the script
    python3 make_vectors.py --check    fails if vectors.json is not what it would write

Everything random in the format (keys, salts, nonces, ids) is taken from
`det(label)`, so the output is the same byte for byte each time.

Structure of vectors.json
=========================

Byte strings are lower-case hex, integers are JSON numbers, times are
`{"s": seconds, "ns": nanoseconds}`, absent optional values are null. Names that
users choose (`name`, `label`, `target`) are hex as well, except in `membership`,
where they are text. `bytes` is always the complete encoding as stored. Objects that are stored
have their name in the store as `name` (`object_name` in `membership`, which has a name of its own).

keys            inputs vault_id, mk, nsk, machine, ns_index, and epochs[].es; all keys of §2
argon2id        [{passphrase, salt, m_kib, t, p, key}]
padme           [[length, padded length]]
recovery        [{code, text}]
sign            [{kind, seed, public, body, signature}]
vault_header    generation, slots[] and bytes; a slot has typed (the passphrase as typed, before
                NFC; the code; the file), kek, commit, wrapped (ct ‖ tag) and bytes
names           [{object, type, key, fields, name}] and the values that the fields hold
sealed          [{object, type, key, ns, epoch, fields, ctx, salt, nonce, plaintext, commit, bytes}]
blocks          [{name, type, ns, epoch, id, codec, plain_len, plaintext, body, nonce, aad, bytes}]
pack            pack_id, ns, epoch, salt, commit, pack_key, pctx, blocks[] ({index into `blocks`,
                offset, sealed_len}), dir_nonce, dir_plain, dir_offset, dir_len, trailer_nonce,
                dir_hash, bytes
membership      the fields of record 0's body, salt, owner_wrap, wraps, body_salt, body_nonce,
                body, signature, hash, object_name and bytes
machine         id, signing seed and public key of the machine that signs what follows
incarnation     fields, body, signature, hash (of body ‖ signature), salt, nonce, name and bytes;
                `bytes` is the sealed object
segment         the same; groups[].ops[] hold one op of every type, by field name
head            the same; its epoch, like the segment's, is 1
content         [{content, bytes}] of each form of §7
manifest        [{level, ids, bytes, id}]; `id` is the block id of a tree node
checkpoint_tree rows[] ({key, value, meaning}), nodes[] ({level, entries, bytes, id}) leaves first,
                root, level, and empty: the tree of no rows
checkpoint      like head
"""

import hashlib
import hmac
import json
import pathlib
import sys
import unicodedata

from argon2.low_level import Type, hash_secret_raw
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def det(label, n=32):
    """Bytes that stand for randomness."""
    return hashlib.shake_256(b"tgcryptfs vectors v1/" + label.encode()).digest(n)


# --- §1 notation ---


def u8(x):
    return x.to_bytes(1, "little")


def u16(x):
    return x.to_bytes(2, "little")


def u32(x):
    return x.to_bytes(4, "little")


def u64(x):
    return x.to_bytes(8, "little")


def u64be(x):
    return x.to_bytes(8, "big")


def i64(x):
    return x.to_bytes(8, "little", signed=True)


def lp(x):
    return u32(len(x)) + x


def lst(items):
    items = list(items)
    return u32(len(items)) + b"".join(items)


def opt(value, encode):
    return u8(0) if value is None else u8(1) + encode(value)


def time(t):
    assert 0 <= t["ns"] < 10**9
    return i64(t["s"]) + u32(t["ns"])


def hlc(ms, counter):
    assert ms < 2**48 and counter < 2**16
    return ms << 16 | counter


def extract(salt, ikm):
    return hmac.new(salt, ikm, hashlib.sha256).digest()


def derive(prk, purpose, context=b"", n=32):
    info = lp(b"tgcryptfs/v1/" + purpose.encode()) + context
    out, block, i = b"", b"", 1
    while len(out) < n:
        block = hmac.new(prk, block + info + u8(i), hashlib.sha256).digest()
        out += block
        i += 1
    return out[:n]


def aead(key, nonce, plaintext, aad):
    return AESGCM(key).encrypt(nonce, plaintext, aad)


def public_key(seed):
    key = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def sign(seed, kind, body):
    message = b"tgcryptfs/v1/sig/" + kind.encode() + b"\0" + body
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def hash32(data):
    return blake3(data).digest()


def keyed(key, data):
    return blake3(data, key=key).digest()


def derive_key(context, material):
    return blake3(material, derive_key_context=context).digest()


def padme(length):
    e = length.bit_length() - 1
    s = (e.bit_length() - 1) + 1
    step = 1 << (e - s)
    return (length + step - 1) // step * step


# --- §2 keys ---

VAULT = det("vault id", 16)
MK = det("master key")
PRK_MK = extract(VAULT, MK)
OWNER_SEED = derive(PRK_MK, "owner-sign")
OWNER_PK = public_key(OWNER_SEED)
VAULT_MAC_KEY = derive(PRK_MK, "vault-mac")
MACHINE = det("machine id", 16)
OTHER_MACHINE = det("other machine id", 16)
INCARNATION = det("incarnation", 8)
OTHER_INCARNATION = det("other incarnation", 8)
MACHINE_SEED = det("machine signing seed")
MACHINE_PK = public_key(MACHINE_SEED)
NS_INDEX = 2
NS = derive(PRK_MK, "ns-id", u32(NS_INDEX), 16)
MEMBERSHIP_KEY = derive(PRK_MK, "membership-name", NS)
NSK = det("namespace secret")
K_ID = derive_key("tgcryptfs/v1/block id", NSK)
K_TID = derive_key("tgcryptfs/v1/tree id", NSK)


def es_wrap(e):
    return derive(PRK_MK, "es-wrap", NS + u32(e))


class EpochKeys:
    def __init__(self, e):
        self.e = e
        self.es = det(f"epoch secret {e}")
        self.prk = extract(NS + u32(e), self.es)
        self.meta = derive(self.prk, "meta")
        self.data = derive(self.prk, "data")
        self.log = derive(self.prk, "log")
        self.name = derive(self.prk, "name")

    def block_key(self, block_id):
        return derive(self.data, "block", block_id)


EPOCHS = [EpochKeys(e) for e in range(2)]


def keys_vector():
    block = det("some block id")
    return {
        "vault_id": VAULT,
        "mk": MK,
        "prk_mk": PRK_MK,
        "owner_sign_seed": OWNER_SEED,
        "owner_pk": OWNER_PK,
        "owner_box_seed": derive(PRK_MK, "owner-box"),
        "vault_mac_key": VAULT_MAC_KEY,
        "machine": MACHINE,
        "machine_key": derive(PRK_MK, "machine", MACHINE),
        "nfs_handle_key": derive(PRK_MK, "nfs-handle", MACHINE + NS),
        "ns_index": NS_INDEX,
        "ns_id": NS,
        "membership_key": MEMBERSHIP_KEY,
        "nsk": NSK,
        "k_id": K_ID,
        "k_tid": K_TID,
        "k_dent": derive_key("tgcryptfs/v1/dentry", NSK),
        "k_cdc": derive_key("tgcryptfs/v1/chunker", NSK),
        "epochs": [
            {
                "epoch": k.e,
                "es": k.es,
                "es_wrap": es_wrap(k.e),
                "prk_es": k.prk,
                "k_meta": k.meta,
                "k_data": k.data,
                "k_log": k.log,
                "k_name": k.name,
                "block_id": block,
                "block_key": k.block_key(block),
            }
            for k in EPOCHS
        ],
    }


# --- §3 vault header ---

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def base32(data, digits):
    bits = int.from_bytes(data, "big") >> (len(data) * 8 - digits * 5)
    return "".join(CROCKFORD[bits >> 5 * (digits - 1 - i) & 31] for i in range(digits))


def recovery_text(code):
    text = base32(code, 32) + base32(hash32(b"tgcryptfs/v1/recovery check" + code), 4)
    return "-".join(text[i : i + 4] for i in range(0, 36, 4))


def argon2id(passphrase, salt, m_kib, t, p):
    return hash_secret_raw(passphrase, salt, t, m_kib, p, 32, Type.ID, version=19)


MAGIC = b"TGCFSVLT"


def slot(label, kind, typed, m_kib=0, t=0, p=0):
    slot_id, salt = det(label + " slot id", 8), det(label + " slot salt", 16)
    nonce, created = det(label + " slot nonce", 12), 1_900_000_000 + kind
    kdf = 1 if kind == 1 else 2
    if kind == 1:
        kek = argon2id(unicodedata.normalize("NFC", typed).encode(), salt, m_kib, t, p)
        typed = typed.encode()
    else:
        purpose = {2: "kek-recovery", 3: "kek-keyfile"}[kind]
        kek = derive(extract(salt, typed), purpose)
    parameters = slot_id + u8(kind) + u8(kdf) + u32(m_kib) + u32(t) + u32(p) + salt
    aad = MAGIC + u8(1) + VAULT + OWNER_PK + parameters
    prk = extract(b"tgcryptfs/v1/slot", kek)
    commit = derive(prk, "slot-commit", aad)
    wrapped = aead(derive(prk, "slot-key", aad), nonce, MK, aad)
    encoded = parameters + u64(created) + commit + nonce + wrapped + bytes(22)
    assert len(encoded) == 160
    return {
        "slot_id": slot_id,
        "kind": kind,
        "kdf": kdf,
        "m_kib": m_kib,
        "t": t,
        "p": p,
        "salt": salt,
        "created_s": created,
        "typed": typed,
        "kek": kek,
        "nonce": nonce,
        "commit": commit,
        "wrapped": wrapped,
        "bytes": encoded,
    }


def vault_header():
    generation = 7
    slots = [
        # Typed with a combining accent, which NFC composes.
        slot("passphrase", 1, "cafe\u0301 au lait", 8 << 10, 1, 1),
        slot("recovery", 2, det("recovery code", 20)),
        slot("key file", 3, det("key file", 48)),
    ]
    head = MAGIC + u8(1) + VAULT + u64(generation) + OWNER_PK + u8(len(slots))
    head += b"".join(s["bytes"] for s in slots)
    mac = hmac.new(VAULT_MAC_KEY, head, hashlib.sha256).digest()
    return {"generation": generation, "slots": slots, "hmac": mac, "bytes": head + mac}


# --- §4 names ---


def object_name(key, code, fields):
    return keyed(key, u8(code) + fields)[:16].hex()


def names():
    def vector(name, code, key, fields, **values):
        return {
            "object": name,
            "type": code,
            "key": key,
            "fields": fields,
            **values,
            "name": object_name(key, code, fields),
        }

    m, i = MACHINE, INCARNATION
    pack = det("pack id", 16)
    zero, one = EPOCHS[0].name, EPOCHS[1].name
    return [
        vector("membership", 0x02, MEMBERSHIP_KEY, NS + u64(5), n=5),
        vector("pack", 0x10, one, pack, epoch=1, pack_id=pack),
        vector("segment", 0x20, one, m + i + u64(9), epoch=1, machine=m, incarnation=i, seq=9),
        vector("head", 0x21, one, m + u64(2**40), epoch=1, machine=m, counter=2**40),
        vector("incarnation", 0x22, zero, m + u32(3), epoch=0, machine=m, index=3),
        vector("checkpoint", 0x31, one, m + u64(4), epoch=1, machine=m, n=4),
    ]


# --- §5 sealed objects ---

EXACT = {0x05, 0x06}


def seal(label, key, code, epoch, fields, plaintext):
    """Answers all that there is to know about a sealed object."""
    salt, nonce = det(label + " salt"), det(label + " nonce", 12)
    ctx = lp(b"tgcryptfs") + u8(1) + u8(code) + NS + u32(epoch) + fields
    prk = extract(salt, key)
    commit = derive(prk, "commit", ctx)
    padded = plaintext
    if code not in EXACT:
        padded = u32(len(plaintext)) + plaintext
        padded += bytes(padme(max(1024, len(padded))) - len(padded))
    sealed = salt + commit + nonce + aead(derive(prk, "key", ctx), nonce, padded, ctx)
    assert len(sealed) == len(padded) + 92
    return {
        "type": code,
        "key": key,
        "ns": NS,
        "epoch": epoch,
        "fields": fields,
        "ctx": ctx,
        "salt": salt,
        "nonce": nonce,
        "plaintext": plaintext,
        "commit": commit,
        "bytes": sealed,
    }


def sealed():
    m, i, one = MACHINE, INCARNATION, EPOCHS[1]

    def vector(name, *args, **values):
        return {"object": name, **values, **seal("sealed " + name, *args)}

    record_salt = det("some record salt")
    return [
        vector("membership", one.meta, 0x02, 1, u64(5), det("text 1", 1100), n=5),
        vector("owner_wrap", es_wrap(1), 0x05, 1, record_salt, one.es, record_salt=record_salt),
        vector("previous_secret", one.meta, 0x06, 1, u32(0), EPOCHS[0].es, previous=0),
        vector(
            "segment", one.log, 0x20, 1, m + i + u64(9), det("text 2", 5000),
            machine=m, incarnation=i, seq=9,
        ),
        # The longest that takes the least room.
        vector("head", one.log, 0x21, 1, m + u64(7), det("text 3", 1020), machine=m, counter=7),
        vector(
            "incarnation", EPOCHS[0].log, 0x22, 0, m + u32(3), b"", machine=m, index=3,
        ),
        # One byte more than that.
        vector("checkpoint", one.meta, 0x31, 1, m + u64(4), det("text 4", 1021), machine=m, n=4),
    ]


# --- §6 blocks and packs ---


def lz4_run(period, n):
    """The LZ4 block of `period` repeated to n bytes: literals, one match, literals."""

    def length(x):
        out = b""
        while x >= 255:
            out, x = out + b"\xff", x - 255
        return out + u8(x)

    plaintext = (period * (n // len(period) + 1))[:n]
    last = plaintext[-12:]
    match = n - len(period) - len(last)
    body = u8(min(len(period), 15) << 4 | 15)
    body += length(len(period) - 15) if len(period) >= 15 else b""
    body += period + u16(len(period)) + length(match - 4 - 15)
    body += u8(len(last) << 4) + last
    return plaintext, body


def zstd_run(byte, n):
    """The zstd frame of one byte repeated n times, 256 <= n < 65792: one RLE block."""
    frame = bytes.fromhex("28b52ffd") + u8(0x60) + u16(n - 256)
    return bytes([byte]) * n, frame + (n << 3 | 1 << 1 | 1).to_bytes(3, "little") + u8(byte)


def block(name, code, epoch, codec, plaintext, body):
    block_id = keyed(K_ID if code == 0x18 else K_TID, plaintext)
    nonce = det("block nonce " + name, 12)
    aad = lp(b"tgcryptfs") + u8(1) + u8(code) + NS + u32(epoch)
    aad += block_id + u8(codec) + u32(len(plaintext))
    record = nonce + aead(EPOCHS[epoch].block_key(block_id), nonce, body, aad)
    return {
        "name": name,
        "type": code,
        "ns": NS,
        "epoch": epoch,
        "id": block_id,
        "codec": codec,
        "plain_len": len(plaintext),
        "plaintext": plaintext,
        "body": body,
        "nonce": nonce,
        "aad": aad,
        "bytes": record,
    }


def make_blocks():
    noise = det("a block of noise", 700)
    run, packed = lz4_run(b"the quick brown fox jumps over the lazy dog; ", 3000)
    first = block("raw", 0x18, 1, 0, noise, noise)
    second = block("lz4", 0x18, 1, 1, run, packed)
    node = manifest_node(0, [first["id"], bytes(32), second["id"]])
    return [
        first,
        second,
        block("tree", 0x30, 1, 0, node, node),
        block("zstd", 0x18, 0, 2, *zstd_run(0x61, 4096)),
        block("one byte", 0x18, 1, 0, b"x", b"x"),
    ]


def pack():
    e, pack_id, salt = 1, det("pack id", 16), det("pack salt")
    pctx = lp(b"tgcryptfs") + u8(1) + u8(0x10) + NS + u32(e) + pack_id
    prk = extract(salt, EPOCHS[e].data)
    commit, pack_key = derive(prk, "pack-commit", pctx), derive(prk, "pack-key", pctx)
    body, entries, placed = salt + commit, [], []
    for index in range(3):
        b = BLOCKS[index]
        offset, sealed_len = len(body), len(b["bytes"])
        body += b["bytes"]
        placed.append({"index": index, "offset": offset, "sealed_len": sealed_len})
        entries.append(
            b["id"] + u32(offset) + u32(sealed_len) + u32(b["plain_len"]) + u32(b["epoch"])
            + u8(b["codec"]) + u8(b["type"])
        )
        assert len(entries[-1]) == 50
    dir_plain = lst(entries)
    size = len(body) + 12 + len(dir_plain) + 16 + 64
    dir_plain += bytes(padme(size) - size)
    dir_nonce, trailer_nonce = det("pack dir nonce", 12), det("pack trailer nonce", 12)
    directory = dir_nonce + aead(pack_key, dir_nonce, dir_plain, pctx + u8(0x11))
    dir_offset, dir_len = len(body), len(directory)
    trailer_plain = u64(dir_offset) + u32(dir_len) + u32(len(entries)) + bytes(20)
    trailer = trailer_nonce + aead(pack_key, trailer_nonce, trailer_plain, pctx + u8(0x12))
    assert len(trailer) == 64
    stored = body + directory + trailer
    assert len(stored) == padme(len(stored))
    return {
        "pack_id": pack_id,
        "ns": NS,
        "epoch": e,
        "salt": salt,
        "pctx": pctx,
        "commit": commit,
        "pack_key": pack_key,
        "blocks": placed,
        "dir_nonce": dir_nonce,
        "dir_plain": dir_plain,
        "dir_offset": dir_offset,
        "dir_len": dir_len,
        "trailer_nonce": trailer_nonce,
        "dir_hash": hash32(directory),
        "name": object_name(EPOCHS[e].name, 0x10, pack_id),
        "bytes": stored,
    }


# --- §7 file content ---


def content(c):
    if c["form"] == "zeros":
        return u8(0)
    if c["form"] == "inline":
        return u8(1) + lp(c["bytes"])
    return u8(2) + u8(c["depth"]) + c["id"]


def manifest_node(level, ids):
    assert 1 <= len(ids) <= 256
    return u8(1) + u8(level) + u16(len(ids)) + b"".join(ids)


CONTENTS = [
    {"form": "zeros"},
    {"form": "inline", "bytes": b"hello, world\n"},
    {"form": "blocks", "depth": 0, "id": det("content block")},
    {"form": "blocks", "depth": 2, "id": det("content tree")},
]


def manifests():
    def vector(level, ids):
        encoded = manifest_node(level, ids)
        return {"level": level, "ids": ids, "bytes": encoded, "id": keyed(K_TID, encoded)}

    ids = [det(f"manifest id {i}") for i in range(5)]
    ids[2] = bytes(32)
    low = vector(0, ids)
    return [low, vector(1, [low["id"], bytes(32), det("other node")])]


# --- §8 membership ---


def membership():
    n, epoch, k = 0, 0, 1
    salt, wraps = det("membership salt"), det("membership wraps", 80 * 16 * k)
    owner_wrap = seal("membership owner wrap", es_wrap(epoch), 0x05, epoch, salt, EPOCHS[0].es)
    member = {
        "machine": MACHINE,
        "slot": 1,
        "role": 3,
        "level": 1,
        "ed25519_pk": MACHINE_PK,
        "x25519_pk": det("machine box public key"),
        "label": "laptop",
    }
    members = [
        m["machine"] + u16(m["slot"]) + u8(m["role"]) + u8(m["level"]) + m["ed25519_pk"]
        + m["x25519_pk"] + lp(m["label"].encode())
        for m in [member]
    ]
    fields = {
        "n": n,
        "epoch": epoch,
        "prev_hash": bytes(32),
        "k": k,
        "wraps_hash": hash32(salt + owner_wrap["bytes"] + wraps),
        "ns_index": NS_INDEX,
        "name": "home",
        "block_size": 128 << 10,
        "format_min": 1,
        "vault_generation_min": 1,
        "created": hlc(1_900_000_000_123, 4),
        "previous_secret": None,
        "members": [member],
        "cutoffs": [],
    }
    f = fields
    body = NS + u64(n) + u32(epoch) + f["prev_hash"] + u16(k) + f["wraps_hash"] + u32(NS_INDEX)
    body += lp(f["name"].encode()) + NSK + u32(f["block_size"]) + u8(1)
    body += u64(f["vault_generation_min"]) + u64(f["created"]) + u8(0) + lst(members) + lst([])
    signature = sign(OWNER_SEED, "membership", body)
    inner = seal("membership body", EPOCHS[0].meta, 0x02, epoch, u64(n), body + signature)
    return {
        **fields,
        "salt": salt,
        "owner_wrap": owner_wrap,
        "wraps": wraps,
        "body_salt": inner["salt"],
        "body_nonce": inner["nonce"],
        "body": body,
        "signature": signature,
        "hash": hash32(body + signature),
        "object_name": object_name(MEMBERSHIP_KEY, 0x02, NS + u64(n)),
        "bytes": salt + owner_wrap["bytes"] + wraps + inner["bytes"],
    }


# --- §9 log ---


def signed(label, kind, code, epoch, key, name_key, ctx_fields, values, body):
    signature = sign(MACHINE_SEED, kind, body)
    obj = seal(label, key, code, epoch, ctx_fields, body + signature)
    return {
        **values,
        "epoch": epoch,
        "body": body,
        "signature": signature,
        "hash": hash32(body + signature),
        "salt": obj["salt"],
        "nonce": obj["nonce"],
        "name": object_name(name_key, code, ctx_fields),
        "bytes": obj["bytes"],
    }


def incarnation():
    index, clock = 0, hlc(1_900_000_001_000, 0)
    membership_hash = MEMBERSHIP["hash"]
    body = NS + MACHINE + u32(index) + INCARNATION + u64(clock) + membership_hash
    values = {
        "machine": MACHINE,
        "index": index,
        "incarnation": INCARNATION,
        "hlc": clock,
        "membership_hash": membership_hash,
    }
    k = EPOCHS[0]
    fields = MACHINE + u32(index)
    return signed("incarnation", "incarnation", 0x22, 0, k.log, k.name, fields, values, body)


def dep(d):
    return d["machine"] + d["incarnation"] + u64(d["seq"]) + d["hash"]


def kind_of_inode(k):
    code = {
        "regular": 1, "directory": 2, "symlink": 3, "fifo": 4, "socket": 5, "char": 6, "block": 7,
    }[k["kind"]]
    if code == 3:
        return u8(3) + lp(k["target"])
    if code >= 6:
        return u8(code) + u32(k["major"]) + u32(k["minor"])
    return u8(code)


def op(o):
    name = o["op"]
    if name == "create":
        return (
            u8(1) + o["link"] + u64(o["ino"]) + u64(o["parent"]) + lp(o["name"])
            + kind_of_inode(o["inode"]) + u16(o["mode"]) + u32(o["uid"]) + u32(o["gid"])
            + time(o["time"])
        )
    if name == "link":
        return (
            u8(2) + o["link"] + u64(o["ino"]) + u64(o["parent"]) + lp(o["name"]) + time(o["time"])
        )
    if name == "move":
        return (
            u8(3) + o["link"] + u64(o["parent"]) + lp(o["name"]) + lst(o["replaces"])
            + time(o["time"])
        )
    if name == "remove":
        return u8(4) + o["link"] + time(o["time"])
    if name == "write":
        return (
            u8(5) + u64(o["ino"]) + u64(o["size"]) + u64(o["used"]) + time(o["mtime"])
            + time(o["ctime"]) + content(o["content"])
        )
    if name == "setattr":
        return (
            u8(6) + u64(o["ino"]) + opt(o["mode"], u16) + opt(o["uid"], u32) + opt(o["gid"], u32)
            + opt(o["atime"], time) + opt(o["mtime"], time) + time(o["ctime"])
        )
    if name == "setxattr":
        return u8(7) + u64(o["ino"]) + lp(o["name"]) + opt(o["value"], lp) + time(o["ctime"])
    assert name == "packadd"
    return u8(8) + o["pack_id"] + u32(o["epoch"]) + u64(o["size"]) + o["dir_hash"]


def link_id(i):
    return det(f"link {i}", 16)


ROOT = 1
FILE = (1 << 47) + 1


def groups():
    now = {"s": 1_900_000_002, "ns": 123_456_789}
    old = {"s": -5, "ns": 999_999_999}
    kinds = [
        {"kind": "regular"},
        {"kind": "directory"},
        {"kind": "symlink", "target": b"../elsewhere/\xff"},
        {"kind": "fifo"},
        {"kind": "socket"},
        {"kind": "char", "major": 1, "minor": 3},
        {"kind": "block", "major": 8, "minor": 2**20 + 1},
    ]
    creates = [
        {
            "op": "create", "link": link_id(i), "ino": FILE + i, "parent": ROOT,
            "name": b"name %d" % i, "inode": k, "mode": 0o644 + 0o4000 * (i % 2), "uid": 1000,
            "gid": 100 + i, "time": now,
        }
        for i, k in enumerate(kinds)
    ]
    writes = [
        {
            "op": "write", "ino": FILE, "size": 13 * i, "used": 512 * i, "mtime": now,
            "ctime": now, "content": c,
        }
        for i, c in enumerate(CONTENTS)
    ]
    others = [
        {
            "op": "link", "link": link_id(20), "ino": FILE, "parent": FILE + 1,
            "name": "\u00e9t\u00e9".encode(), "time": now,
        },
        {
            "op": "move", "link": link_id(0), "parent": FILE + 1, "name": b"moved",
            "replaces": [link_id(20), link_id(21)], "time": now,
        },
        {
            "op": "move", "link": link_id(3), "parent": ROOT, "name": b"pipe", "replaces": [],
            "time": old,
        },
        {"op": "remove", "link": link_id(4), "time": now},
        {
            "op": "setattr", "ino": FILE, "mode": 0o7777, "uid": 0, "gid": 2**32 - 1,
            "atime": old, "mtime": now, "ctime": now,
        },
        {
            "op": "setattr", "ino": FILE, "mode": None, "uid": None, "gid": None, "atime": None,
            "mtime": None, "ctime": now,
        },
        {"op": "setxattr", "ino": FILE, "name": b"user.a", "value": b"\0\1\2", "ctime": now},
        {"op": "setxattr", "ino": FILE, "name": b"user.b", "value": None, "ctime": now},
        {
            "op": "packadd", "pack_id": PACK["pack_id"], "epoch": 1, "size": len(PACK["bytes"]),
            "dir_hash": PACK["dir_hash"],
        },
    ]
    return [
        {"hlc": hlc(1_900_000_002_000 + i, i), "ops": ops}
        for i, ops in enumerate([creates, writes, others])
    ]


def segment():
    e, seq, flags = 1, 6, 1
    deps = [
        {
            "machine": OTHER_MACHINE, "incarnation": OTHER_INCARNATION, "seq": 41,
            "hash": det("dep hash"),
        }
    ]
    gs = groups()
    values = {
        "membership_hash": MEMBERSHIP["hash"],
        "machine": MACHINE,
        "incarnation": INCARNATION,
        "seq": seq,
        "prev_hash": det("previous segment hash"),
        "flags": flags,
        "deps": deps,
        "first": gs[0]["hlc"],
        "last": gs[-1]["hlc"],
        "groups": gs,
    }
    body = NS + u32(e) + MEMBERSHIP["hash"] + MACHINE + INCARNATION + u64(seq)
    body += values["prev_hash"] + u8(flags) + lst(dep(d) for d in deps)
    body += u64(values["first"]) + u64(values["last"])
    body += lst(u64(g["hlc"]) + lst(op(o) for o in g["ops"]) for g in gs)
    fields = MACHINE + INCARNATION + u64(seq)
    k = EPOCHS[e]
    return signed("segment", "segment", 0x20, e, k.log, k.name, fields, values, body)


def head():
    e, counter = 1, 12
    checkpoint = {"machine": OTHER_MACHINE, "n": 3, "root": TREE["root"]}
    values = {
        "machine": MACHINE,
        "counter": counter,
        "incarnation": INCARNATION,
        "next_seq": 7,
        "last_hash": SEGMENT["hash"],
        "hlc": hlc(1_900_000_003_000, 65535),
        "checkpoint": checkpoint,
    }
    body = NS + MACHINE + u64(counter) + INCARNATION + u64(7) + SEGMENT["hash"]
    body += u64(values["hlc"])
    body += opt(checkpoint, lambda c: c["machine"] + u64(c["n"]) + c["root"])
    fields, k = MACHINE + u64(counter), EPOCHS[e]
    return signed("head", "head", 0x21, e, k.log, k.name, fields, values, body)


# --- §10 checkpoints ---


def inode(i):
    return (
        kind_of_inode(i["inode"]) + u16(i["mode"]) + u32(i["uid"]) + u32(i["gid"])
        + u32(i["nlink"]) + u64(i["size"]) + u64(i["used"]) + time(i["atime"]) + time(i["mtime"])
        + time(i["ctime"]) + time(i["btime"]) + content(i["content"])
        + lst(lp(x["name"]) + lp(x["value"]) for x in i["xattrs"])
    )


def rows():
    """Rows of every kind; enough files that the leaves split."""
    t = {"s": 1_900_000_002, "ns": 5}

    def inode_row(ino, what, nlink, size=0, used=0, c=CONTENTS[0], xattrs=()):
        meaning = {
            "row": "inode", "ino": ino, "inode": what, "mode": 0o755, "uid": 1000, "gid": 100,
            "nlink": nlink, "size": size, "used": used, "atime": t, "mtime": t, "ctime": t,
            "btime": t, "content": c, "xattrs": list(xattrs),
        }
        return {"key": u8(2) + u64be(ino), "value": inode(meaning), "meaning": meaning}

    def dentry_row(parent, name, link, ino):
        meaning = {"row": "dentry", "parent": parent, "name": name, "link": link, "ino": ino}
        key, value = u8(3) + u64be(parent) + name, link + u64(ino)
        return {"key": key, "value": value, "meaning": meaning}

    def pack_row(pack_id, epoch, size, dir_hash):
        meaning = {
            "row": "pack", "pack_id": pack_id, "epoch": epoch, "size": size, "dir_hash": dir_hash,
        }
        value = u32(epoch) + u64(size) + dir_hash
        return {"key": u8(4) + pack_id, "value": value, "meaning": meaning}

    xattrs = [{"name": b"user.a", "value": b"1"}, {"name": b"user.b", "value": b""}]
    regular = {"kind": "regular"}
    all_rows = [
        inode_row(ROOT, {"kind": "directory"}, 2),
        inode_row(FILE, regular, 1, 13, 13, CONTENTS[1], xattrs),
        inode_row(FILE + 1, {"kind": "symlink", "target": b"t"}, 1, 1),
        pack_row(PACK["pack_id"], 1, len(PACK["bytes"]), PACK["dir_hash"]),
    ]
    all_rows += [
        inode_row(FILE + 10 + i, regular, 1, 4096 * i, 4096 * i, CONTENTS[2]) for i in range(40)
    ]
    all_rows += [dentry_row(ROOT, b"f%d" % i, link_id(100 + i), FILE + 10 + i) for i in range(80)]
    return sorted(all_rows, key=lambda r: r["key"])


def split(level, entries):
    """Cuts a level's entries, [(key, encoded)], into nodes."""
    node, size = [], 0
    for key, encoded in entries:
        node.append((key, encoded))
        size += len(encoded)
        limit = int.from_bytes(keyed(K_TID, u8(level) + key)[:4], "little") < 2**32 // 64
        assert size + 6 < 16 << 10, "the vectors do not reach the size limit"
        if limit:
            yield node
            node, size = [], 0
    if node:
        yield node


def checkpoint_tree():
    rs = rows()
    level, nodes = 0, []
    entries = [(r["key"], lp(r["key"]) + lp(r["value"])) for r in rs]
    while True:
        made = []
        for node in split(level, entries):
            encoded = u8(2) + u8(level) + lst(e for _, e in node)
            made.append(
                {
                    "level": level, "entries": len(node), "first_key": node[0][0],
                    "bytes": encoded, "id": keyed(K_TID, encoded),
                }
            )
        nodes += made
        if len(made) == 1:
            break
        level += 1
        entries = [(m["first_key"], lp(m["first_key"]) + m["id"]) for m in made]
    assert level >= 1, "the vectors must have an interior node"
    empty = u8(2) + u8(0) + lst([])
    return {
        "rows": rs,
        "nodes": nodes,
        "root": nodes[-1]["id"],
        "level": level,
        "empty": {"bytes": empty, "root": keyed(K_TID, empty)},
    }


def checkpoint():
    e, n = 1, 3
    cut = [
        {"machine": MACHINE, "incarnation": INCARNATION, "seq": 6, "hash": SEGMENT["hash"]},
        {
            "machine": OTHER_MACHINE, "incarnation": OTHER_INCARNATION, "seq": 41,
            "hash": det("dep hash"),
        },
    ]
    packs = [
        {
            "pack_id": det("node pack id", 16), "epoch": 1, "size": 70_000,
            "dir_hash": det("node pack dir hash"),
        }
    ]
    values = {
        "machine": MACHINE,
        "n": n,
        "membership_hash": MEMBERSHIP["hash"],
        "hlc": hlc(1_900_000_004_000, 1),
        "root": TREE["root"],
        "level": TREE["level"],
        "rows": len(TREE["rows"]),
        "cut": cut,
        "packs": packs,
    }
    body = NS + MACHINE + u64(n) + MEMBERSHIP["hash"] + u64(values["hlc"]) + TREE["root"]
    body += u8(TREE["level"]) + u64(len(TREE["rows"])) + lst(dep(d) for d in cut)
    body += lst(
        p["pack_id"] + u32(p["epoch"]) + u64(p["size"]) + p["dir_hash"] for p in packs
    )
    fields, k = MACHINE + u64(n), EPOCHS[e]
    return signed("checkpoint", "checkpoint", 0x31, e, k.meta, k.name, fields, values, body)


# --- all of it ---


def argon2_vectors():
    out = []
    for m_kib, t, p in [(8 << 10, 1, 1), (8 << 10, 2, 4)]:
        passphrase, salt = b"correct horse", det("argon2 salt", 16)
        key = argon2id(passphrase, salt, m_kib, t, p)
        parameters = {"m_kib": m_kib, "t": t, "p": p}
        out.append({"passphrase": passphrase, "salt": salt, **parameters, "key": key})
    return out


def sign_vectors():
    kinds = ["membership", "incarnation", "segment", "head", "checkpoint"]
    body = b"some body"
    return [
        {
            "kind": kind,
            "seed": MACHINE_SEED,
            "public": MACHINE_PK,
            "body": body,
            "signature": sign(MACHINE_SEED, kind, body),
        }
        for kind in kinds
    ]


def hexed(value):
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: hexed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hexed(item) for item in value]
    return value


BLOCKS = make_blocks()
PACK = pack()
MEMBERSHIP = membership()
TREE = checkpoint_tree()
SEGMENT = segment()


def main():
    lengths = [2, 3, 9, 100, 1023, 1024, 1025, 5004, 65_540, 262_148, 2**20, 52_428_800]
    vectors = {
        "format": 1,
        "keys": keys_vector(),
        "argon2id": argon2_vectors(),
        "padme": [[n, padme(n)] for n in lengths],
        "recovery": [
            {"code": code, "text": recovery_text(code)}
            for code in [det("recovery code", 20), bytes(20), b"\xff" * 20]
        ],
        "sign": sign_vectors(),
        "vault_header": vault_header(),
        "names": names(),
        "sealed": sealed(),
        "blocks": BLOCKS,
        "pack": PACK,
        "membership": MEMBERSHIP,
        "machine": {"id": MACHINE, "seed": MACHINE_SEED, "public": MACHINE_PK},
        "incarnation": incarnation(),
        "segment": SEGMENT,
        "head": head(),
        "content": [{"content": c, "bytes": content(c)} for c in CONTENTS],
        "manifest": manifests(),
        "checkpoint_tree": TREE,
        "checkpoint": checkpoint(),
    }
    text = json.dumps(hexed(vectors), indent=1) + "\n"
    path = pathlib.Path(__file__).with_name("vectors.json")
    if sys.argv[1:] == ["--check"]:
        if path.read_text() != text:
            sys.exit("vectors.json differs from what the script makes")
    else:
        path.write_text(text)


if __name__ == "__main__":
    main()
