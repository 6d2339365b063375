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
    """A call of each NFS procedure, by number, behind the handle that it begins with, and
    without the second one that RENAME and LINK have: the target puts both in."""

    def text(data):
        return struct.pack(">I", len(data)) + data + bytes(-len(data) % 4)

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
    yield 14, text(b"name") + text(b"other")
    yield 15, text(b"name")
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


def membership_seeds():
    """A first record; what a second one says behind the namespace's secret: in the same
    epoch, in the next one with what is handed on put in by the target, and without."""
    body = x(VECTORS["membership"]["body"])[94:]
    name_len = struct.unpack_from("<I", body, 4)[0]
    rest = struct.pack("<I", 128 << 10) + body[8 + name_len + 32 + 4 :]
    yield "membership", bytes([0, 0]) + bytes(4) + body[4:]
    yield "membership", bytes([1, 0]) + rest
    # Without the byte that says that no secret is handed on.
    yield "membership", bytes([2, 1]) + rest[:21] + rest[22:]
    yield "membership", bytes([3, 15]) + rest


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
    yield "rows", b"\x0c" + struct.pack(">Q16s", 1, b"h" * 16)
    yield "rows", b"\x0d" + pack["pack_id"].encode()

    for row in VECTORS["checkpoint_tree"]["rows"][::10]:
        key = x(row["key"])
        yield "checkpoint", bytes([0, len(key)]) + key + x(row["value"])
    for node in VECTORS["checkpoint_tree"]["nodes"]:
        yield "checkpoint", bytes([node["level"] + 2]) + x(node["bytes"])
    yield "checkpoint", b"\1" + x(VECTORS["checkpoint"]["body"])

    yield "vault_header", x(VECTORS["vault_header"]["bytes"])
    yield from membership_seeds()
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
    yield "identity", struct.pack("<Q32sI", 3, b"h" * 32, 1) + struct.pack("<16s8sQ32s", b"m" * 16, b"i" * 8, 5, b"h" * 32)

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
    yield "p9", b"\0" + begin
    walk = struct.pack("<IIH", 0, 1, 0)
    create = struct.pack("<I", 1) + string(b"f") + struct.pack("<III", 2, 0o644, 0)
    begin += message(110, walk) + message(14, create)
    yield "p9", b"\x03" + begin + b"".join(message(*sent) for sent in p9_messages())
    for kind, fields in p9_messages():
        yield "p9", b"\0" + begin + message(kind, fields)

    # A write that is received into memory of its own.
    large = struct.pack("<IQI", 1, 0, 60_000) + bytes(60_000)
    yield "p9", b"\x0c" + begin + message(118, large) + message(120, struct.pack("<I", 1))

    for path in sorted((ROOT / "configs").iterdir()):
        yield "config", path.read_bytes()
    yield "config", b"10 GiB"
    yield from local_seeds()
    yield "kernel", kernel_seed()
    yield "store_names", b"vault.7"
    yield "store_names", pack["name"].encode()
    yield "store_names", b"file:///srv/vault"

    yield "nfs", bytes([2, 0]) + struct.pack(">I", 1) + b"/\0\0\0"
    for procedure, arguments in nfs_calls():
        yield "nfs", bytes([22 + procedure, 1]) + arguments


def local_seeds():
    for table in range(11):
        yield "database", bytes([11 + table]) + b"the key." + b"the row"
    # The two version numbers, the first page's count of cells, a row, the schema.
    for place in [18, 24, 60, 68, 100, 103, 4000, 4096, 8192, 16384]:
        yield "database", b"\0" + struct.pack("<IB", place, 2) + b"\1\2"
    for place in [0, 8, 24, 32, 56, 5000]:
        yield "database", b"\1" + struct.pack("<IB", place, 4) + b"\0\0\0\1"
    yield "database", b"\2SQLite format 3\0" + bytes(84)
    yield "database", b"\3" + struct.pack(">8I", 0x377F0682, 3007000, 4096, 0, 1, 2, 3, 4)

    whole, half = b"\1\1\1", b"\1\0\1"
    for present in [b"", whole, half, b"\1" * 300, b"\2\0"]:
        for length in [0, 1 << 20, (2 << 20) + 100, 0xFFFFFFFF]:
            name = b"0123456789abcdef" * 2 + b".map"
            ranges = bytes([0, 255, 100, 10, 200, 255, 0, 0])
            yield "parts", struct.pack("<IB", length, 0) + ranges + bytes([len(name)]) + name + present

    table = b"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/a\\040b rw,nosuid - fuse.tgcryptfs tgcryptfs rw,user_id=0
