"""`preview-search`: what a search will do, before anything runs."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mnist_trials.cli.command import Command, Invocation
from mnist_trials.cli.running import add_override, positive
from mnist_trials.cli.screen import Screen, cell, duration
from mnist_trials.errors import UsageError
from mnist_trials.units import UNITS

if TYPE_CHECKING:
    from mnist_trials.experiment.preview import Preview

_Row = Sequence[str | int]


def _preview(call: Invocation) -> int:
    from mnist_trials.experiment.preview import preview

    given = call.arguments
    if (given.slots is None) != (given.seconds_per_unit is None):
        raise UsageError("an estimate of the wall time takes both --seconds-per-unit and --slots")
    found = preview(
        given.config_file, overrides=given.config, slots=given.slots, seconds_per_unit=given.seconds_per_unit
    )
    for warning in found.warnings:
        call.screen.warn(f"warning: {warning}")
    if call.screen.json:
        for note in found.notes:
            call.screen.warn(f"note: {note}")
        call.screen.document(found.to_json())
        return 0
    _show(call, found)
    return 0


def _show(call: Invocation, found: Preview) -> None:
    screen, unit = call.screen, found.unit
    screen.say(
        f"{found.searcher}: {_count(found.trials, 'trial')}, at most {found.max_concurrent_trials:,} at once, "
        f"{_units(found.total_units, unit)} in all"
    )
    rows: list[_Row] = []
    for number, bracket in enumerate(found.brackets):
        beyond = [*bracket.trials[1:], 0]
        for rung, (units, trials, more) in enumerate(zip(bracket.rungs, bracket.trials, beyond, strict=True)):
            rows.append((number, bracket.max_concurrent_trials, rung, units, trials, trials - more))
    _table(screen, ("bracket", "at once", "rung", unit, "trials", "end there"), rows)
    if len(found.brackets) > 1:
        screen.say("All brackets together:")
        lengths = [(units, trials, units * trials) for units, trials in found.lengths.items()]
        _table(screen, (unit, "trials that train so long", f"{unit} in all"), lengths)
    for note in found.notes:
        screen.say(f"note: {note}")
    if found.estimated_seconds is not None:
        slots = _count(call.arguments.slots, "slot")
        screen.say(
            f"Training takes about {duration(found.estimated_seconds)} on {slots}. Validation, checkpoints and the "
            "start of processes come on top."
        )


def _table(screen: Screen, header: Sequence[str], rows: Sequence[_Row]) -> None:
    """With lines on a terminal, as columns elsewhere."""
    if not screen.stream.isatty() or os.environ.get("TERM") == "dumb":
        screen.table(header, rows)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(header_style="bold")
    for name in header:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    Console(file=screen.stream, highlight=False).print(table)


def _units(number: int, unit: str) -> str:
    """`1 epoch`, `20 epochs`; a metric that measures time keeps its name."""
    one = UNITS[unit].__name__.lower() if number == 1 and unit in UNITS else unit
    return f"{number:,} {one}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"takes a number above 0, not {text!r}")
    return value


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config_file", metavar="CONFIG", help="the experiment config, a YAML file")
    add_override(parser)
    parser.add_argument(
        "--seconds-per-unit",
        metavar="S",
        type=_seconds,
        help="with --slots, for an estimate of the wall time: how long a trial trains for one unit (batch, epoch, ...)",
    )
    parser.add_argument("--slots", metavar="N", type=positive, help="how many slots there will be")


COMMANDS = (
    Command(
        name="preview-search",
        group="Start",
        summary="show which trials a search will make and how long they train",
        description=(
            "Nothing is started, and neither code nor data is looked at. In a search that judges trials as they come, "
            "some more or less than planned may get to a rung."
        ),
        run=_preview,
        configure=_arguments,
    ),
)
