"""Model files: a zip of one JSON document and NumPy arrays. Loading runs no code from the file.

Layout (format version 1): ``policy.json`` and one ``<name>.npy`` per array, so that ``numpy.load`` opens it too. The
JSON lists every array with its dtype and shape; nothing is read before the archive's directory agrees with that list.
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

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

FORMAT = "ecpolicy"
VERSION = 1
DOCUMENT = "policy.json"
LIMIT = 64 << 20  # bytes of JSON
LARGEST_BOX = 1 << 26  # numbers in an observation or action
HEADER = 4096  # bytes that an .npy header may take
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
    """
    path = Path(path)
    listing = {name: {"dtype": array.dtype.str, "shape": list(array.shape)} for name, array in arrays.items()}
    text = json.dumps({"format": FORMAT, "version": VERSION, **document, "arrays": listing}, indent=1, allow_nan=False)
    with _temporary(path) as (descriptor, temporary):
        with os.fdopen(descriptor, "wb") as stream:
            with zipfile.ZipFile(stream, "w") as archive:
                _add(archive, DOCUMENT, text)
                for label, array in arrays.items():
                    buffer = BytesIO()
                    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
                    _add(archive, f"{label}.npy", buffer.getvalue())
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
        _sync_folder(path.parent)


def _add(archive: zipfile.ZipFile, name: str, content: str | bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)


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
        return _read(archive)


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
            f"{path} is not a usable ecpolicy model file: {reason.rstrip('.')}. It is damaged, truncated, or not what "
            "was asked for; restore it from a copy, or train again."
        ) from None


def _read(archive: zipfile.ZipFile) -> tuple[dict[str, Any], Arrays]:
    members = {info.filename: info for info in archive.infolist()}
    if DOCUMENT not in members:
        raise ModelFileError(f"it holds no {DOCUMENT}.")
    if members[DOCUMENT].file_size > LIMIT:
        raise ModelFileError(f"its {DOCUMENT} is larger than {LIMIT >> 20} MiB.")
    document = json.loads(archive.read(DOCUMENT))
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModelFileError(f"its {DOCUMENT} does not say format {FORMAT!r}.")
    if document.get("version") != VERSION:
        raise ModelFileError(
            f"it has format version {document.get('version')!r}; this release reads version {VERSION}. "
            "Upgrade ecpolicy, or save the policy again with a matching release."
        )
    arrays = {}
    for name, listed in document["arrays"].items():
        dtype, shape = np.dtype(listed["dtype"]), tuple(int(n) for n in listed["shape"])
        if dtype.hasobject or dtype.kind not in "biuf" or min(shape, default=0) < 0:
            raise ModelFileError(f"array {name!r} has dtype {dtype} and shape {shape}.")
        info = members.get(f"{name}.npy")
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if info is None or not size <= info.file_size <= size + HEADER:
            raise ModelFileError(f"array {name!r} is missing or does not have the listed size.")
        array = np.lib.format.read_array(BytesIO(archive.read(info)), allow_pickle=False, max_header_size=HEADER)
        if array.dtype != dtype or array.shape != shape:
            raise ModelFileError(f"array {name!r} is {array.dtype} {array.shape}; listed is {dtype} {shape}.")
        arrays[name] = array
    return document, arrays


def take(arrays: Arrays, name: str, dtype: str, shape: tuple[int, ...], low: float, high: float) -> NDArray[Any]:
    """The array ``name``, checked for dtype, shape and range."""
    if name not in arrays:
        raise ModelFileError(f"array {name!r} is missing.")
    array = arrays[name]
    if array.dtype != np.dtype(dtype) or array.shape != shape:
        raise ModelFileError(f"array {name!r} is {array.dtype} {array.shape}; wanted {dtype} {shape}.")
    if not np.all((array >= low) & (array <= high)):  # also finds NaN
        raise ModelFileError(f"array {name!r} has values outside [{low}, {high}].")
    return array