31 22 0:41 / /mnt/\\134 rw shared:9 master:1 - fuse tgcryptfs rw
"""
    yield "mounts", b"\0" + table
    yield "mounts", b"\1mnt\xfefuse.tgcryptfs\xfetgcryptfs\xffa b\xfefuse\xfetgcryptfs\xffa b\xfetmpfs\xfex"
    record = {"mount_point": "/mnt/x", "store": "file:///srv/v", "pid": 1, "via": "fuse"}
    record |= {"is_read_only": False, "since_s": 5, "log": None}
    yield "mounts", b"\2" + json.dumps(record).encode()

    for text in [b"secret\n", b"caf\xc3\xa9\r\n", b"k" * 32, b"\n", b"\xff\xfe"]:
        yield "passwords", b"\0" + text
        yield "passwords", b"\1" + text
    code = VECTORS["recovery"][0]["text"].encode()
    for kind, rest in [(b"passphrase", b"two\nlines"), (b"key-file", b"k" * 32), (b"recovery-code", code)]:
        yield "passwords", b"\2" + kind + b"\n" + rest


def kernel_seed():
    """Requests as the kernel sends them: each of its operations once."""

    def request(opcode, ino, *fields):
        # Text is a name, a pair is a number of 32 bits, the rest are numbers of 64.
        def packed(field):
            match field:
                case str():
                    return field.encode() + b"\0"
                case (number,):
                    return struct.pack("=I", number)
                case bytes():
                    return field
            return struct.pack("=Q", field)

        arguments = b"".join(map(packed, fields))
        return struct.pack("<BHBB", 0, len(arguments), opcode, ino) + arguments

    # The root is inode 1, the first file 2; handles are counted from 1.
    requests = [
        request(26, 0, (7,), (44,), (1 << 17,), (0xFFFFFFFF,), (0xFFFFFFFF,), bytes(44)),
        request(35, 1, (0o102,), (0o100644,), (0,), (0,), "file"),
        request(16, 2, 1, 0, (5,), (0,), 0, (0o102,), (0,), b"hello"),
        request(15, 2, 1, 0, (4096,), (0,), 0, (0,), (0,)),
        request(3, 2, (1,), (0,), 1),
        request(4, 2, (0x7F,), (0,), 1, 3, 0, 7, 8, 9, (1,), (2,), (3,), (0o644,), (0,), (1000,), (1000,), (0,)),
        request(9, 1, (0o755,), (0,), "dir"),
        request(8, 1, (0o010644,), (0,), (0,), (0,), "pipe"),
        request(6, 1, "link", "target"),
        request(5, 5),
        request(13, 3, 2, "hard"),
        request(1, 1, "file"),
        request(1, 3, ".."),
        request(21, 2, (5,), (0,), "user.x", b"value"),
        request(22, 2, (0,), (0,), "user.x"),
        request(22, 2, (100,), (0,), "user.x"),
        request(23, 2, (100,), (0,)),
        request(24, 2, "user.x"),
        request(27, 1, (0,), (0,)),
        request(28, 1, 2, 0, (4096,), (0,), 0, (0,), (0,)),
        request(44, 1, 2, 0, (4096,), (0,), 0, (0,), (0,)),
        request(30, 1, 2, (0,), (0,)),
        request(29, 1, 2, (0,), (0,), 0),
        request(14, 2, (2,), (0,)),
        request(43, 2, 1, 0, 8192, (0,), (0,)),
        request(46, 2, 1, 0, (4,), (0,)),
        request(47, 2, 1, 0, 2, 3, 0, 3, 0),
        request(20, 2, 1, (1,), (0,)),
        request(25, 2, 1, (0,), (0,), 0),
        request(12, 1, 3, "hard", "moved"),
        request(45, 1, 3, (1,), (0,), "pipe", "pipe"),
        request(10, 1, "link"),
        request(11, 1, "dir"),
        request(17, 1),
        request(18, 2, 1, (0,), (0,), 0),
        request(2, 2, 1),
        request(42, 0, (1,), (0,), 2, 1),
        request(39, 2, 1, (0,), (0,), 0, (0,), (0,)),
        request(38, 0),
    ]
    raw = struct.pack("=IIQQIIIHH", 45, 1, 99, 1, 0, 0, 0, 0, 0) + b"file\0"
    requests.append(struct.pack("<BH", 1, len(raw)) + raw)
    return b"\0" + b"".join(requests)


for number, (target, seed) in enumerate(seeds()):
    folder = ROOT / "fuzz/corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed-{number:03}").write_bytes(seed)
