"""Model files: a zip of one JSON document and NumPy arrays. Loading runs no code from the file.

Layout (format version 1): ``policy.json`` and one ``<name>.npy`` per array, so that ``numpy.load`` opens it too. The
JSON lists every array with its dtype and shape; nothing is read before the archive's directory agrees with that list.
A file is taken for hostile: sizes are checked before memory is taken for them, and no expression is evaluated.
Files are written beside their destination and renamed into place: a crash leaves the old file or the new one.
"""

import errno
import glob
import json
import os
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = "ecpolicy"
VERSION = 1
DOCUMENT = "policy.json"
LIMIT = 32 << 20  # bytes of JSON
MOST_PARTS = 1 << 18  # lists and objects in it: empty ones take twenty times their text
SMALL = 256 << 20  # bytes of arrays that any file may hold
INFLATION = 100  # larger arrays take at most so many times the file's size: probabilities are nearly noise
HEADER = 4096  # bytes that an .npy header may take
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DTYPES = {np.dtype(code).str: np.dtype(code) for code in "?bBhHiIlLqQefdg"}  # a string is looked up here, never parsed
STALE = 600  # seconds after which an unfinished file is taken for abandoned
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every archive member: equal policies give equal files

Arrays = dict[str, NDArray[Any]]


class ModelFileError(ValueError):
    """A model file that is damaged, foreign, or not what was asked for."""


def write(path: str | os.PathLike[str], document: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a document and its arrays atomically.

    Raises
    ------
    OSError
        Naming the file and the reason; what was at ``path`` before is unchanged.
    ValueError
        Where the document, which holds the history, is larger than what would be read again.
    """
    path = Path(path)
    listing = {name: {"dtype": array.dtype.str, "shape": list(array.shape)} for name, array in arrays.items()}
    text = json.dumps({"format": FORMAT, "version": VERSION, **document, "arrays": listing}, indent=1, allow_nan=False)
    if len(text) > LIMIT or text.count("[") + text.count("{") > MOST_PARTS:
        raise ValueError(f"{path} was not saved: its history is too long for a model file ({len(text) >> 20} MiB).")
    large = sum(array.nbytes for array in arrays.values()) > SMALL  # nearly constant ones could be taken for a bomb
    method = zipfile.ZIP_STORED if large else zipfile.ZIP_DEFLATED
    with _temporary(path) as (descriptor, temporary):
        with os.fdopen(descriptor, "wb") as stream:
            with zipfile.ZipFile(stream, "w") as archive:
                archive.writestr(zipfile.ZipInfo(DOCUMENT, EPOCH), text, zipfile.ZIP_DEFLATED)
                for label, array in arrays.items():
                    buffer = BytesIO()
                    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
                    archive.writestr(zipfile.ZipInfo(f"{label}.npy", EPOCH), buffer.getvalue(), method)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
        _sync_folder(path.parent)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise OSError where a file could not be saved at ``path``."""
    path = Path(path)
    with _temporary(path) as (descriptor, temporary):
        os.close(descriptor)
        temporary.unlink()


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[int, Path]]:
    """An open file beside ``path``, removed where what is done with it fails; failures are told in the user's terms."""
    temporary: Path | None = None
    try:
        if os.path.isdir(path):  # noqa: PTH112 -- unlike Path's, it does not raise
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        yield descriptor, temporary
        _remove_stale(path)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        missing = isinstance(error, FileNotFoundError)
        what = f"its folder {path.parent} does not exist" if missing else error.strerror or error
        kept = "The file that was there is unchanged." if os.path.isfile(path) else "Nothing was written."  # noqa: PTH113
        message = f"{path} could not be saved: {what}. {kept}"
        raise (type(error)(error.errno, message) if error.errno else type(error)(message)) from error


