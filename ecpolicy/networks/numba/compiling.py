"""How kernels are compiled: without the GIL, in one thread, and kept on disk where a folder can be written to."""

import multiprocessing
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from numba import njit
from numba.core.base import BaseContext
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.typing.templates import Signature

Kernel: TypeAlias = Callable[..., Any]  # a function of compiled code alone, whose values have types of Numba's own
Function = TypeVar("Function", bound=Callable[..., object])

_told: list[str] = []  # why kernels could not be kept, once it was said: one warning is enough for a process


def compiled(function: Function) -> Function:
    """Compile a kernel on first use; later processes find it on disk.

    A disk is not needed: where nothing can be written, or what is there cannot be read, every process compiles its own,
    and says so in one RuntimeWarning when it compiles the first. Importing neither fails nor warns.
    """
    kernel: Any = njit(nogil=True, error_model="numpy")(function)
    try:
        kernel.enable_caching()
    except Exception:  # Numba found no folder to write to, or no source to tell whether the kernel changed
        kernel._cache = _Spare(NullCache(), "there is no folder that they can be written to")
    else:
        kernel._cache = _Spare(kernel._cache)
    made: Function = kernel
    return made


class _Spare(NullCache):
    """A cache of Numba that is never the reason why a kernel fails."""

    def __init__(self, cache: Any, lacking: str | None = None) -> None:
        self._cache = cache
        self._lacking = lacking

    @property
    def cache_path(self) -> object:
        return self._cache.cache_path

    def load_overload(self, signature: Signature, target_context: BaseContext) -> object:
        """What was compiled before, or None."""
        try:
            return self._cache.load_overload(signature, target_context)
        except OSError as error:  # a file of somebody else's
            self._lacking = f"{type(error).__name__}: {error}"
        except Exception:  # a damaged file
            self.flush()
        return None

    def save_overload(self, signature: Signature, result: CompileResult) -> None:
        """Keep what was compiled; where that fails, say so once."""
        self._attempt(self._cache.save_overload, signature, result)
        if self._lacking is not None:
            _tell(self._lacking)

    def flush(self) -> None:
        """Forget what was compiled before."""
        self._attempt(self._cache.flush)

    def _attempt(self, write: Callable[..., None], *arguments: object) -> None:
        if self._lacking is None:
            try:
                write(*arguments)
            except Exception as error:  # the folder became read-only, or the disk full
                self._lacking = f"{type(error).__name__}: {error}"


def _tell(reason: str) -> None:
    in_a_worker = type(multiprocessing.current_process()).__name__ == "LokyProcess"  # joblib's: its parent has said so
    if _told or in_a_worker:
        return
    _told.append(reason)
    warnings.warn(
        f"Compiled kernels cannot be kept on disk ({reason}): every process compiles its own, which takes some "
        "seconds. To keep them, set the environment variable NUMBA_CACHE_DIR to a folder that can be written to "
        "before ecpolicy is imported.",
        RuntimeWarning,
        stacklevel=2,
    )
