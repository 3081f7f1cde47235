"""Finds the four files of MNIST in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

from mnist_trials.errors import DataError
from mnist_trials.mnist.data.arrays import Arrays
from mnist_trials.mnist.data.idx import read_pair

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
"""The files of MNIST; each may also be there with `.gz` behind its name."""

LAYOUTS = ("MNIST/raw", "raw", ".")
"""Where under a root they may lie; the first is torchvision's."""


@final
@dataclass(frozen=True, slots=True)
class Folder:
    """A folder with all four files, in the order of `NAMES`."""

    path: Path
    files: tuple[Path, ...]

    def read(self) -> tuple[Arrays, Arrays]:
        """The training set and the test set.

        Raises:
            DataError: a file is damaged or does not belong to the others; the text names it.
        """
        train_images, train_labels, test_images, test_labels = self.files
        return Arrays(*read_pair(train_images, train_labels)), Arrays(*read_pair(test_images, test_labels))


def look_in(root: Path) -> Folder | None:
    """The folder under `root` that holds MNIST, or None."""
    for layout in LAYOUTS:
        path = root / layout
        files = [file for name in NAMES if (file := _file(path, name)) is not None]
        if len(files) == len(NAMES):
            return Folder(path, tuple(files))
    return None


def require_in(root: Path, named_by: str) -> Folder:
    """The folder under `root` that holds MNIST; `named_by` says who named that root.

    Raises:
        DataError: there is none; the text says where was looked and which files are missing.
    """
    if folder := look_in(root):
        return folder
    if not root.is_dir():
        raise DataError(f"{named_by} is {root}, and there is no such folder. {_WANTED}")
    tried = ", ".join(str(root / layout) for layout in LAYOUTS)
    raise DataError(f"{named_by} is {root}, and MNIST is not in it (looked in {tried}).{_partly(root)} {_WANTED}")


def _file(folder: Path, name: str) -> Path | None:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def _partly(root: Path) -> str:
    """Says which files are missing where some of them are there."""
    for layout in LAYOUTS:
        missing = [name for name in NAMES if _file(root / layout, name) is None]
        if len(missing) < len(NAMES):
            return f" {root / layout} lacks {', '.join(missing)}."
    return ""


_WANTED = f"Wanted: {', '.join(NAMES)}, each as it is or with .gz, in that folder, in its raw/ or in its MNIST/raw/."
