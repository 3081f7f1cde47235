"""From a file (or a map) to an `ExperimentConfig`, with every mistake told at once and at its place."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from mnist_trials.config.checking import check, mapping_root, require_map
from mnist_trials.config.keys import MAX_NAME
from mnist_trials.config.nodes import Node, Place, find, plain
from mnist_trials.config.overrides import override
from mnist_trials.config.reader import MAX_BYTES, read_yaml
from mnist_trials.config.report import Report
from mnist_trials.config.schema import ExperimentConfig
from mnist_trials.errors import ConfigError, Problem


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A config and where it came from."""

    config: ExperimentConfig
    warnings: tuple[str, ...]  # for a person
    text: str  # the YAML as it was read, overrides not in it
    path: Path | None  # None: it came from no file
    _root: Node = field(repr=False)

    def problem(self, dotted_path: str, message: str) -> Problem:
        """A problem with the value at `dotted_path`, for a check that is made later.

        Its place is that value's, or that of the nearest map around it where the key was left out.
        """
        return find(self._root, dotted_path).place.problem(message)


def load(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Loaded:
    """Read and check the config at the path `source`, or given as a map.

    `overrides` are `a.b=VALUE`, VALUE in YAML, carried out in order.

    Raises:
        ConfigError: it is not there, cannot be read, or has mistakes; all that were found are in it.
    """
    report = Report()
    if isinstance(source, Mapping):
        path, name = None, "experiment"
        root = mapping_root(source, report)
        text = json.dumps(plain(root), indent=2, ensure_ascii=False)
    else:
        path = Path(source)
        name = path.stem[:MAX_NAME]
        text = read_file(path)
        root = read_yaml(text, str(source), report) or Node(Place(str(source)), None)
    require_map(root, report)
    for item in overrides:
        root = override(root, item, report)
    config = ExperimentConfig.of(check(root, name, report))
    return Loaded(config=config, warnings=report.warnings(), text=text, path=path, _root=root)


def read_file(path: Path) -> str:
    """The text of the YAML file at `path`.

    Raises:
        ConfigError: it is not there, cannot be read, is larger than 1 MB or no UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _unusable(path, f"there is no such file.{_neighbours(path)}") from None
    except IsADirectoryError:
        raise _unusable(path, f"this is a directory; name a config file.{_inside(path)}") from None
    except OSError as error:
        raise _unusable(path, f"it cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise _unusable(path, f"it cannot be read: {error}.") from error
    if len(data) > MAX_BYTES:
        raise _unusable(path, "it is larger than 1 MB, which no config is.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, data, error) from error


def _unusable(path: Path, message: str) -> ConfigError:
    return ConfigError([Problem(message, str(path))])


def _not_utf8(path: Path, data: bytes, error: UnicodeDecodeError) -> ConfigError:
    before = data[: error.start]
    column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
    message = f"not UTF-8: the byte {data[error.start]:#04x}. Save the file as UTF-8."
    return ConfigError([Problem(message, str(path), before.count(b"\n") + 1, column)])


def _neighbours(path: Path) -> str:
    near = difflib.get_close_matches(path.name, _configs(path.parent), n=1)
    return f" Did you mean '{path.with_name(near[0])}'?" if near else ""


def _inside(path: Path) -> str:
    names = _configs(path)[:5]
    return f" It holds: {', '.join(names)}." if names else ""


def _configs(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.suffix in (".yaml", ".yml"))
    except OSError:
        return []
