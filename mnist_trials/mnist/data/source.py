"""Decides which data set a trial trains on; the rules are in docs/data.md."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from mnist_trials.errors import DataError
from mnist_trials.mnist.data.arrays import Arrays, fake
from mnist_trials.mnist.data.digits import read_digits
from mnist_trials.mnist.data.download import download
from mnist_trials.mnist.data.folder import Folder, look_in, require_in
from mnist_trials.mnist.data.options import DataOptions

VARIABLE = "MNIST_TRIALS_DATA"
"""The variable that names a root, as `--data-root` does."""

NEARBY = ("data", "../data", "mnist", "../mnist", "../shared/mnist")
"""Roots looked in without being asked, relative to where the experiment was started."""

OF_USER = ("~/.torch/datasets",)
"""Roots looked in next."""

_FAKE: Final = {"train": 2048, "test": 512}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A data set, read: what it is called, where it comes from, its official training and test sets."""

    name: str  # mnist, digits or fake
    detail: str
    train: Arrays
    test: Arrays
    in_place_of_mnist: str | None = None  # why MNIST, which was wanted first, could not be had; None: it was not


def choose_source(options: DataOptions, data_root: Path | None, home: Path, here: Path) -> Source:
    """The data set that `options` ask for, read.

    A root that somebody named (`data_root`, or the variable MNIST_TRIALS_DATA) must hold MNIST. Without one, MNIST is
    looked for near by, then downloaded into `home`/data; where that fails the bundled digits are taken instead,
    unless `data.name` is mnist. Relative paths start from `here`.

    Raises:
        DataError: the root that was named does not hold MNIST, a file of it is damaged, or `data.name` is mnist and
            MNIST is not to be had.
    """
    if options.fake:
        sizes = options.fake if isinstance(options.fake, Mapping) else _FAKE
        train, test = fake(sizes["train"], 1), fake(sizes["test"], 2)
        return Source(name="fake", detail="random images and labels", train=train, test=test)
    if options.name == "digits":
        return _digits()
    if data_root is not None:
        return _mnist(require_in(_under(here, data_root), "The data root"))
    if named := os.environ.get(VARIABLE):
        return _mnist(require_in(_under(here, Path(named)), f"The variable {VARIABLE}"))
    return _unnamed(options, _conventional_roots(home, here), home)


def _unnamed(options: DataOptions, roots: Sequence[Path], home: Path) -> Source:
    for root in roots:
        if folder := look_in(root):
            return _mnist(folder)
    folder_or_reason = download(home / "data")
    if isinstance(folder_or_reason, Folder):
        return _mnist(folder_or_reason)
    reason = f"It is in none of {', '.join(map(str, roots))}, and {folder_or_reason}"
    if options.name == "mnist":
        raise DataError(
            f"data.name is mnist, and MNIST is not to be had. {reason}. Name a folder that holds it with --data-root "
            f"or {VARIABLE}, or leave data.name out to train on the bundled digits."
        )
    return _digits(in_place_of_mnist=reason)


def _conventional_roots(home: Path, here: Path) -> Sequence[Path]:
    return (
        *(_under(here, Path(root)) for root in NEARBY),
        *(_under(here, Path(root)) for root in OF_USER),
        home / "data",
    )


def _under(here: Path, root: Path) -> Path:
    return (here / root.expanduser()).resolve()


def _mnist(folder: Folder) -> Source:
    train, test = folder.read()
    return Source(name="mnist", detail=str(folder.path), train=train, test=test)


def _digits(in_place_of_mnist: str | None = None) -> Source:
    train, test = read_digits()
    detail = f"{len(train) + len(test):,} digits of UCI, bundled with mnist-trials"
    return Source(name="digits", detail=detail, train=train, test=test, in_place_of_mnist=in_place_of_mnist)
