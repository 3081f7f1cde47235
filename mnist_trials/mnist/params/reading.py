"""From a reference's file to an experiment config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from mnist_trials.config.loading import load, read_file
from mnist_trials.config.nodes import Entry, Node, Place, describe, quoted
from mnist_trials.config.reader import read_yaml
from mnist_trials.config.report import Report, did_you_mean
from mnist_trials.errors import ConfigError
from mnist_trials.mnist.params.draft import Draft
from mnist_trials.mnist.params.fc_mnist import FC_MNIST
from mnist_trials.mnist.params.reference import Reference
from mnist_trials.mnist.params.torch_mnist import TORCH_MNIST

REFERENCES: Final = (FC_MNIST, TORCH_MNIST)


@final
@dataclass(frozen=True, slots=True)
class Translation:
    """An experiment config made of a reference's file."""

    reference: str
    config: Mapping[str, Any]
    warnings: tuple[str, ...]  # for a person


def translate(path: Path) -> Translation:
    """The experiment config that means what the parameter file of a reference at `path` means there.

    Which reference it is of is told by its keys.

    Raises:
        ConfigError: the file cannot be read, is of none of the references, or asks for what cannot be had here; all
            mistakes are in it, each with its place.
    """
    report = Report()
    root = read_yaml(read_file(path), str(path), report) or Node(Place(str(path)), None)
    entries = _map(root, report, "the parameters of a reference are a map of keys to values")
    report.check()
    reference = _reference(entries, root.place)
    draft = Draft(reference.start, report, root.place)
    for name in entries:
        draft.stands(name, entries[name].key)
    for name, entry in _keys(reference, entries, report):
        draft.stands(name, entry.key)
        rule = reference.keys.get(name)
        if rule is None:
            report.mistake(entry.key, _unknown(name, reference))
        elif entry.node.value is not None:  # a key without a value counts as left out
            rule(name, entry.node, draft)
    report.check()
    reference.finish(draft)
    report.check()
    return Translation(reference.name, draft.config, (*report.warnings(), *load(draft.config).warnings))


def _map(node: Node, report: Report, what: str) -> Mapping[str, Entry]:
    if isinstance(node.value, Mapping):
        return node.value
    report.mistake(node.place, f"{what}, not {describe(node)}.")
    return {}


def _reference(entries: Mapping[str, Entry], place: Place) -> Reference:
    """That which knows most of the keys."""
    known = [sum(name in reference.sections or name in reference.keys for name in entries) for reference in REFERENCES]
    if not max(known):
        choices = "; ".join(f"{reference.name} ({reference.example})" for reference in REFERENCES)
        raise ConfigError([place.problem(f"these are the parameters of no reference that is known here: {choices}.")])
    return REFERENCES[known.index(max(known))]


def _keys(reference: Reference, entries: Mapping[str, Entry], report: Report) -> Iterator[tuple[str, Entry]]:
    """Every key with its dotted path."""
    for name, entry in entries.items():
        if name not in reference.sections:
            yield name, entry
        elif entry.node.value is not None:
            for below, inner in _map(entry.node, report, f"'{name}' is a map of keys to values").items():
                yield f"{name}.{below}", inner


def _unknown(path: str, reference: Reference) -> str:
    section, dot, name = path.rpartition(".")
    prefix = section + dot
    known = [key.removeprefix(prefix) for key in reference.keys if key.rpartition(".")[0] == section]
    known += () if section else reference.sections
    near = did_you_mean(name, known) or _in_another(name, reference)
    where = f"in '{section}'" if section else "there"
    return f"{reference.name} has no parameter {quoted(path)}.{near} Known {where}: {', '.join(sorted(known))}."


def _in_another(name: str, reference: Reference) -> str:
    """Where a key that stands in the wrong section belongs."""
    found = [key for key in reference.keys if key.rpartition(".")[2] == name]
    return f" Did you mean {quoted(found[0])}?" if found else ""
