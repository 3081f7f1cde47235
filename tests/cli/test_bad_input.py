"""What is refused: exit status 2, every mistake in words, nothing stored, no traceback of ours."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from mnist_trials.store import open_store

EDITS: list[tuple[str, str, str]] = [
    # what is done to the config (replace, by), what is said
    ("name: tiny", "name: tiny\nname: twice", r"tiny\.yaml:3:1: .*name"),
    ("width: 2", "width: &a 2, depth: *a", r"tiny\.yaml:4:\d+: .*(alias|anchor)"),
    ("name: tiny", "name: !!python/name:os.system tiny", r"tiny\.yaml:2:\d+: .*tag"),
    ("name: tiny", "nmae: tiny", r"tiny\.yaml:2:1: .*'nmae'.*'name'"),
    ("tiny:Tiny", "tinny:Tiny", r"tiny\.yaml:3:13: entrypoint: .*'tinny'.*Did you mean 'tiny'"),
    ("tiny:Tiny", "tiny:Tinny", r"tiny\.yaml:3:13: entrypoint: .*'Tinny'.*Did you mean 'tiny:Tiny'"),
    ("name: single", "name: singel", r"tiny\.yaml:5:\d+: .*'singel'.*Did you mean 'single'"),
    ("max_restarts: 0", "max_restarts: 0\nlauncher: lokal", r"tiny\.yaml:7:11: .*'lokal'.*Did you mean 'local'"),
    ("max_restarts: 0", "max_restarts: -1", r"tiny\.yaml:6:15: "),
    (
        "max_restarts: 0",
        "resources: {slots_per_trial: 4000}",
        r"tiny\.yaml:6:\d+: .*4000 slots, but this machine offers",
    ),
]


def assert_refused(outcome, home: Path) -> None:
    assert outcome.status == 2, outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    assert not list(home.glob("experiments/*"))


@pytest.mark.parametrize(("old", "new", "said"), EDITS, ids=[new for _, new, _ in EDITS])
@pytest.mark.parametrize("command", ["create", "validate"])
def test_a_mistake_in_a_config_is_told_with_its_place(
    cli, project: Path, home: Path, command: str, old: str, new: str, said: str
) -> None:
    text = project.read_text()
    assert old in text
    project.write_text(text.replace(old, new, 1))
    outcome = cli(command, project)
    assert_refused(outcome, home)
    assert re.search(said, outcome.err), outcome.err
    assert re.search(r"error: \d mistakes? in the config; nothing was started\n$", outcome.err)


RANDOM = "random, max_length: 8, max_trials: 3"
SEARCHES: list[tuple[str, str, str]] = [
    # the searcher besides its metric, the hyperparameter `width`, what is said
    ("adaptive_ahsa, max_length: 8", "2", r":5:18: .*'adaptive_ahsa'.*Did you mean 'adaptive_asha'"),
    ("adaptive_asha, max_length: 8", "2", r":5:11: 'searcher' needs the key 'max_trials'"),
    ("asha, max_length: 8, max_trials: 3, num_rungs: 2, divisor: 1", "2", r":5:\d+: .*divisor' must be .* 1, not 1"),
    ("asha, max_trials: 3, num_rungs: 2, max_time: 0, time_metric: t", "2", r":5:\d+: .*max_time' must be .* 1, not 0"),
    ("adaptive_asha, max_length: 8, max_trials: 3, bracket_rungs: [9]", "2", r":5:\d+: .*is 9, but.* 2 rungs at most"),
    (RANDOM, "{type: int, minval: 5, maxval: 5}", r":4:\d+: .*minval must be below maxval"),
    (RANDOM, "{type: log, base: 0, minval: 1, maxval: 2}", r":4:\d+: .*base' .*above 0, not 0"),
    (RANDOM, "{type: categorical, vals: []}", r":4:\d+: .*vals' .*not an empty list"),
    ("grid, max_length: 8", "{type: double, minval: 1, maxval: 2}", r":4:\d+: .*needs 'count' in a grid"),
    ("grid, max_length: 8", "{type: double, minval: 1, maxval: 2, count: 1000000000}", r":4:\d+: .* 1,000,000,000"),
]  # fmt: skip


@pytest.mark.parametrize(("searcher", "width", "said"), SEARCHES, ids=[f"{row[0]}, {row[1]}" for row in SEARCHES])
@pytest.mark.parametrize("command", ["create", "preview-search"])
def test_a_mistake_in_a_search_is_told_with_its_place(
    cli, project: Path, home: Path, command: str, searcher: str, width: str, said: str
) -> None:
    text = project.read_text().replace("width: 2", f"width: {width}")
    project.write_text(
        text.replace(
            "name: single, metric: validation_loss, max_length: {batches: 8}", f"name: {searcher}, metric: loss"
        )
    )
    outcome = cli(command, project)
    assert_refused(outcome, home)
    assert re.search(rf"tiny\.yaml{said}", outcome.err), outcome.err


NOT_YET: list[tuple[str, str]] = [
    # what is added to the config (key, value), as docs/config.md names it
    ("log_policies", "[{pattern: x}]"),
    ("loggers", "[tensorboard]"),
]


@pytest.mark.parametrize(("key", "value"), NOT_YET, ids=[key for key, _ in NOT_YET])
def test_what_this_version_cannot_do_is_refused_and_documented(
    cli, project: Path, home: Path, key: str, value: str
) -> None:
    section, _, name = key.rpartition(".")
    text = project.read_text()
    text += f"{section}: {{{name}: {value}}}\n" if section else f"{name}: {value}\n"
    project.write_text(text)
    outcome = cli("create", project)
    assert_refused(outcome, home)
    assert re.search(r"tiny\.yaml:\d+:\d+: ", outcome.err), outcome.err
    page = Path(__file__).parents[2].joinpath("docs", "config.md").read_text()
    section = page.partition("## Not in this version")[2].partition("##")[0]
    assert f"`{key}" in section or (key == "loggers" and "logger" in section)


def test_all_mistakes_are_told_at_once(cli, project: Path, home: Path) -> None:
    text = project.read_text().replace("max_restarts: 0", "max_restarts: 1.5").replace("name: tiny", "nam: tiny")
    project.write_text(text)
    outcome = cli("create", project, "--json")
    assert outcome.status == 2
    assert len(outcome.document["problems"]) == 2
    assert {problem["line"] for problem in outcome.document["problems"]} == {2, 6}
    assert "2 mistakes in the config; nothing was started" in outcome.err


@pytest.mark.parametrize("command", ["create", "validate"])
def test_a_config_that_is_not_there(cli, home: Path, tmp_path: Path, command: str) -> None:
    outcome = cli(command, tmp_path / "none.yaml")
    assert_refused(outcome, home)
    assert f"{tmp_path}/none.yaml" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data-root", "/no/such/folder"), "The data root /no/such/folder does not exist"),
        (("/no/such/context",), "The context /no/such/context does not exist"),
        (("--slots", "0"), "at least 1, not '0'"),
        (("--slots", "many"), "at least 1, not 'many'"),
        (("--launcher", "lokal"), "Did you mean 'local'"),
        (("--config", "searcher.metirc=x"), "metirc"),
        (("--config", "no equals sign"), "no equals sign"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_option_that_cannot_be_had(cli, project: Path, home: Path, arguments: tuple[str, ...], said: str) -> None:
    outcome = cli("create", project, *arguments)
    assert_refused(outcome, home)
    assert said in outcome.err


def test_a_home_that_is_no_folder(cli, project: Path, home: Path) -> None:
    home.write_text("a file")
    outcome = cli("create", project)
    assert_refused(outcome, home)
    assert f"The home {home} cannot be used: {home} is not a folder" in outcome.err
    assert home.read_text() == "a file"
    for arguments in (("list",), ("describe", 1), ("slots",), ("pause", 1), ("evaluate", "abc")):
        outcome = cli(*arguments)
        assert (outcome.status, outcome.out) == (2, ""), arguments
        assert f"{home} is not a folder" in outcome.err


def test_a_store_of_a_newer_version_is_left_as_it_is(cli, project: Path, home: Path) -> None:
    open_store(home).close()
    connection = sqlite3.connect(home / "store.sqlite")
    connection.execute("PRAGMA user_version = 1000")
    connection.commit()
    connection.close()
    before = (home / "store.sqlite").read_bytes()
    outcome = cli("create", project)
    assert_refused(outcome, home)
    assert "version 1000" in outcome.err
    assert (home / "store.sqlite").read_bytes() == before


def test_a_loss_that_is_not_a_number_ends_the_trial_with_its_place(program, project: Path) -> None:
    outcome = program("create", project, "--launcher", "inline", "--config", "hyperparameters.fault=nan")
    assert outcome.status == 1
    assert re.search(r"trial 1\.1 ended in error at batch \d+: NonFiniteLoss: .*nan", outcome.err)
    assert program("list", "--json").document[0]["state"] == "ERROR"


@pytest.mark.parametrize(("content", "said"), [(None, "MNIST is not in it"), (b"\0\0\x08\x03\0\0", "train-images")])
def test_a_data_root_without_whole_mnist_ends_the_trial_with_the_cause(
    program, project: Path, tmp_path: Path, content: bytes | None, said: str
) -> None:
    root = tmp_path / "root"
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    if content is not None:
        for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
            (raw / f"{name}-ubyte").write_bytes(content)
    text = project.read_text().replace("tiny:Tiny", "mnist_trials.mnist.trials:FCMNIST")
    project.write_text(text.replace("width: 2, fault: none", "hidden_sizes: [8], learning_rate: 0.1"))
    outcome = program("create", project, "--launcher", "inline", "--data-root", root)
    assert outcome.status == 1
    assert re.search(rf"trial 1\.1 ended in error at batch 0: DataError: .*{said}", outcome.err), outcome.err
