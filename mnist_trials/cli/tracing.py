"""What tracing a trial has shown, for a person: its layers, and what its steps consist of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mnist_trials.cli.screen import table

_SHOWN: Final = 8  # kinds of operations of a step; --json has all
_LAYERS_SHOWN: Final = 40
_PREFIXES: Final = ("", "k", "M", "G", "T", "P")


def lines_of(traced: Mapping[str, Any]) -> Iterator[str]:
    """The lines of what `trial_check` has traced."""
    inspection = traced.get("inspection")
    if inspection is None:
        yield f"Its steps could not be traced: {traced.get('untraced')}"
        return
    if inspection["layers"]:
        yield from _layers(inspection)
    yield from _step("a train step", inspection["training"])
    yield from _step("an evaluation step", inspection["evaluation"])
    yield f"  FLOP: {inspection['flops_are']}."
    yield f"  Bytes: {inspection['bytes_are']}."
    yield from _lacking(traced)


def _layers(inspection: Mapping[str, Any]) -> Iterator[str]:
    parameters, trainable = inspection["parameters"], inspection["trainable"]
    yield f"Its layers, with {parameters:,} parameters, {_share(trainable, parameters)} trainable:"
    layers = inspection["layers"]
    watched = any(layer["calls"] for layer in layers)  # of functions that are no modules nothing is seen
    rows = [_row(layer, watched) for layer in layers[:_LAYERS_SHOWN]]
    yield from (f"  {line}" for line in table(("layer", "kind", "input", "output", "parameters"), rows))
    if len(layers) > _LAYERS_SHOWN:
        yield f"  and {len(layers) - _LAYERS_SHOWN} more; --json has all"


def _row(layer: Mapping[str, Any], watched: bool) -> tuple[object, ...]:
    output = "not called" if watched and not layer["calls"] else _shapes(layer["outputs"])
    name = layer["name"] if layer["calls"] < 2 else f"{layer['name']} ({layer['calls']} times)"
    return (name, layer["kind"], _shapes(layer["inputs"]), output, layer["parameters"])


def _shapes(shapes: Sequence[Sequence[int]]) -> str:
    return ", ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)


def _share(part: int, whole: int) -> str:
    return "all" if part == whole else f"{part:,} of them"


def _step(what: str, step: Mapping[str, Any]) -> Iterator[str]:
    operations = step["operations"]
    total = sum(operations.values())
    yield (
        f"{what[0].upper()}{what[1:]} of {step['samples']} samples: {_scaled(step['flops'])}FLOP, "
        f"{_scaled(step['bytes'])}B, {total} operations of {len(operations)} kinds:"
    )
    often = sorted(operations.items(), key=lambda entry: (-entry[1], entry[0]))
    shown = ", ".join(f"{name} {count}" for name, count in often[:_SHOWN])
    more = f", and {len(often) - _SHOWN} kinds more" if len(often) > _SHOWN else ""
    yield f"  {shown}{more}"


def _lacking(traced: Mapping[str, Any]) -> Iterator[str]:
    if traced.get("untold"):
        yield f"Whether '{traced['target']}' has all of these operations is not known here: {traced['untold']}"
    elif traced.get("lacks"):
        lacks = ", ".join(traced["lacks"])
        yield f"The backend '{traced['target']}' lacks {lacks}: there the trial fails, or the host does it instead."
    elif traced.get("lacks") is not None:
        yield f"The backend '{traced['target']}' has all of these operations."


def _scaled(number: float) -> str:
    """`1.24 G` for 1,240,000,000: three figures, and a prefix."""
    prefix = 0
    while number >= 999.5 and prefix < len(_PREFIXES) - 1:
        number, prefix = number / 1000, prefix + 1
    return f"{number:.3g} {_PREFIXES[prefix]}"