def _remove_stale(path: Path) -> None:
    """Remove what processes that were killed while saving to ``path`` have left."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError):  # another process may remove it, or own it
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename outlast a loss of power, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Arrays]:
    """The document and the arrays of a model file.

    To be called under :func:`damage_named`.
    """
    with Path(path).open("rb") as stream, zipfile.ZipFile(stream) as archive:
        return _read(archive, os.fstat(stream.fileno()).st_size)


@contextmanager
def damage_named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn whatever goes wrong with the content of a file into one ModelFileError that names it."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except Exception as error:  # a damaged file can fail anywhere, in zlib, JSON, NumPy, Gymnasium or here
        reason = str(error) if isinstance(error, ModelFileError) else f"{type(error).__name__}: {error}"
        raise ModelFileError(
            f"{path} is not a usable ecpolicy model file: {_printable(reason).rstrip('.')}. It is damaged, truncated, "
            "or not what was asked for; restore it from a copy, or train again."
        ) from None


def _printable(reason: str) -> str:
    """A reason without what a terminal would obey, and short enough to be read."""
    return "".join(letter if letter.isprintable() else " " for letter in reason[:500])


def _read(archive: zipfile.ZipFile, file_size: int) -> tuple[dict[str, Any], Arrays]:
    members = {info.filename: info for info in archive.infolist()}
    if len(members) < len(archive.infolist()):
        raise ModelFileError("it holds a member twice.")
    if DOCUMENT not in members:
        raise ModelFileError(f"it holds no {DOCUMENT}.")
    if members[DOCUMENT].file_size > LIMIT:
        raise ModelFileError(f"its {DOCUMENT} is larger than {LIMIT >> 20} MiB.")
    text = _content(archive, members[DOCUMENT])
    if text.count(b"[") + text.count(b"{") > MOST_PARTS:
        raise ModelFileError(f"its {DOCUMENT} has more than {MOST_PARTS} parts.")
    document = json.loads(text.decode())
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModelFileError(f"its {DOCUMENT} does not say format {FORMAT!r}.")
    if document.get("version") != VERSION:
        raise ModelFileError(
            f"it has format version {document.get('version')!r}; this release reads version {VERSION}. "
            "Upgrade ecpolicy, or save the policy again with a matching release."
        )
    listing = {name: _listed(name, **listed) for name, listed in document["arrays"].items()}
    total = sum(prod(shape) * dtype.itemsize for dtype, shape in listing.values())
    if total > max(SMALL, INFLATION * file_size):
        raise ModelFileError(f"its {file_size} bytes would become {total} bytes of arrays.")
    return document, {name: _array(archive, name, members.get(f"{name}.npy"), *listing[name]) for name in listing}


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The bytes of a member: no more than the archive's directory says, however far they would inflate."""
    if info.compress_type not in METHODS:  # the others inflate as far as they can
        raise ModelFileError(f"{info.filename!r} is compressed by method {info.compress_type}.")
    with archive.open(info) as stream:
        return stream.read(info.file_size)


def _listed(name: str, dtype: Any, shape: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """An entry of the list of arrays."""
    if dtype not in DTYPES or not all(type(n) is int and n >= 0 for n in shape):
        raise ModelFileError(f"array {name!r} has dtype {dtype!r} and shape {shape!r}.")
    return DTYPES[dtype], tuple(shape)


def _array(
    archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo | None, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    """An array as listed. Its header is compared with the one that was written: NumPy would evaluate it."""
    size = prod(shape) * dtype.itemsize
    if info is None or not size <= info.file_size <= size + HEADER:
        raise ModelFileError(f"array {name!r} is missing or does not have the listed size.")
    content = _content(archive, info)
    start = 10 + int.from_bytes(content[8:10], "little")
    header = content[10:start].decode("latin1").rstrip()
    wanted = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': {shape}, }}"
    if content[:8] != b"\x93NUMPY\x01\x00" or header != wanted or len(content) != start + size:
        raise ModelFileError(f"array {name!r} is {header!r}; listed is {dtype} {shape}.")
    return np.frombuffer(content, dtype, offset=start).reshape(shape).copy()


def take(arrays: Arrays, name: str, dtype: str, shape: tuple[int, ...], low: float, high: float) -> NDArray[Any]:
    """The array ``name``, checked for dtype, shape and range."""
    if name not in arrays:
        raise ModelFileError(f"array {name!r} is missing; wanted {dtype} {shape}.")
    array = arrays[name]
    if array.dtype != np.dtype(dtype) or array.shape != shape:
        raise ModelFileError(f"array {name!r} is {array.dtype} {array.shape}; wanted {dtype} {shape}.")
    if not np.all((array >= low) & (array <= high)):  # also finds NaN
        raise ModelFileError(f"array {name!r} has values outside [{low}, {high}].")
    return array
