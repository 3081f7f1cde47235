"""What each rank of a trial has of its own in a checkpoint, and how it is given back, on another mesh too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, final

import torch

from mnist_trials.plugin import Layout, Piece, Ranks, Spread
from mnist_trials.training.torch_models.stepper import mean_of_gradients

_SINGLE: Final = {"data": 1, "tensor": 1, "shard": False}


@final
class OwnStates:
    """The parts of a checkpoint's state that differ from rank to rank.

    Each is a map with `execution` (random numbers), `training_metrics` (the open reporting period), `metric_objects`
    and `gradients` (of the open group, whole). That of rank 0 lies in the state where a single process has it, those of
    the others in `ranks`; `mesh` says how the ranks were arranged. A single process adds neither.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        """`state` is that of a checkpoint."""
        self.mesh: Mapping[str, Any] = state.get("mesh", _SINGLE)
        first = {
            "execution": state["execution"],
            "training_metrics": state["training_metrics"],
            "metric_objects": state["metric_objects"],
            "gradients": state["stepper"]["gradients"],
        }
        self._ranks: list[dict[str, Any]] = [first, *state.get("ranks", ())]
        self._data_ranks = self._ranks[:: self.mesh["tensor"]]  # those that differ in their tensor rank agree

    def fits(self, layout: Layout) -> bool:
        """Whether every data rank of `layout` gets back exactly what one had."""
        return bool(self.mesh["data"] == layout.mesh.data)

    def of(self, layout: Layout) -> dict[str, Any]:
        """What the rank at `layout` goes on with.

        On the mesh of the checkpoint it is this rank's own. On another one with as many data ranks it is that of its
        data rank; where there are more or fewer, the open period goes to the first data rank, gradients are averaged,
        and torchmetrics objects start anew.
        """
        if self.mesh == mesh_of(layout):
            return self._ranks[layout.rank]
        own = self._data_ranks[layout.data_rank] if self.fits(layout) else self._merged(layout.data_rank)
        if self.fits(layout) and self.mesh["shard"] == mesh_of(layout)["shard"]:
            return own
        return {**own, "gradients": mean_of_gradients([rank["gradients"] for rank in self._data_ranks])}

    def _merged(self, data_rank: int) -> dict[str, Any]:
        periods = [rank["training_metrics"] for rank in self._data_ranks]
        return {
            "execution": self._data_ranks[0]["execution"],
            "training_metrics": {} if data_rank else _joined(periods),
            "metric_objects": {},
        }

    def open_objects(self) -> list[str]:
        """The torchmetrics objects that have gathered something in the open period."""
        objects = (rank["metric_objects"].items() for rank in self._ranks)
        return sorted({name for items in objects for name, state in items if state["updates"]})


def with_own_states(state: dict[str, Any], ranks: Ranks) -> dict[str, Any]:
    """`state`, which is this rank's, and what the other ranks have of their own. A collective.

    Gradients stay where they are: what is gathered of them is only where they lie.
    """
    if ranks.layout.size == 1:
        return state
    gradients = state["stepper"]["gradients"]
    own = {
        "execution": state["execution"],
        "training_metrics": state["training_metrics"],
        "metric_objects": state["metric_objects"],
        "gradients": _mapped(gradients, lambda tensor: _described(tensor, ranks.layout.rank)),
    }
    everyones = ranks.gather(_mapped(own, _on_cpu))
    known: dict[Any, Spread] = {}
    for theirs in everyones:
        theirs["gradients"] = _given(theirs["gradients"], gradients, ranks.layout.rank, known)
    stepper = {**state["stepper"], "gradients": everyones[0]["gradients"]}
    return {**state, "stepper": stepper, "mesh": mesh_of(ranks.layout), "ranks": everyones[1:]}


def _described(tensor: torch.Tensor | Spread, rank: int) -> Spread:
    """Where `tensor` lies, of which `rank` has all or a part, without its content."""
    if isinstance(tensor, Spread):
        return replace(tensor, own=None)
    shape = tuple(tensor.shape)
    pieces = (Piece(rank, (0,) * len(shape), shape),) if tensor.numel() else ()
    return Spread(shape, tensor.dtype, pieces, None)


def _given(described: Any, held: Any, rank: int, known: dict[Any, Spread], path: tuple[str, ...] = ()) -> Any:
    """What `described` says of a rank's gradients, with what this rank has to give of them, from those that it has.

    What several ranks tell of the same tensor becomes the same object.
    """
    if isinstance(described, dict):
        below = held if isinstance(held, dict) else {}
        return {key: _given(item, below.get(key), rank, known, (*path, key)) for key, item in described.items()}
    if not isinstance(described, Spread):
        return described
    mine = any(piece.rank == rank for piece in described.pieces)
    own = (held.own if isinstance(held, Spread) else held) if mine else None
    return known.setdefault((path, described.shape, described.pieces), replace(described, own=own))


def mesh_of(layout: Layout) -> dict[str, Any]:
    """How the ranks are arranged, as a checkpoint says it."""
    mesh = layout.mesh
    return {"data": mesh.data, "tensor": mesh.tensor, "shard": layout.shard and mesh.data > 1}


def _joined(periods: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The values of several ranks as those of one."""
    joined: dict[str, Any] = {}
    for name in dict.fromkeys(name for period in periods for name in period):
        parts = [period[name] for period in periods if name in period]
        values = torch.cat([part["values"] for part in parts])
        joined[name] = {"values": values, "weights": [weight for part in parts for weight in part["weights"]]}
    return joined


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """`value` with `change` made to each tensor in it."""
    if isinstance(value, torch.Tensor | Spread):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    return type(value)(_mapped(item, change) for item in value) if type(value) in (list, tuple) else value


def _on_cpu(tensor: torch.Tensor | Spread) -> torch.Tensor | Spread:
    return tensor if isinstance(tensor, Spread) else tensor.detach().cpu()
