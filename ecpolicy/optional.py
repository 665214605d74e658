"""Optional packages: a clear word where one is missing."""

import importlib
import importlib.metadata
import json
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname


def require(package: str, what: str, *, extra: str | None = None) -> None:
    """Raise ImportError unless an optional package can be imported; ``what`` needs it.

    ``extra`` is the extra of ecpolicy that installs it, where that has another name.
    """
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"{what} needs {package}, which cannot be imported ({error}). Install it: "
            f'pip install "{_installed_from()}[{extra or package}]".'
        ) from error


def _installed_from() -> str:
    """What pip was given for this package: a clone or a wheel, while it is there, or else the name."""
    with suppress(importlib.metadata.PackageNotFoundError):
        origin = json.loads(importlib.metadata.distribution("ecpolicy").read_text("direct_url.json") or "{}")
        url = urlparse(origin.get("url", ""))
        path = url2pathname(url.path)
        if url.scheme == "file" and Path(path).exists():
            return path
    return "ecpolicy"
