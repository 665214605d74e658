"""All ways to damage a model file or to forge a hostile one: functions of a :class:`forging.Case` that give bytes.

Bytes are changed blindly, or the archive is taken apart and put together again with valid checksums, so that what reads
it gets past the checksums and has to judge the content. ``KINDS`` names them all.
"""

import bz2
import gzip
import io
import json
import pickle
import re
import tarfile
import zlib
from functools import cache

import numpy as np

from forging import (
    BZIP2,
    DEFLATED,
    DOCUMENT,
    STORED,
    Bomb,
    Member,
    archive,
    arrays_of,
    deflated,
    member,
    npy,
    parts,
    replaced,
    together,
    with_document,
)
from mutated_documents import (
    code,
    document_keys,
    document_text,
    document_values,
    grafted,
    networks_changed,
    spaces_changed,
)

BOMB_MIB = 576


# Blind changes


def flipped(case):
    content = bytearray(case.content)
    for place in case.rng.integers(len(content), size=case.rng.integers(1, 9)):
        content[place] ^= case.rng.integers(1, 256)
    return bytes(content)


def cut_or_lengthened(case):
    a, b = sorted(case.rng.integers(len(case.content) + 1, size=2))
    b = min(b, a + int(case.rng.integers(1, 65)))
    content, noise = case.content, case.rng.bytes(int(case.rng.integers(1, 65)))
    return case.pick([
        content[:a], content[a:], content[:a] + content[b:], content[:a] + noise + content[a:],
        content[:a] + bytes(b - a) + content[b:], content[:a] + content[a:b] * 3 + content[b:], content + noise,
        noise + content, content * 2,
    ])  # fmt: skip


def spliced(case):
    """The head of one file and the tail of another."""
    other = case.pick(case.others)
    return case.content[: case.rng.integers(len(case.content))] + other[case.rng.integers(len(other)) :]


def directory_changed(case):
    """Extreme values in the fields of the archive's headers."""
    content = bytearray(case.content)
    places = [found.start() for found in re.finditer(rb"PK(\x01\x02|\x03\x04|\x05\x06)", case.content)]
    for _ in range(case.rng.integers(1, 4)):
        width = case.pick([1, 2, 4])
        start = case.pick(places) + int(case.rng.integers(4, 46))
        value = case.pick([0, 1, 2**31 - 1, 2**31, 2**32 - 1, int(case.rng.integers(2**32))])
        content[start : start + width] = value.to_bytes(4, "little")[:width]
    return bytes(content)


# Arrays


