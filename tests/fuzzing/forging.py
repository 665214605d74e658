"""Model files put together by hand: archives whose directory may say anything, arrays of any kind, pickles that run."""

import bz2
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

STORED, DEFLATED, BZIP2 = 0, 8, 12  # compression methods of zip archives
DOCUMENT = "policy.json"


class Case(NamedTuple):
    """What a mutation works with."""

    rng: np.random.Generator
    content: bytes  # of the file to be changed
    others: list[bytes]  # further files, of all classes
    marker: str  # a file that code hidden in a model file would create
    complaint: Callable[[bytes], str]  # what the reader says of these bytes, "" where it loads them

    def pick(self, items: Iterable[Any]) -> Any:
        items = list(items)
        return items[self.rng.integers(len(items))]


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (self.marker, "w")


# Archives, written by hand: a directory may say anything


class Member(NamedTuple):
    """A member of an archive as its headers describe it."""

    name: str
    raw: bytes  # compressed
    size: int
    crc: int
    method: int = DEFLATED
    flags: int = 0


def deflated(content, ending=zlib.Z_FINISH):
    compressor = zlib.compressobj(1, zlib.DEFLATED, -15)
    return compressor.compress(content) + compressor.flush(ending)


def member(name, content, method=DEFLATED):
    raw = {DEFLATED: deflated, BZIP2: bz2.compress}.get(method, bytes)(content)
    return Member(name, raw, len(content), zlib.crc32(content), method)


def archive(members):
    """A zip archive of these members, in their order."""
    out, directory = io.BytesIO(), io.BytesIO()
    for m in members:
        name = m.name.encode("utf-8", "replace")
        small = min(m.size, 2**32 - 1)
        zip64 = struct.pack("<HHQ", 1, 8, m.size) if m.size > small else b""
        common = struct.pack("<HHHHHLLLHH", 45, m.flags | 0x800, m.method, 0, 33, m.crc, len(m.raw), small, len(name),
                             len(zip64))  # fmt: skip
        directory.write(b"PK\x01\x02" + struct.pack("<H", 45) + common + struct.pack("<HHHLL", 0, 0, 0, 0, out.tell()))
        directory.write(name + zip64)
        out.write(b"PK\x03\x04" + common + name + zip64 + m.raw)
    start, size, n = out.tell(), directory.tell(), len(members)
    end = struct.pack("<HHHHLLH", 0, 0, n, n, size, start, 0)
    return out.getvalue() + directory.getvalue() + b"PK\x05\x06" + end


def parts(content):
    """The members of an archive by name."""
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def together(members, method=DEFLATED):
    return archive([member(name, content, method) for name, content in members.items()])


def with_document(members, document):
    return {**members, DOCUMENT: document if isinstance(document, bytes) else json.dumps(document).encode()}


def arrays_of(members):
    return [name for name in members if name.endswith(".npy")]


def npy(array):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=True)
    return buffer.getvalue()


def replaced(members, name, array, dtype=None):
    """Another array in the place of ``name``, and in the document's list of them."""
    document = json.loads(members[DOCUMENT])
    listed = {"dtype": dtype or array.dtype.str, "shape": list(array.shape)}
    document["arrays"][name.removesuffix(".npy")] = listed
    return with_document({**members, name: npy(array)}, document)
