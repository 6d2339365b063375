#!/usr/bin/env python3
"""Writes what the fuzz targets start from into fuzz/corpus: the golden vectors, in
the form in which each target takes its input."""

import json
import pathlib
import struct

ROOT = pathlib.Path(__file__).parent.parent
VECTORS = json.loads((ROOT / "tests/golden/v1/vectors.json").read_text())
x = bytes.fromhex


def nfs_calls():
    """A call of each NFS procedure, by number, behind the handle that it begins with."""

    def text(data):
        return struct.pack(">I", len(data)) + data + bytes(-len(data) % 4)

    root = text(bytes([1]) * 17 + struct.pack(">Q", 1) + bytes(16))
    attr = struct.pack(">9I", 1, 0o644, 0, 0, 1, 0, 9, 1, 0)
    yield 2, attr + struct.pack(">I", 0)
    yield 3, text(b"name")
    yield 4, struct.pack(">I", 0x3F)
    yield 6, struct.pack(">QI", 0, 100)
    yield 7, struct.pack(">QII", 7, 4, 2) + text(b"data")
    yield 8, text(b"name") + struct.pack(">I", 0) + attr
    yield 8, text(b"excl") + struct.pack(">IQ", 2, 5)
    yield 9, text(b"dir") + attr
    yield 10, text(b"link") + attr + text(b"target")
    yield 11, text(b"node") + struct.pack(">I", 4) + attr + struct.pack(">II", 1, 3)
    yield 12, text(b"name")
    yield 13, text(b"dir")
    yield 14, text(b"name") + root + text(b"other")
    yield 15, root + text(b"name")
    yield 16, struct.pack(">QQI", 0, 0, 4096)
    yield 17, struct.pack(">QQII", 2, 0, 4096, 8192)
    yield 21, struct.pack(">QI", 0, 0)
    for procedure in (1, 5, 18, 19, 20):
        yield procedure, b""


def string(text):
    return struct.pack("<H", len(text)) + text


def message(kind, fields):
    return struct.pack("<IBH", len(fields) + 7, kind, 1) + fields


def p9_messages():
    """What a 9P client may ask of a root directory, fid 0, and an open file f, fid 1."""
    name, root, file = string(b"a"), struct.pack("<I", 0), struct.pack("<I", 1)
    lock = struct.pack("<QQI", 0, 0, 7) + string(b"host")
    yield 118, file + struct.pack("<QI", 0, 4) + b"data"
    yield 116, file + struct.pack("<QI", 2, 100)
    yield 24, file + struct.pack("<Q", 0x3FFF)
    yield 26, file + struct.pack("<IIIIQ32x", 0xF, 0o600, 1, 2, 9)
    yield 50, file + struct.pack("<I", 1)
    yield 52, file + struct.pack("<BI", 1, 1) + lock
    yield 54, file + struct.pack("<B", 0) + lock
    yield 70, root + file + name
    yield 74, root + name + root + string(b"b")
    yield 72, root + string(b"d") + struct.pack("<II", 0o755, 0)
    yield 18, root + string(b"p") + struct.pack("<IIII", 0o010644, 0, 0, 0)
    yield 16, root + string(b"l") + string(b"target") + struct.pack("<I", 0)
    yield 110, root + struct.pack("<IH", 2, 3) + string(b"d") + string(b"..") + string(b"l")
    yield 22, struct.pack("<I", 2)
    yield 110, root + struct.pack("<IH", 3, 0)
    yield 12, struct.pack("<II", 3, 0)
    yield 40, struct.pack("<IQI", 3, 0, 4096)
    yield 110, root + struct.pack("<IH", 4, 1) + string(b"f")
    yield 32, struct.pack("<I", 4) + string(b"user.x") + struct.pack("<QI", 3, 0)
    yield 118, struct.pack("<IQI", 4, 0, 3) + b"abc"
    yield 120, struct.pack("<I", 4)
    yield 30, file + struct.pack("<I", 5) + string(b"user.x")
    yield 30, file + struct.pack("<I", 6) + string(b"")
    yield 8, root
    yield 20, file + root + string(b"g")
    yield 76, root + string(b"d") + struct.pack("<I", 0x200)
    yield 108, struct.pack("<H", 1)
    yield 122, file


