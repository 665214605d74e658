"""Trees: values in named tuples, tuples and dicts within each other, as the states of searches and optimizers are."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast

T = TypeVar("T")


def parts(tree: object) -> dict[str, Any] | None:
    """The parts of a dict or a tuple by name; None of anything else."""
    if isinstance(tree, Mapping):
        return {str(name): part for name, part in tree.items()}
    if isinstance(tree, tuple):
        names = tree._fields if hasattr(tree, "_fields") else map(str, range(len(tree)))
        return dict(zip(names, tree, strict=True))
    return None


def rebuilt(tree: T, values: Iterable[object]) -> T:
    """A dict or tuple like this one, of other parts."""
    if isinstance(tree, Mapping):
        return cast(T, dict(zip(tree, values, strict=True)))
    return type(tree)(*values) if hasattr(tree, "_fields") else cast(T, tuple(values))


def leaves(tree: object, where: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a tree, each with its path, such as "first/recurrent"."""
    inner = parts(tree)
    if inner is None:
        yield where, tree
    else:
        for name, part in inner.items():
            yield from leaves(part, joined(where, name))


def joined(where: str, name: str) -> str:
    """The path of a part."""
    return f"{where}/{name}" if where else name
