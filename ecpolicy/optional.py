"""Optional packages: a clear word where one is missing."""

import importlib


def require(package: str, what: str, *, extra: str | None = None) -> None:
    """Raise ImportError unless an optional package can be imported; ``what`` needs it.

    ``extra`` is the extra of ecpolicy that installs it, where that has another name.
    """
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"{what} needs {package}, which cannot be imported ({error}). Install it: "
            f'pip install "ecpolicy[{extra or package}]".'
        ) from error