def seeds():
    segment = x(VECTORS["segment"]["body"])
    groups = segment[117 + 4 + 64 + 8 + 8 + 4 :]
    yield "log", b"\0" + segment
    yield "log", b"\1" + groups
    for which, record in [(2, "head"), (3, "incarnation"), (4, "checkpoint")]:
        yield "log", bytes([which]) + x(VECTORS[record]["body"])
    for content in VECTORS["content"]:
        yield "log", b"\6" + x(content["bytes"])
    # The first op, and what is left of the ops behind it.
    yield "log", b"\5" + groups[12:]

    for node in VECTORS["manifest"]:
        yield "manifest", bytes([node["level"]]) + x(node["bytes"])

    pack = VECTORS["pack"]
    directory = struct.pack("<QI", pack["dir_offset"], 3) + x(pack["dir_plain"])
    trailer = struct.pack("<QII20x", pack["dir_offset"], pack["dir_len"], 3)
    yield "packs", directory
    yield "packs", struct.pack("<QI", len(pack["bytes"]) // 2, 0) + trailer

    for row in VECTORS["checkpoint_tree"]["rows"][:3]:
        yield "rows", b"\0" + x(row["value"])
        yield "rows", b"\1" + x(row["value"]) + struct.pack("<QB", 1, 0)
    yield "rows", b"\2" + struct.pack("<16sQBI", b"l" * 16, 2, 1, 4) + b"name"
    yield "rows", b"\3" + struct.pack("<BIQ32s", 4, 1, 1280, b"h" * 32)
    yield "rows", b"\4" + bytes(34)
    yield "rows", b"\5" + x(pack["dir_plain"])[4:54]
    for which, length in [(6, 32), (7, 72), (8, 4)]:
        yield "rows", bytes([which]) + bytes(length)
    yield "rows", b"\x09\1" + struct.pack("<QI", 1 << 20, 3) + b"abc"
    yield "rows", b"\x0b" + x(pack["pack_id"]) + struct.pack("<I", 1) + x(pack["dir_plain"])[4:54]
    yield "rows", b"\x0c" + pack["pack_id"].encode()

    for row in VECTORS["checkpoint_tree"]["rows"][::10]:
        key = x(row["key"])
        yield "checkpoint", bytes([0, len(key)]) + key + x(row["value"])
    for node in VECTORS["checkpoint_tree"]["nodes"]:
        yield "checkpoint", bytes([node["level"] + 2]) + x(node["bytes"])
    yield "checkpoint", b"\1" + x(VECTORS["checkpoint"]["body"])

    yield "vault_header", x(VECTORS["vault_header"]["bytes"])
    yield "membership", bytes(4) + x(VECTORS["membership"]["body"])[94 + 4 :]
    for code in VECTORS["recovery"]:
        yield "recovery_code", code["text"].encode()
    yield "recovery_code", b"0123456789abcdef"

    for block in VECTORS["blocks"]:
        head = struct.pack("<BBI", block["type"] == 0x30, block["codec"], block["plain_len"])
        yield "blocks", head + x(block["body"])

    for which in range(7):
        yield "sealed", bytes([which]) + struct.pack("<I1020s", 32, b"p" * 32)
        yield "sealed", bytes([which]) + b"e" * 32

    owner = x(VECTORS["keys"]["owner_pk"])
    yield "identity", b"TGCFSPIN\1" + bytes(16) + owner + bytes(8)
    yield "identity", bytes(64)

    for line in [
        '{"request":"status"}',
        '{"request":"sync","is_full":true}',
        '{"event":"begin","what":"x","total":10}\n{"event":"advance","n":3}',
        '{"event":"failed","code":5,"lines":["a","b"]}',
        '{"event":"end"}\n{"event":"done","result":{"a":[1,null]}}',
    ]:
        yield "control", line.encode() + b"\n"

    begin = message(100, struct.pack("<I", 65536) + string(b"9P2000.L"))
    begin += message(104, struct.pack("<II", 0, 2**32 - 1) + 2 * string(b"") + bytes(4))
    yield "p9", begin
    walk = struct.pack("<IIH", 0, 1, 0)
    create = struct.pack("<I", 1) + string(b"f") + struct.pack("<III", 2, 0o644, 0)
    begin += message(110, walk) + message(14, create)
    yield "p9", begin + b"".join(message(*sent) for sent in p9_messages())
    for kind, fields in p9_messages():
        yield "p9", begin + message(kind, fields)

    for path in sorted((ROOT / "configs").iterdir()):
        yield "config", path.read_bytes()
    yield "config", b"10 GiB"
    yield "store_names", b"vault.7"
    yield "store_names", pack["name"].encode()
    yield "store_names", b"file:///srv/vault"

    yield "nfs", bytes([2, 0]) + struct.pack(">I", 1) + b"/\0\0\0"
    for procedure, arguments in nfs_calls():
        yield "nfs", bytes([22 + procedure, 1]) + arguments


for number, (target, seed) in enumerate(seeds()):
    folder = ROOT / "fuzz/corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed-{number:03}").write_bytes(seed)
