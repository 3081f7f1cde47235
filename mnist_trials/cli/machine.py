"""`plugins` and `slots`: what this installation and this machine offer."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mnist_trials.cli.command import Command, Invocation

if TYPE_CHECKING:
    from mnist_trials.store.rows import WaitingRow

_GROUP = "This machine"


def _plugins(call: Invocation) -> int:
    from mnist_trials.plugin.manager import get_plugins

    found = [info for info in get_plugins().plugins() if call.arguments.kind in (None, info.kind)]
    if call.screen.json:
        call.screen.document(
            [
                {
                    "kind": info.kind,
                    "name": info.name,
                    "summary": info.summary,
                    "entry_point": info.entry_point,
                    "distribution": info.distribution,
                    "version": info.version,
                    "available": info.unavailable is None,
                    "reason": info.unavailable,
                }
                for info in found
            ]
        )
        return 0
    call.screen.table(
        ["kind", "name", "distribution", "version", "usable", "about"],
        [
            (
                info.kind,
                info.name,
                info.distribution,
                info.version,
                "yes" if info.unavailable is None else "no",
                info.unavailable or info.summary,
            )
            for info in found
        ],
    )
    return 0


def _slots(call: Invocation) -> int:
    from mnist_trials.experiment.slots import machine_slots

    found = machine_slots(call.home)
    holders = [[f"{holder.experiment_id}.{holder.trial_id}" for holder in status.holders] for status in found]
    if call.screen.json:
        call.screen.document(
            [
                {
                    "id": status.slot.id,
                    "backend": status.slot.backend,
                    "index": status.slot.index,
                    "description": status.slot.description,
                    "threads": status.slot.threads,
                    "host": status.slot.host,
                    "trials": trials,
                    "waiting": [
                        {"trial": _name(row), "slots": row.slots, "since": row.since, "message": row.text}
                        for row in status.waiting
                    ],
                }
                for status, trials in zip(found, holders, strict=True)
            ]
        )
        return 0
    call.screen.table(
        ["slot", "device", "threads", "held by"],
        [
            (status.slot.id, status.slot.description, status.slot.threads, ", ".join(trials))
            for status, trials in zip(found, holders, strict=True)
        ],
    )
    queue = {row.place: row for status in found for row in status.waiting}
    for _, row in sorted(queue.items()):
        call.screen.say(f"trial {_name(row)} {row.text}")
    return 0


def _name(row: WaitingRow) -> str:
    return f"{row.experiment_id}.{row.trial_id}"


def _plugins_arguments(parser: argparse.ArgumentParser) -> None:
    from mnist_trials.plugin.manager import KINDS

    parser.add_argument("--kind", choices=KINDS, help="only plugins of this kind")


COMMANDS = (
    Command(
        name="plugins",
        group=_GROUP,
        summary="the installed plugins: from where, and whether they can be used here",
        run=_plugins,
        configure=_plugins_arguments,
    ),
    Command(
        name="slots",
        group=_GROUP,
        summary="the slots of this machine, their devices, which trials hold them, and which wait for them",
        run=_slots,
    ),
)
