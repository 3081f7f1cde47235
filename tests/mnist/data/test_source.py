"""Which data set is chosen, and from where."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from mnist_trials.errors import DataError
from mnist_trials.mnist.data.folder import NAMES
from mnist_trials.mnist.data.options import DataOptions
from mnist_trials.mnist.data.source import Source, choose_source


def write_mnist(folder: Path, *, suffix: str = "", train: int = 6, test: int = 3) -> None:
    folder.mkdir(parents=True)
    for name in NAMES:
        count = train if name.startswith("train") else test
        shape = (count, 28, 28) if "images" in name else (count,)
        header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
        content = header + torch.ones(shape, dtype=torch.uint8).numpy().tobytes()
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(content) if suffix else content)


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to start in, a user's home and a network without MNIST."""
    work = tmp_path / "work" / "here"
    work.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("MNIST_TRIALS_DATA", raising=False)
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", ["http://127.0.0.1:9/"])
    return work


def choose(tmp_path: Path, data_root: Path | None = None, options: DataOptions | None = None) -> Source:
    return choose_source(options or DataOptions(), data_root, tmp_path / "home", tmp_path / "work" / "here")


@pytest.mark.parametrize("layout", ["MNIST/raw", "raw", "."])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_named_root_may_hold_mnist_in_any_of_three_layouts(tmp_path: Path, layout: str, suffix: str) -> None:
    write_mnist(tmp_path / "root" / layout, suffix=suffix)
    source = choose(tmp_path, tmp_path / "root")
    assert (source.name, len(source.train), len(source.test)) == ("mnist", 6, 3)
    assert source.detail == str(tmp_path / "root" / layout)
    assert source.in_place_of_mnist is None


def test_a_named_root_without_mnist_is_an_error_that_says_where_it_looked_and_for_what(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with pytest.raises(DataError) as caught:
        choose(tmp_path, tmp_path / "root")
    text = str(caught.value)
    for layout in ("root/MNIST/raw", "root/raw"):
        assert str(tmp_path / layout) in text
    for name in NAMES:
        assert name in text


def test_a_named_root_that_lacks_one_file_is_told_which(tmp_path: Path) -> None:
    write_mnist(tmp_path / "root" / "raw")
    (tmp_path / "root" / "raw" / NAMES[3]).unlink()
    with pytest.raises(DataError, match=rf"root/raw lacks {NAMES[3]}\."):
        choose(tmp_path, tmp_path / "root")


def test_a_named_root_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"The data root is .*absent, and there is no such folder"):
        choose(tmp_path, tmp_path / "absent")


def test_the_variable_names_a_root_too_and_has_no_fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_TRIALS_DATA", str(tmp_path / "root"))
    with pytest.raises(DataError, match=r"The variable MNIST_TRIALS_DATA is .*root"):
        choose(tmp_path)
    write_mnist(tmp_path / "root")
    assert choose(tmp_path).name == "mnist"


def test_a_relative_root_starts_where_the_experiment_was_started(
    tmp_path: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(nowhere / "../beside")
    monkeypatch.setenv("MNIST_TRIALS_DATA", "../beside")
    assert choose(tmp_path).name == "mnist"
    assert choose(tmp_path, Path("../beside")).name == "mnist"


def test_a_root_may_begin_with_the_home_of_the_user(tmp_path: Path) -> None:
    write_mnist(tmp_path / "user" / "mnist")
    assert choose(tmp_path, Path("~/mnist")).name == "mnist"


def test_the_named_root_goes_before_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_TRIALS_DATA", str(tmp_path / "absent"))
    write_mnist(tmp_path / "root")
    assert choose(tmp_path, tmp_path / "root").detail == str(tmp_path / "root")


@pytest.mark.parametrize(
    "near", ["data", "../data", "mnist", "../mnist", "../shared/mnist", "../../user/.torch/datasets"]
)
def test_conventional_roots_are_looked_in_unasked(tmp_path: Path, nowhere: Path, near: str) -> None:
    write_mnist(nowhere / near / "MNIST" / "raw")
    source = choose(tmp_path)
    assert source.name == "mnist"
    assert source.in_place_of_mnist is None


def test_a_damaged_file_near_by_is_an_error_and_not_a_reason_to_fall_back(tmp_path: Path, nowhere: Path) -> None:
    write_mnist(nowhere / "data" / "MNIST" / "raw")
    damaged = nowhere / "data" / "MNIST" / "raw" / NAMES[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(DataError, match=rf"{NAMES[0]} is cut off: 100 bytes of 4,720"):
        choose(tmp_path)


def test_without_mnist_the_bundled_digits_are_taken_and_said_to_be_a_fallback(tmp_path: Path) -> None:
    source = choose(tmp_path)
    assert (source.name, len(source.train), len(source.test)) == ("digits", 1500, 297)
    assert source.in_place_of_mnist is not None
    assert str(tmp_path / "work" / "here" / "data") in source.in_place_of_mnist
    assert "no mirror of it answers" in source.in_place_of_mnist


def test_asking_for_mnist_makes_the_fallback_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.name is mnist, .*--data-root or MNIST_TRIALS_DATA"):
        choose(tmp_path, options=DataOptions(name="mnist"))


def test_asking_for_digits_is_no_fallback_even_with_mnist_at_hand(tmp_path: Path) -> None:
    write_mnist(tmp_path / "root")
    source = choose(tmp_path, tmp_path / "root", DataOptions(name="digits"))
    assert (source.name, source.in_place_of_mnist) == ("digits", None)


def test_fake_data_are_looked_for_nowhere(tmp_path: Path) -> None:
    source = choose(tmp_path, tmp_path / "absent", DataOptions(fake=True))
    assert (source.name, source.train.images.shape[1:]) == ("fake", (1, 28, 28))