def array_values(case):
    """Values at and beyond the ends of what a number can be, often in all weights that are deployed."""
    members = parts(case.content)
    group = case.pick(["", "", "best/", "policy/", "observations/", "log_std", "connections/", "history/"])
    names = [name for name in arrays_of(members) if group in name] or arrays_of(members)
    for name in case.rng.permutation(names)[: None if group else case.rng.integers(1, 4)]:
        array = np.load(io.BytesIO(members[name]), allow_pickle=False).copy()
        if array.dtype.kind in "iu":
            limits = np.iinfo(array.dtype)
            put = case.pick([limits.min, limits.max, limits.max // 3, 0, 1, limits.max - 1])
            array.flat[slice(None) if case.rng.random() < 0.5 else slice(1)] = put
            members[name] = npy(array)
            continue
        large = float(np.finfo(array.dtype).max)
        put = case.pick([np.nan, np.inf, -np.inf, -1, 0, 1, 2, 88, 710, 1e-45, 1e30, -1e30, large, -large, large / 2])
        how = case.rng.integers(3)
        if how == 0 and array.size:
            array.flat[case.rng.integers(array.size)] = put
        elif how == 1:
            array[...] = put
        else:
            array[...] = case.rng.choice([-large, large, 0, 1], size=array.shape) * (1 if array.dtype == "f4" else 0.5)
            array[...] = np.abs(array) if "second" in name or "squares" in name or "var" in name else array
        members[name] = npy(array)
    return together(members)


def array_kinds(case):
    """Arrays of other dtypes and shapes; the document lists them, or what was there before."""
    members = parts(case.content)
    name = case.pick(arrays_of(members))
    old = np.load(io.BytesIO(members[name]), allow_pickle=False)
    shape = old.shape
    pickled = np.full(shape, None, dtype=object)
    pickled.flat[:1] = [Bomb(case.marker)]
    with np.errstate(invalid="ignore"):  # NaN as a whole number
        cast = [old.astype(dtype) for dtype in (">f4", ">f8", "f2", "f8", "f4", "c8", "c16", "i4", "?")]
    array = case.pick([
        pickled, np.zeros(shape, "f4,f8"), np.zeros(shape, [("a", "O"), ("b", "f4")]), np.zeros(shape, "S4"), *cast,
        np.zeros(shape, "U2"), np.zeros(shape, "M8[s]"), np.zeros(shape, "V4"), np.asfortranarray(old), old.T,
        old[:-1] if old.ndim else old,
        old.reshape(-1), old[None], np.resize(old, (*shape, 2)), np.zeros((0, *shape), old.dtype), old.sum(),
        np.zeros((1,) * 33, old.dtype), np.zeros((*shape, 0), old.dtype),
    ])  # fmt: skip
    if case.rng.random() < 0.3:
        return together({**members, name: npy(array)})
    dtype = case.pick(["|O", "<f4", [["a", "|O"]], {"names": ["a"], "formats": ["O"]}]) if array is pickled else None
    return together(replaced(members, name, array, dtype))


def header(text, version=(1, 0), length=None):
    """An .npy header that says anything."""
    raw = text if isinstance(text, bytes) else text.encode("latin1", "replace")
    raw += b" " * (-(len(raw) + 11) % 64) + b"\n"
    length = len(raw) if length is None else length
    return b"\x93NUMPY" + bytes(version) + length.to_bytes(2 if version == (1, 0) else 4, "little") + raw


def headers_changed(case):
    members = parts(case.content)
    name = case.pick(arrays_of(members))
    array = np.load(io.BytesIO(members[name]), allow_pickle=False)
    descr, shape = repr(array.dtype.str), repr(array.shape)
    descr = case.pick([
        descr, descr, "'|O'", "'>f4'", "'<c8'", "'V4'", "'f4,f4'", "'(2,2)<f4'", "[('a', '<f4')]", "[('a', '|O')]",
        "None", "4", "'a5'", "{'names': ['a'], 'formats': ['f4']}", "('<f4', {'x': 1})", "'M8'", code(case),
        repr(code(case)),
    ])  # fmt: skip
    shape = case.pick([
        shape, shape, shape, "(-1,)", "(10000000000000,)", "(5000000000,)", "(2**40,)", "(1.0,)", "(True,)", "('2',)",
        "[2]", "()", "None", "(2, 4,)*3", "(4294967296, 4294967296)", "(0,)*40", "(9" + "9" * 3000 + ",)", code(case),
        "(2L,)",
    ])  # fmt: skip
    order = case.pick(["False", "False", "True", "1", "'x'", "None", code(case)])
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    text = case.pick([
        text, text, text, text[:-1] + "'extra': 1}", text[:-1], text + code(case), "(" * 3000, "-" * 3000 + "1", "",
        "{}", "[" * 90 + text + "]" * 90, text.replace("'", '"'), text.replace(" ", "\t"), "# " + text, text + "\0",
        code(case), "{**" + text + "}", f"[x for x in {text}]", "\x93" * 50, text.replace("False", "not True"),
        text + " " * 5000,
    ])  # fmt: skip
    version = case.pick([(1, 0), (1, 0), (1, 0), (2, 0), (3, 0), (0, 0), (9, 9)])
    length = case.pick([None, None, None, None, 0, 1, 65535, 2**31])
    length = length if version != (1, 0) or length is None else min(length, 65535)
    return together({**members, name: header(text, version, length) + array.tobytes()})


# Histories


def histories_changed(case):
    """Columns of other lengths, kinds and names, by the thousand, or none; records of all kinds where they are text."""
    members = parts(case.content)
    document = json.loads(members[DOCUMENT])
    if "history" in document or document.get("last_record") is not None:
        value = case.pick([None, "x", 10**400, 2**63 + 1, 1e308, float("nan"), True, [1], {"a": 1}, -(2**63) - 1])
        name = case.pick(["return_mean", "generation", "a/b", "\0", "", "x" * 2000, "\ud800", "..", "\x1b[2J"])
        if "history" not in document:
            record = document["last_record"]
            document["last_record"] = case.pick([{**record, name: value}, {name: value}, {}, [record], value])
            return together(with_document(members, document))
        records = document["history"]
        document["history"] = case.pick([
            [{**record, name: value} for record in records], [*records, {name: value}], [{name: value}] * 1000, [],
            [*records, {}], [*records, None], [*records, records], records * 50, {"0": records}, [[1]], None,
            [{str(i): 1 for i in range(5000)}],
        ])  # fmt: skip
        return together(with_document(members, document))
    names = [name for name in arrays_of(members) if name.startswith("history/")]
    name = case.pick(names)
    length, dtype = case.pick([0, 1, 2, 3, 7, 1000]), case.pick(["<f8", "<i8", "<f4", "<u8", "|b1", ">f8", "<c16"])
    made = np.full(case.pick([(length,), (length, 2), ()]), case.pick([0, 1, -1, 2**62]), "f8").astype(dtype)
    how = case.rng.integers(4)
    if how == 0:
        return together(replaced(members, name, made))
    if how == 1:
        for name in names:
            members = replaced(members, name, np.zeros(length, dtype))
        return together(members)
    if how == 2:
        new = case.pick(["history/", "history/a/b", "history/..", "history/\x1b[2J", "history/" + "x" * 2000])
        return together(replaced(members, f"{new}.npy", made))
    few = case.pick([0, 1, len(names) // 2])
    document["arrays"] = {n: entry for n, entry in document["arrays"].items() if f"{n}.npy" not in names[few:]}
    return together(with_document({n: part for n, part in members.items() if n not in names[few:]}, document))


# Members


def members_changed(case):
    """Contents exchanged, names that lead out of a folder, members twice or not at all, foreign ones."""
    members = parts(case.content)
    a, b = case.pick(members), case.pick(members)
    how = case.rng.integers(6)
    if how == 0:
        members[a], members[b] = members[b], members[a]
    elif how == 1:
        del members[a]
    elif how == 2:
        name = case.pick([
            "../../" + a, "/" + a, "C:\\" + a, a + "/", "./" + a, "", "a\0.npy", "é.npy", a.upper(), "x" * 5000,
            "policy.pkl", "sitecustomize.py", "__init__.py", case.marker, "../" + case.marker,
        ])  # fmt: skip
        members[name] = members.pop(a) if case.rng.random() < 0.5 else pickle.dumps(Bomb(case.marker))
    elif how == 3 and a.endswith(".npy"):  # listed under such a name as well
        document = json.loads(members[DOCUMENT])
        name = case.pick(["../../x", "/x", "..", "", case.marker, "x\0", "policy.json/x"])
        document["arrays"][name] = document["arrays"].pop(a.removesuffix(".npy"))
        members = {f"{name}.npy": members.pop(a), **with_document(members, document)}
    elif how == 4:
        twice = [member(name, content) for name, content in members.items()]
        twice.insert(int(case.rng.integers(len(twice) + 1)), member(a, members[b]))
        return archive(twice)
    else:
        return together(dict(sorted(members.items(), reverse=True)), case.pick([STORED, DEFLATED]))
    return together(members)


def members_encoded(case):
    """Other compression methods, encryption, sizes and checksums that are not so."""
    made = [member(name, content) for name, content in parts(case.content).items()]
    i = int(case.rng.integers(len(made)))
    m, plain = made[i], parts(case.content)[made[i].name]
    other = case.pick([0, 1, plain and len(plain) - 1, len(plain) + 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**63])
    made[i] = case.pick([
        m._replace(flags=1), m._replace(flags=case.pick([8, 32, 64, 0x2000, 0xFFFF])), m._replace(crc=m.crc ^ 1),
        m._replace(method=case.pick([1, 6, 9, 12, 14, 93, 95, 98, 99, 65535])), member(m.name, plain, BZIP2),
        m._replace(size=other), m._replace(size=other, method=STORED), m._replace(raw=m.raw[:-3]), m._replace(raw=b""),
        m._replace(method=14, raw=b"\x09\x04\x05\x00\x5d\xff\xff\xff\xff" + m.raw),  # LZMA with a dictionary of 4 GiB
    ])  # fmt: skip
    return archive(made)


# Bombs


@cache
def repeated(byte, mebibytes):
    """A raw deflate stream of so many MiB of one byte, to follow a stream that ended with a full flush."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    compressor.compress(byte)
    compressor.flush(zlib.Z_FULL_FLUSH)
    block = compressor.compress(byte * (1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return block * mebibytes + compressor.flush()


@cache
def checksum(start, byte, mebibytes):
    crc = zlib.crc32(start)
    for _ in range(mebibytes):
        crc = zlib.crc32(byte * (1 << 20), crc)
    return crc


@cache
def bzip2_bomb():
    return bz2.compress(bytes(BOMB_MIB << 20))


def bombs(case):
    """Little that inflates to much: as the listing says, or against it."""
    members = parts(case.content)
    name = case.pick(members)
    plain, how = members[name], case.rng.integers(6)
    document = json.loads(members[DOCUMENT])
    others = {other: content for other, content in members.items() if other != name}
    if how == 0:  # inflates to more than the directory says, in which all is well
        raw = deflated(plain, zlib.Z_FULL_FLUSH) + repeated(b"\0", BOMB_MIB)
        return archive([*map(member, others, others.values()), Member(name, raw, len(plain), zlib.crc32(plain))])
    if how == 1:
        raw = bzip2_bomb()
        return archive([*map(member, others, others.values()), Member(name, raw, len(plain), 0, BZIP2)])
    if how == 2:  # a document of blanks
        raw = deflated(plain, zlib.Z_FULL_FLUSH) + repeated(b" ", BOMB_MIB)
        size, crc = len(plain) + (BOMB_MIB << 20), checksum(plain, b" ", BOMB_MIB)
        return archive([*map(member, others, others.values()), Member(name, raw, size, crc)])
    if how == 3:  # documents that are large for what they say
        filler = case.pick([[0] * 10**6, [[]] * 10**6, "x" * 10**7, {str(i): i for i in range(10**5)}])
        document[case.pick(["extra", *document])] = filler
        return together(with_document(members, document))
    if how == 4:  # a space of many parts, or of parts that are large together
        part = case.pick([
            {"kind": "Discrete", "n": 1, "start": 0, "dtype": "<i8"},
            {"kind": "Box", "low": 0, "high": 1, "shape": [1], "dtype": "<f4"},
            {"kind": "Box", "low": 0, "high": 1, "shape": [1 << 26], "dtype": "<f8"},
            {"kind": "Text", "min_length": 1, "max_length": 1, "charset": "ab"},
        ])  # fmt: skip
        many = case.pick([2, 100, 100_000])
        document[case.pick(["observation_space", "action_space"])] = {"kind": "Tuple", "spaces": [part] * many}
        return together(with_document(members, document))
    name = case.pick(arrays_of(members))  # arrays as large as listed
    listed = document["arrays"][name.removesuffix(".npy")]
    mebibytes = case.pick([BOMB_MIB, 8 * BOMB_MIB])
    listed["shape"] = case.pick([[mebibytes << 18], [mebibytes, 1 << 18]])
    listed["dtype"] = "<f4"
    shape = str(tuple(listed["shape"]))
    start = header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}")
    raw, size = deflated(start, zlib.Z_FULL_FLUSH) + repeated(b"\0", mebibytes), len(start) + (mebibytes << 20)
    made = with_document({other: content for other, content in members.items() if other != name}, document)
    crc = checksum(start, b"\0", mebibytes) if mebibytes == BOMB_MIB else 0
    return archive([*map(member, made, made.values()), Member(name, raw, size, crc)])


# Foreign files


def foreign(case):
    """Pickles that run code, and what else is not a model file."""
    bomb = Bomb(case.marker)
    pickled = pickle.dumps(bomb, protocol=int(case.rng.integers(6)))
    objects, npz, tar = npy(np.array([bomb], dtype=object)), io.BytesIO(), io.BytesIO()
    np.savez(npz, a=np.array([bomb], dtype=object))
    with tarfile.open(fileobj=tar, mode="w") as packed:
        packed.addfile(tarfile.TarInfo("policy.json"))
    document = parts(case.content)[DOCUMENT]
    return case.pick([
        pickled, gzip.compress(pickled), bz2.compress(pickled), zlib.compress(pickled), objects, npz.getvalue(),
        together({"archive/data.pkl": pickled, "archive/version": b"3\n"}), together({"policy.pkl": pickled}),
        together({DOCUMENT: pickled}), together({DOCUMENT: document}), together({DOCUMENT: b"{}"}), together({}),
        together({DOCUMENT: document, **dict.fromkeys(arrays_of(parts(case.content)), objects)}), document,
        together({DOCUMENT: document, **dict.fromkeys(arrays_of(parts(case.content)), pickled)}), b"", b"\0" * 1000,
        pickled + case.content, case.content + pickled, tar.getvalue(), f"import os; {code(case)}".encode(),
        f"#!/bin/sh\ntouch {case.marker}\n".encode(), case.rng.bytes(int(case.rng.integers(1, 5000))),
        b"PK\x03\x04" * 99, b"PK\x05\x06", b"\x89HDF\r\n\x1a\n" + bytes(500), b"\x7fELF" + bytes(500),
        case.content.replace(b"PK", b"KP"),
    ])  # fmt: skip


KINDS = {  # how, and how often
    flipped: 3, cut_or_lengthened: 3, spliced: 2, directory_changed: 3, document_values: 6, document_keys: 3,
    document_text: 1.5, spaces_changed: 2, networks_changed: 1.5, grafted: 1.5, array_values: 3, array_kinds: 2,
    histories_changed: 2,
    headers_changed: 3, members_changed: 2, members_encoded: 2, bombs: 0.5, foreign: 1.5,
}  # fmt: skip


def mutated(case):
    """A way to mutate, and the file that it makes."""
    weights = np.array(list(KINDS.values()))
    kind = list(KINDS)[case.rng.choice(weights.size, p=weights / weights.sum())]
    with np.errstate(all="ignore"):
        return kind.__name__, kind(case)
