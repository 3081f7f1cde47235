"""`--config a.b=VALUE`; the good ones are in accepted.yaml."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

CASES: list[tuple[str, str]] = [
    ("searcher", "an override is written KEY=VALUE, such as searcher.max_trials=8."),
    ("=3", "an override is written KEY=VALUE, such as searcher.max_trials=8."),
    ("searcher..name=x", "an override is written KEY=VALUE, such as searcher.max_trials=8."),
    (
        "searcher.max_trails=3",
        "unknown key 'max_trails' in 'searcher'. Did you mean 'max_trials'? It is not for 'single', but for random, "
        "asha, async_halving, adaptive_asha, optuna.",
    ),
    ("max_restarts=five", "'max_restarts' must be a whole number of at least 0, not 'five'."),
    ("max_restarts=[1", "not valid YAML: a list, map or quoted text has no end."),
    ("data=&x 1", "the anchor '&x' is not allowed; leave it out."),
    ("data={a: 1, a: 2}", "the key 'a' stands twice in this map."),
    ("data={a: .inf}", "a number must be finite, not .inf."),
    ("searcher.name.x=3", "'searcher.name' is 'single' (CONFIG:3:9) and not a map; it has no 'x'."),
    ("searcher.metric=", "'searcher' needs the key 'metric': the validation metric by which trials are judged."),
]


@pytest.mark.parametrize(("override", "message"), CASES)
def test_a_bad_override_is_reported_as_it_was_typed(
    override: str, message: str, says: Callable[..., str], base: str
) -> None:
    problems = says(base, (override,)).splitlines()

    assert f"--config {override}: {message}" in problems


def test_an_override_cannot_go_through_another(says: Callable[..., str], base: str) -> None:
    assert says(base, ("hyperparameters.lr=1", "hyperparameters.lr.type=log")) == (
        "--config hyperparameters.lr.type=log: 'hyperparameters.lr' is 1 and not a map; it has no 'type'."
    )


def test_mistakes_of_the_file_come_first_and_overrides_in_their_order(says: Callable[..., str], base: str) -> None:
    lines = says(base + "max_restarts: x", ("precision=y", "on_nan=z")).splitlines()

    assert [line.partition(": ")[0] for line in lines] == ["CONFIG:6:15", "--config precision=y", "--config on_nan=z"]


def test_an_override_can_mend_a_mistake_of_the_file(load_text: Callable[..., Any], base: str) -> None:
    assert load_text(base + "max_restarts: x", ("max_restarts=2",)).config.max_restarts == 2


def test_a_key_may_hold_an_equals_sign_in_its_value(load_text: Callable[..., Any], base: str) -> None:
    assert load_text(base, ("description=a=b",)).config.description == "a=b"


def test_a_long_override_is_cut_in_messages_and_bytes_that_are_no_text_are_spelt_out(
    says: Callable[..., str], base: str
) -> None:
    long = "labels=3" + " " * 500
    broken = "name=\udcff"

    assert says(base, (long,)).startswith(f"--config {long[:117]}...: 'labels' must be a list")
    assert says(base, (broken,)) == "--config name=\\udcff: not valid YAML: the character 0xdcff."
