"""Nested tuples, lists and dicts of leaves, taken apart and put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any


def flatten(tree: Any, leaves: list[Any]) -> Any:
    """Appends the leaves in order; the result is a hashable description of the structure."""
    if isinstance(tree, tuple):
        kind = type(tree) if hasattr(tree, "_fields") else tuple
        return (kind, tuple(flatten(v, leaves) for v in tree))
    if isinstance(tree, list):
        return (list, tuple(flatten(v, leaves) for v in tree))
    if isinstance(tree, dict):
        return (dict, tuple((k, flatten(v, leaves)) for k, v in tree.items()))
    leaves.append(tree)
    return None


def unflatten(structure: Any, leaves: Iterator[Any]) -> Any:
    """The tree of a description with these leaves."""
    if structure is None:
        return next(leaves)
    kind, parts = structure
    if kind is dict:
        return {k: unflatten(v, leaves) for k, v in parts}
    values = [unflatten(v, leaves) for v in parts]
    if kind is list:
        return values
    return tuple(values) if kind is tuple else kind(*values)


def map(function: Callable[[Any], Any], tree: Any) -> Any:
    leaves: list[Any] = []
    structure = flatten(tree, leaves)
    return unflatten(structure, iter([function(v) for v in leaves]))


def leaves_of(tree: Any) -> Sequence[Any]:
    leaves: list[Any] = []
    flatten(tree, leaves)
    return leaves