def space_to_json(space: gym.Space[Any]) -> dict[str, Any]:
    """A description of a space that :func:`space_from_json` turns back into an equal one."""
    match space:
        case spaces.Box():
            return {
                "kind": "Box",
                "low": _bound_to_json(space.low),
                "high": _bound_to_json(space.high),
                "shape": list(space.shape),
                "dtype": space.dtype.str,
            }
        case spaces.Discrete():
            return {
                "kind": "Discrete",
                "n": int(space.n),
                "start": int(space.start),
                "dtype": np.dtype(space.dtype).str,
            }
        case spaces.MultiDiscrete():
            return {
                "kind": "MultiDiscrete",
                "nvec": space.nvec.tolist(),
                "start": space.start.tolist(),
                "dtype": np.dtype(space.dtype).str,
            }
        case spaces.MultiBinary():
            return {"kind": "MultiBinary", "n": list(space.shape)}
        case spaces.Tuple():
            return {"kind": "Tuple", "spaces": [space_to_json(part) for part in space.spaces]}
        case spaces.Dict():
            return {"kind": "Dict", "spaces": [[name, space_to_json(part)] for name, part in space.spaces.items()]}
        case spaces.Text():
            return {
                "kind": "Text",
                "min_length": space.min_length,
                "max_length": space.max_length,
                "charset": "".join(space.character_list),
            }
        case spaces.OneOf():
            return {"kind": "OneOf", "spaces": [space_to_json(part) for part in space.spaces]}
    raise TypeError(
        f"A policy for the space {space} cannot be saved: no description of {type(space).__name__} is known."
    )


def space_from_json(description: Mapping[str, Any]) -> gym.Space[Any]:
    """The space of a description; raises ModelFileError where it makes no sense."""
    try:
        return _space_from_json(description)
    except Exception as error:
        raise ModelFileError(f"it describes an impossible space: {error!r}.") from None


def _space_from_json(d: Mapping[str, Any]) -> gym.Space[Any]:
    match d["kind"]:
        case "Box":
            dtype, shape = np.dtype(d["dtype"]), tuple(d["shape"])
            if prod(shape) > LARGEST_BOX:
                raise ValueError(f"a Box of shape {shape}")
            low, high = (_bound_from_json(d[side], shape, dtype) for side in ("low", "high"))
            return spaces.Box(low, high, shape, dtype.type)
        case "Discrete":
            return spaces.Discrete(d["n"], start=d["start"], dtype=np.dtype(d["dtype"]).type)
        case "MultiDiscrete":
            return spaces.MultiDiscrete(
                np.array(d["nvec"]), dtype=np.dtype(d["dtype"]).type, start=np.array(d["start"])
            )
        case "MultiBinary":
            return spaces.MultiBinary(d["n"] if len(d["n"]) > 1 else d["n"][0])
        case "Tuple":
            return spaces.Tuple([_space_from_json(part) for part in d["spaces"]])
        case "Dict":
            return spaces.Dict([(name, _space_from_json(part)) for name, part in d["spaces"]])
        case "Text":
            return spaces.Text(d["max_length"], min_length=d["min_length"], charset=d["charset"])
        case "OneOf":
            return spaces.OneOf([_space_from_json(part) for part in d["spaces"]])
    raise ValueError(f"unknown kind {d['kind']!r}")


def _bound_to_json(bound: NDArray[Any]) -> Any:
    """One number where all are equal, else a list; infinities as strings, as JSON has none."""
    if bound.size and np.all(bound == bound.flat[0]):
        return _number_to_json(bound.flat[0].item())
    return [_number_to_json(value) for value in bound.reshape(-1).tolist()]


def _number_to_json(value: float) -> float | str:
    return value if np.isfinite(value) else str(value)


def _bound_from_json(bound: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    convert = float if dtype.kind == "f" else int
    if isinstance(bound, list):
        return np.array([convert(value) for value in bound], dtype=dtype).reshape(shape)
    return np.full(shape, convert(bound), dtype=dtype)
