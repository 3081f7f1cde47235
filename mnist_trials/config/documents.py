"""What is generated for docs/ from the table of keys. `python -m mnist_trials.config.documents docs` writes it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from mnist_trials.config.hyperparameters import LEAVES
from mnist_trials.config.json_schema import json_schema
from mnist_trials.config.keys import EXPERIMENT
from mnist_trials.config.kinds import Kind, ListOf
from mnist_trials.config.sections import ByName, Key, Named, Section, child
from mnist_trials.config.shapes import MESH, FlagMap, MeshShape
from mnist_trials.config.short_forms import LIMITS, Limits

SCHEMA: Final = "experiment_config.schema.json"
PAGE: Final = "config.md"
BEGIN: Final = "<!-- keys: made by `python -m mnist_trials.config.documents docs`; do not edit -->"
END: Final = "<!-- end of keys -->"

_HEAD: Final = "| key | value | default | meaning |\n| --- | --- | --- | --- |"


def schema_text() -> str:
    """docs/experiment_config.schema.json."""
    return json.dumps(json_schema(), indent=2) + "\n"


def keys_text() -> str:
    """The key lists of docs/config.md: one table of all sections, one of the types of hyperparameters."""
    rows = [_row(path, key) for path, key in all_keys()]
    leaves = [
        _row(f"{name}: {key.name}", key) for name, leaf in LEAVES.items() for key in leaf.keys if key.name != "type"
    ]
    foreign = ", ".join(f"`{path}`" for path in all_foreign())
    return "\n\n".join(
        (
            "\n".join((_HEAD, *rows)),
            "Types of hyperparameters:",
            "\n".join((_HEAD, *leaves)),
            f"Accepted and ignored, with one warning that names them: {foreign}.",
        )
    )


def page_text(page: str) -> str:
    """`page` (docs/config.md) with its key lists brought up to date."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no part between {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{keys_text()}\n\n{END}{after}"


def all_keys() -> list[tuple[str, Key]]:
    """Every key with its dotted path; one that only some names of its section take says which, in brackets."""
    return list(_keys(EXPERIMENT, ""))


def all_foreign() -> list[str]:
    """The dotted paths of all keys that are accepted and ignored."""
    below = [
        child(key.name, name) for key in EXPERIMENT.keys for section in _sections(key.kind) for name in section.foreign
    ]
    return [*EXPERIMENT.foreign, *below]


def _keys(section: Section, path: str) -> Iterator[tuple[str, Key]]:
    for key in section.keys:
        where = child(path, key.name)
        yield where, key
        if isinstance(key.kind, ByName):
            yield from _keys_by_name(key.kind, where)
        for below in _sections(key.kind):
            yield from _keys(below, where + "[]" if isinstance(key.kind, ListOf) else where)


def _sections(kind: Kind) -> tuple[Section, ...]:
    match kind:
        case Section():
            return (kind,)
        case Named() | FlagMap():
            return (kind.section,)
        case MeshShape():
            return (MESH,)
        case Limits():
            return (LIMITS,)
        case ListOf():
            return _sections(kind.item)
    return ()


def _keys_by_name(kind: ByName, path: str) -> Iterator[tuple[str, Key]]:
    takers: dict[str, tuple[Key, list[str]]] = {}
    for name, table in kind.tables.items():
        for key in table.keys:
            takers.setdefault(key.name + key.meaning, (key, []))[1].append(name)
    for key, names in takers.values():
        only = "" if len(names) == len(kind.tables) else f" ({', '.join(names)})"
        yield f"{child(path, key.name)}{only}", key
        for below in _sections(key.kind):
            for where, inner in _keys(below, child(path, key.name)):
                yield f"{where}{only}", inner


def _row(path: str, key: Key) -> str:
    name, _, only = path.partition(" (")
    default = "required" if key.required else _spell(key.default)
    cells = (f"`{name}`" + (f" ({only}" if only else ""), key.kind.words(), default, key.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _spell(default: Any) -> str:
    if default is None or (isinstance(default, dict) and default):
        return ""
    return f"`{json.dumps(default)}`"


def write(folder: Path) -> None:
    """Bring the generated files in `folder` (docs/) up to date."""
    (folder / SCHEMA).write_text(schema_text(), encoding="utf-8")
    page = folder / PAGE
    page.write_text(page_text(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
