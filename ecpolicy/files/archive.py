"""Model files: a zip of one JSON document and NumPy arrays. Loading runs no code from the file.

Layout: ``policy.json`` and one ``<name>.npy`` per array, so that ``numpy.load`` opens it too.
The JSON lists every array with its dtype and shape; nothing is read before the archive's directory agrees with that
list. A file is taken for hostile: sizes are checked before memory is taken for them, and no expression is evaluated.
Files are written beside their destination and renamed into place: a crash leaves the old file or the new one. What is
written has been read once, so that nothing is saved that could not be loaded again.
"""

import errno
import glob
import json
import os
import secrets
import stat
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = "ecpolicy"
VERSION = 3
DOCUMENT = "policy.json"
LIMIT = 32 << 20  # bytes of JSON
MOST_PARTS = 1 << 18  # lists and objects in it: empty ones take twenty times their text
SMALL = 256 << 20  # bytes of arrays that any file may hold
INFLATION = 100  # larger arrays take at most so many times the file's size: probabilities are nearly noise
HEADER = 4096  # bytes that an .npy header may take
SHORT = 4096  # bytes of numbers of 64 bits that are compressed: longer columns take time and shrink little
LONGEST_NAME = 1000  # bytes, of an array
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DTYPES = {np.dtype(code).str: np.dtype(code) for code in "?bBhHiIlLqQefdg"}  # a string is looked up here, never parsed
STALE = 600  # seconds after which an unfinished file is taken for abandoned
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every archive member: equal policies give equal files

Arrays = dict[str, np.ndarray]
Document = dict[str, Any]  # JSON: None, bools, numbers and strings, and lists and objects of these


class ModelFileError(ValueError):
    """A model file that is damaged, foreign, or not what was asked for."""


class UnfitFileError(ModelFileError):
    """A model file that is whole, and of a newer format or another class than what reads it."""


def as_path(path: object) -> Path:
    """The path of a model file; raises TypeError for anything else, such as an open file."""
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise TypeError(
            f"The path of a model file must be a str or os.PathLike, such as 'policy.ecp'; got {path!r:.80} of type "
            f"{type(path).__name__}."
        )
    return Path(path)


def write(
    path: str | os.PathLike[str],
    document: Document,
    arrays: Mapping[str, np.ndarray],
    *,
    read_again: Callable[[Document, Arrays], object] = lambda document, arrays: None,
) -> None:
    """Write a document and its arrays atomically; through a symbolic link, to where it leads.

    A file that is replaced keeps its permissions; a new one has those of the process.

    Parameters
    ----------
    path : path-like
    document : mapping of what JSON has
    arrays : mapping of str to ndarray
    read_again : callable (document, arrays)
        What will read the file: where it raises, nothing is written.

    Raises
    ------
    OSError
        Naming the file and the reason; what was at ``path`` before is unchanged.
    ValueError
        Where the file could not be read again; it says why.
    """
    path = as_path(path)
    listing = {name: {"dtype": array.dtype.str, "shape": list(array.shape)} for name, array in arrays.items()}
    try:
        text = json.dumps({"format": FORMAT, "version": VERSION, **document, "arrays": listing}, indent=1)
        if len(text) > LIMIT or text.count("[") + text.count("{") > MOST_PARTS:
            raise ModelFileError(f"its description is too long for a model file ({len(text) >> 20} MiB)")
        for name in arrays:
            if not name.isprintable() or "\\" in name or not 0 < len(name.encode()) <= LONGEST_NAME:
                raise ModelFileError(f"an array cannot have the name {name!r:.80}")
            if arrays[name].dtype.str not in DTYPES:
                raise ModelFileError(f"array {name!r} cannot have the dtype {arrays[name].dtype}")
        read_again(json.loads(text), dict(arrays))
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{path} was not saved, as it could not be loaded again: {_sentence(error)}") from error
    large = sum(array.nbytes for array in arrays.values()) > SMALL  # nearly constant ones could be taken for a bomb
    with _temporary(path) as (descriptor, temporary, target):
        with os.fdopen(descriptor, "wb") as stream:
            with zipfile.ZipFile(stream, "w") as archive:
                archive.writestr(zipfile.ZipInfo(DOCUMENT, EPOCH), text, zipfile.ZIP_DEFLATED)
                for label, array in arrays.items():
                    info = zipfile.ZipInfo(f"{label}.npy", EPOCH)
                    info.file_size = array.nbytes + HEADER  # at most
                    stored = large or (array.itemsize == 8 and array.nbytes > SHORT)
                    info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
                    with archive.open(info, "w") as member:
                        plain = np.asarray(array, order="C")
                        np.lib.format.write_array(member, plain, version=(1, 0), allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)


