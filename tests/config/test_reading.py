"""Files, and the bounds of YAML."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.config import ExperimentConfig, load
from mnist_trials.config.reader import MAX_BYTES, MAX_NODES
from mnist_trials.errors import ConfigError

Write = Callable[[str], Path]
Says = Callable[..., str]


def problems(source: str | Path | Mapping[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        load(source)
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_a_file_that_is_not_there_is_named_with_the_nearest_one(tmp_path: Path, base: str) -> None:
    (tmp_path / "const.yaml").write_text(base)

    assert problems(tmp_path / "cosnt.yaml") == (
        f"{tmp_path}/cosnt.yaml: there is no such file. Did you mean '{tmp_path}/const.yaml'?"
    )
    assert problems(str(tmp_path / "none" / "x.yaml")) == f"{tmp_path}/none/x.yaml: there is no such file."


def test_a_file_below_a_file_cannot_be_read(write: Write, base: str) -> None:
    path = write(base) / "const.yaml"

    assert problems(path) == f"{path}: it cannot be read: Not a directory."


def test_a_directory_is_refused_with_the_configs_in_it(tmp_path: Path, base: str) -> None:
    assert problems(tmp_path) == f"{tmp_path}: this is a directory; name a config file."

    (tmp_path / "b.yml").write_text(base)
    (tmp_path / "a.yaml").write_text(base)

    assert problems(tmp_path) == f"{tmp_path}: this is a directory; name a config file. It holds: a.yaml, b.yml."


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_refused(write: Write, base: str) -> None:
    path = write(base)
    path.chmod(0)

    assert problems(path) == f"{path}: it cannot be read: Permission denied."


def test_a_name_that_no_file_can_have_is_refused() -> None:
    assert problems("a\0b").endswith(": it cannot be read: embedded null byte.")


def test_a_file_that_is_not_utf8_is_refused_at_its_first_bad_byte(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: x\ndescription: Größe".encode("latin-1"))

    assert problems(path) == f"{path}:2:16: not UTF-8: the byte 0xf6. Save the file as UTF-8."


def test_a_byte_order_mark_does_no_harm(tmp_path: Path, base: str) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + base.encode())

    assert load(path).config.searcher.name == "single"


def test_a_file_beyond_a_megabyte_is_refused(write: Write, base: str) -> None:
    path = write(base + "#" * MAX_BYTES)

    assert problems(path) == f"{path}: it is larger than 1 MB, which no config is."


def test_ten_thousand_nodes_are_read_and_one_more_is_not(write: Write, base: str) -> None:
    around = 17  # nodes of the valid config, the key `data`, its value, the key `x` and the list
    fits = base + "data: {x: [" + ", ".join(["1"] * (MAX_NODES - around)) + "]}"

    load(write(fits))

    assert problems(write(fits.replace("]", ", 2]"))).endswith(
        f": a config may hold {MAX_NODES:,} keys and values at most."
    )


def test_fifty_levels_are_read_and_one_more_is_not(write: Write, base: str) -> None:
    def nested(levels: int) -> str:
        return base + "data: {x: " + "[" * levels + "]" * levels + "}"

    load(write(nested(48)))

    path = write(nested(49))
    assert problems(path) == f"{path}:6:59: maps and lists may nest 50 levels deep at most."


def test_nested_aliases_cost_nothing(write: Write) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 30)]

    said = problems(write("\n".join(lines)))

    assert "the alias '*a28' is not allowed" in said
    assert "the anchor '&a29' is not allowed" in said


def test_deep_nesting_beyond_all_bounds_ends_at_the_fiftieth_level(write: Write) -> None:
    assert "may nest 50 levels deep" in problems(write("[" * 500_000))


def test_long_texts_and_names_are_refused(says: Says, base: str) -> None:
    assert says(base + f"name: {'n' * 129}") == "CONFIG:6:7: 'name' may be 128 characters long, not 129."
    assert says(base + f"precision: {'p' * 500}") == (
        f"CONFIG:6:12: 'precision' must be 'fp32', 'bf16-mixed', 'fp16-mixed' or 'bf16-true', not '{'p' * 57}...'."
    )
    assert says(base + "max_restarts: " + "9" * 5000).startswith(
        "CONFIG:6:15: the whole number 99999999999999999999..."
    )


def test_a_mapping_loads_without_places() -> None:
    loaded = load({"entrypoint": "m:T", "searcher": {"name": "single", "metric": "loss", "max_length": {"epochs": 2}}})

    assert loaded.path is None
    assert loaded.config.name == "experiment"
    assert str(loaded.problem("searcher.name", "what is wrong")) == "what is wrong"


def test_the_text_of_a_mapping_is_yaml_of_the_same_config(write: Write) -> None:
    mapping = {
        "name": "1e-3",
        "description": "no \U0001f600",
        "entrypoint": ("python3", "train.py"),
        "data": {"path": "0x10", "rate": 1e-05},
        "searcher": {"name": "single", "metric": "loss"},
    }
    loaded = load(mapping)

    assert load(write(loaded.text)).config == loaded.config


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"data": {"x": {1, 2}}}, "'data.x': a config holds maps, lists, strings, numbers, true, false and null, not"),
        ({"data": {"x": [float("nan")]}}, "'data.x[0]': a number must be finite, not nan."),
        ({"data": {3: 4}}, "'data': a key must be a string, not 3."),
        ({1: 2}, "a key must be a string, not 1."),
        ({"sercher": {}}, "unknown key 'sercher'. Did you mean 'searcher'?"),
        ({"searcher": {"nmae": 1}}, "unknown key 'nmae' in 'searcher'. Did you mean 'name'?"),
    ],
)
def test_a_mapping_with_mistakes_is_refused_by_dotted_path(mapping: dict[Any, Any], message: str) -> None:
    assert any(line.startswith(message) for line in problems(mapping).splitlines())


def test_a_mapping_that_holds_itself_is_refused() -> None:
    mapping: dict[str, Any] = {}
    mapping["data"] = mapping

    assert "may nest 50 levels deep at most" in problems(mapping)


def test_from_dict_refuses_what_load_refuses() -> None:
    with pytest.raises(ConfigError, match="the key 'entrypoint' is missing"):
        ExperimentConfig.from_dict({})


def test_the_places_of_values_are_kept_for_later_checks(write: Write, base: str) -> None:
    path = write(base + "loggers:\n  - wandb\n")
    loaded = load(path, ["launcher.name=rya"])

    assert str(loaded.problem("searcher.name", "m")) == f"{path}:3:9: m"
    assert str(loaded.problem("searcher.divisor", "m")) == f"{path}:3:3: m"
    assert str(loaded.problem("backend", "m")) == f"{path}:1:1: m"
    assert str(loaded.problem("launcher.name", "m")) == "--config launcher.name=rya: m"
    assert loaded.text == path.read_text()
    assert loaded.path == path
