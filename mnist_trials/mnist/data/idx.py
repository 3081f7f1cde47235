"""Reads the IDX files of MNIST, plain or gzipped.

The format is Y. LeCun's: a big-endian magic number (two zero bytes, the element type, the number of dimensions), one
32-bit size per dimension, then the bytes themselves, last dimension fastest.
"""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path
from typing import IO, cast

import numpy as np
import torch

from mnist_trials.errors import DataError

SIDE = 28
"""Height and width of an image, in pixels."""

CLASSES = 10
"""The number of different labels."""

_UNSIGNED_BYTES = 0x08
_PART = 1 << 24


def read_pair(images_path: Path, labels_path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, uint8 of [n, 1, 28, 28], and labels, int64 of [n].

    Raises:
        DataError: a file is absent, cut off, too long or not of this kind, or the two do not hold equally many.
    """
    images, labels = read_images(images_path), read_labels(labels_path)
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images):,} images and {labels_path} holds {len(labels):,} labels. "
            "The two files do not belong together: fetch both again."
        )
    return images, labels


def read_images(path: Path) -> torch.Tensor:
    """The images of an `idx3-ubyte` file: uint8 of [n, 1, 28, 28].

    Raises:
        DataError: see `read_pair`.
    """
    images = _read(path, dimensions=3)
    if tuple(images.shape[1:]) != (SIDE, SIDE) or len(images) == 0:
        shape = " x ".join(str(size) for size in images.shape)
        raise DataError(f"{path} holds {shape} values; MNIST's images are n x {SIDE} x {SIDE}, n at least 1.")
    return images.unsqueeze(1)


def read_labels(path: Path) -> torch.Tensor:
    """The labels of an `idx1-ubyte` file: int64 of [n], each from 0 to 9.

    Raises:
        DataError: see `read_pair`; also for a label above 9.
    """
    labels = _read(path, dimensions=1)
    if len(labels) and (top := int(labels.max())) >= CLASSES:
        raise DataError(f"{path} holds the label {top}; MNIST's labels are 0 to {CLASSES - 1}.")
    return labels.long()


def _read(path: Path, dimensions: int) -> torch.Tensor:
    try:
        with cast(IO[bytes], gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as file:
            shape = _read_header(file, path, dimensions)
            # One byte more than there should be, so that a file that is too long shows without reading all of it.
            content = _read_at_most(file, prod(shape) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. Fetch it again.") from error
    _check_length(path, shape, dimensions, len(content))
    if not content:
        return torch.empty(shape, dtype=torch.uint8)
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8).reshape(shape))


def _read_header(file: IO[bytes], path: Path, dimensions: int) -> tuple[int, ...]:
    size = 4 + 4 * dimensions
    header = file.read(size)
    magic = bytes([0, 0, _UNSIGNED_BYTES, dimensions])
    if header[:4] != magic:
        begins = header[:4].hex() or "nothing"
        raise DataError(
            f"{path} begins with {begins}; an IDX file of {'images' if dimensions > 1 else 'labels'} "
            f"begins with {magic.hex()}. This is another kind of file."
        )
    if len(header) < size:
        raise DataError(f"{path} is cut off: {len(header)} of the {size} bytes of its header. Fetch it again.")
    return tuple(int.from_bytes(header[at : at + 4], "big") for at in range(4, size, 4))


def _read_at_most(file: IO[bytes], count: int) -> bytearray:
    """Up to `count` bytes, in parts: a header may promise more than there is memory for."""
    content = bytearray()
    while part := file.read(min(count - len(content), _PART)):
        content += part
    return content


def _check_length(path: Path, shape: tuple[int, ...], dimensions: int, found: int) -> None:
    wanted = prod(shape)
    if found == wanted:
        return
    header = 4 + 4 * dimensions
    sizes = " x ".join(str(size) for size in shape)
    fault = f"is cut off: {found + header:,} bytes" if found < wanted else "is too long: more than"
    raise DataError(
        f"{path} {fault} {'of' if found < wanted else 'the'} {wanted + header:,} that its header ({sizes}) "
        "asks for. Fetch it again."
    )
