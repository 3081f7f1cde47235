"""The dotted names of the leaves of a tree, as checkpoints and sharding rules have them: `params.Dense_0.kernel`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey, tree_flatten_with_path, tree_unflatten

from mnist_trials.errors import TrialError


def named(tree: Any) -> dict[str, Any]:
    """The leaves of `tree` by name, in its order.

    Raises:
        TrialError: two leaves have the same name.
    """
    leaves: dict[str, Any] = {}
    for path, leaf in tree_flatten_with_path(tree)[0]:
        name = ".".join(map(_part, path))
        if name in leaves:
            raise TrialError(f"Two parameters of the model are named {name!r}; a key of a dict may have no dot in it.")
        leaves[name] = leaf
    return leaves


def _part(key: Any) -> str:
    match key:
        case DictKey() | FlattenedIndexKey():
            return str(key.key)
        case SequenceKey():
            return str(key.idx)
        case GetAttrKey():
            return str(key.name)
    return str(key)


def refilled(tree: Any, leaves: Mapping[str, Any]) -> Any:
    """`tree` with the leaves that `leaves` has under the names of its own."""
    return tree_unflatten(jax.tree.structure(tree), [leaves[name] for name in named(tree)])


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Dicts in dicts that have `leaves` under these names."""
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *path, last = name.split(".")
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[last] = leaf
    return tree
