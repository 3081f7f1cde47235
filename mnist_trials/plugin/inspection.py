"""What one train step and one evaluation step of a trial consist of, in the words of any framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

Shape = tuple[int, ...]

RAISED_IN: Final = "It was raised in"
"""How the note of an exception begins that says out of which layer it came (see `BaseException.add_note`)."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LayerReport:
    """One layer of a model, as the forward pass of the train step used it."""

    name: str  # as parameters are named, without the parameter; "" is the model itself
    kind: str
    inputs: Sequence[Shape]  # of its first call; empty where it was not called or nothing is known of it
    outputs: Sequence[Shape]
    calls: int
    parameters: int  # values in the parameters of its own
    trainable: int  # how many of these an optimizer may change


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What one step does."""

    samples: int  # in its batch
    operations: Mapping[str, int]  # how often it does each, by the framework's names
    flops: float
    bytes: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What was found out about a trial by tracing a train step (of a batch, with an update) and an evaluation step."""

    framework: str
    parameters: int
    trainable: int
    layers: Sequence[LayerReport]
    training: StepReport
    evaluation: StepReport
    flops_are: str  # how they were counted
    bytes_are: str


def layer_of(error: BaseException) -> str | None:
    """The note that says out of which layer `error`, or what led to it, came; None where there is none."""
    seen: BaseException | None = error
    while seen is not None:
        for note in getattr(seen, "__notes__", ()):
            if note.startswith(RAISED_IN):
                return str(note)
        seen = seen.__cause__ or seen.__context__
    return None


def names_of(steps: Sequence[StepReport]) -> list[str]:
    """The names of all operations of `steps`, each once, sorted."""
    return sorted({name for step in steps for name in step.operations})