def is_there(path: Path) -> bool:
    """Whether there is such a file; raises OSError where the system cannot tell: training must not start anew then."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise OSError where a file could not be saved at ``path``."""
    with _temporary(as_path(path)) as (descriptor, temporary, _):
        os.close(descriptor)
        temporary.unlink()


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[int, Path, Path]]:
    """An open file beside where ``path`` leads, and where that is; failures are told in the user's terms.

    The file is removed where what is done with it fails.
    """
    temporary: Path | None = None
    target = path
    try:
        target, mode = _target(path)
        descriptor, temporary = _created(target)
        if mode is not None and stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:
            with suppress(OSError):  # a file system without permissions
                temporary.chmod(mode)
        yield descriptor, temporary, target
        _remove_stale(target)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        missing = isinstance(error, FileNotFoundError) and not target.parent.is_dir()
        what = f"its folder {target.parent} does not exist" if missing else error.strerror or error
        kept = "The file that was there is unchanged." if os.path.isfile(path) else "Nothing was written."  # noqa: PTH113
        message = f"{path} could not be saved: {what}. {kept}"
        raise (type(error)(error.errno, message) if error.errno else type(error)(message)) from error


def _target(path: Path) -> tuple[Path, int | None]:
    """Where a path leads, and the permissions of the file that is there, None without one."""
    mode = None
    with suppress(FileNotFoundError):
        found = os.stat(path).st_mode  # noqa: PTH116 -- raises for a loop of links
        if not stat.S_ISREG(found):
            kind = IsADirectoryError(errno.EISDIR, "it is a folder")
            raise kind if stat.S_ISDIR(found) else OSError(errno.EINVAL, "it is not a file that could be replaced")
        mode = stat.S_IMODE(found)
    return Path(os.path.realpath(path)) if os.path.islink(path) else path, mode  # noqa: PTH114


def _created(target: Path) -> tuple[int, Path]:
    """A new file beside this one, with the permissions that the process gives to new files, and open."""
    while True:
        name = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        with suppress(FileExistsError):
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
            return os.open(name, flags, 0o666), name


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


def read(path: str | os.PathLike[str]) -> tuple[Document, Arrays]:
    """The document and the arrays of a model file, of any version.

    To be called under :func:`damage_named`.
    """
    with as_path(path).open("rb") as stream, zipfile.ZipFile(stream) as archive:
        return _read(archive, os.fstat(stream.fileno()).st_size)


@contextmanager
def damage_named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn whatever goes wrong with the content of a file into one ModelFileError that names it.

    What goes wrong with the system, such as too many open files or too little memory, is no damage and passes.
    """
    try:
        yield
    except MemoryError:
        raise
    except UnfitFileError as error:
        raise UnfitFileError(f"{path} cannot be loaded: {_sentence(error)}") from None
    except Exception as error:  # a damaged file can fail anywhere, in zlib, JSON, NumPy, Gymnasium or here
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # of impossible places in a file
            raise
        raise ModelFileError(
            f"{path} is not a usable ecpolicy model file: {_sentence(error)} It is damaged, truncated, or not what was "
            "asked for; restore it from a copy, or train again."
        ) from None


def _sentence(error: Exception) -> str:
    """What an error says, without what a terminal would obey, and short enough to be read."""
    reason = str(error) if isinstance(error, ModelFileError) else f"{type(error).__name__}: {error}"
    return "".join(letter if letter.isprintable() else " " for letter in reason[:500]).rstrip(".") + "."


def _read(archive: zipfile.ZipFile, file_size: int) -> tuple[Document, Arrays]:
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
    version = document.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        said = f"it has format version {version!r}; this release reads versions 1 to {VERSION}."
        newer = type(version) is int and version > VERSION
        raise UnfitFileError(f"{said} Upgrade ecpolicy.") if newer else ModelFileError(said)
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


def _listed(name: str, dtype: str, shape: Sequence[int]) -> tuple[np.dtype, tuple[int, ...]]:
    """An entry of the list of arrays."""
    if dtype not in DTYPES or not all(type(n) is int and n >= 0 for n in shape):
        raise ModelFileError(f"array {name!r} has dtype {dtype!r} and shape {shape!r}.")
    return DTYPES[dtype], tuple(shape)


def _array(
    archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo | None, dtype: np.dtype, shape: tuple[int, ...]
) -> np.ndarray:
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
