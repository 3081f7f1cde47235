from __future__ import annotations

import pytest

from mnist_trials.units import UNITS, Batch, Epoch, Record, Unit


@pytest.mark.parametrize(
    ("unit", "document"), [(Batch(5), {"batches": 5}), (Epoch(1), {"epochs": 1}), (Record(7), {"records": 7})]
)
def test_a_unit_is_written_as_in_a_config(unit: Unit, document: dict[str, int]) -> None:
    assert unit.to_config() == document
    assert UNITS[unit.key](unit.value) == unit


@pytest.mark.parametrize("cls", [Batch, Epoch, Record])
@pytest.mark.parametrize("value", [0, -1])
def test_a_unit_below_one_is_refused(cls: type[Unit], value: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        cls(value)


@pytest.mark.parametrize("value", [1.5, True, "3", None])
def test_a_unit_takes_whole_numbers_only(value: object) -> None:
    with pytest.raises(TypeError, match="whole number"):
        Batch(value)  # type: ignore[arg-type]


def test_units_of_different_kinds_are_never_equal() -> None:
    assert Batch(1) != Epoch(1)


def test_the_base_class_is_no_unit() -> None:
    with pytest.raises(TypeError, match="use Batch, Epoch or Record"):
        Unit(1)
