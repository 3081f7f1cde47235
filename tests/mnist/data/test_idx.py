"""IDX files: what is read, and what is said of files that cannot be."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from mnist_trials.errors import DataError
from mnist_trials.mnist.data.idx import read_images, read_labels, read_pair


def idx(values: torch.Tensor) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    return header + values.to(torch.uint8).numpy().tobytes()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (5, 28, 28), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_images_come_back_as_they_were_written(tmp_path: Path, images: torch.Tensor) -> None:
    path = tmp_path / "images"
    path.write_bytes(idx(images))
    assert torch.equal(read_images(path), images.unsqueeze(1))


def test_a_gzipped_file_reads_like_a_plain_one(tmp_path: Path, images: torch.Tensor) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx(images)))
    assert torch.equal(read_images(path), images.unsqueeze(1))


def test_labels_come_back_as_class_numbers(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(idx(torch.tensor([3, 1, 4])))
    labels = read_labels(path)
    assert labels.dtype == torch.int64
    assert labels.tolist() == [3, 1, 4]


def test_a_truncated_file_is_named_with_both_sizes(tmp_path: Path, images: torch.Tensor) -> None:
    path = tmp_path / "images"
    path.write_bytes(idx(images)[:-10])
    with pytest.raises(DataError, match=r"images is cut off: 3,926 bytes of 3,936 that its header \(5 x 28 x 28\)"):
        read_images(path)


def test_a_truncated_gzip_file_is_named(tmp_path: Path, images: torch.Tensor) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx(images))[:-40])
    with pytest.raises(DataError, match=r"images\.gz cannot be read: .*Fetch it again"):
        read_images(path)


def test_a_file_ending_in_gz_that_is_not_gzipped_is_named(tmp_path: Path, images: torch.Tensor) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(idx(images))
    with pytest.raises(DataError, match=r"images\.gz cannot be read"):
        read_images(path)


def test_a_header_that_is_cut_off_is_said(tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(bytes([0, 0, 8, 3, 0, 0]))
    with pytest.raises(DataError, match=r"is cut off: 6 of the 16 bytes of its header"):
        read_images(path)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", bytes([0, 0, 8, 1, 0, 0, 0, 0])])
def test_another_kind_of_file_is_refused_by_how_it_begins(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"images begins with (nothing|3c68746d|00000801); .* begins with 00000803"):
        read_images(path)


def test_a_file_longer_than_its_header_says_is_refused(tmp_path: Path, images: torch.Tensor) -> None:
    path = tmp_path / "images"
    path.write_bytes(idx(images) + b"x")
    with pytest.raises(DataError, match=r"is too long: more than the 3,936 that its header"):
        read_images(path)


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(idx(torch.zeros(2, 32, 32)))
    with pytest.raises(DataError, match=r"holds 2 x 32 x 32 values; MNIST's images are n x 28 x 28"):
        read_images(path)


def test_a_header_that_promises_more_than_memory_holds_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(bytes([0, 0, 8, 3]) + b"\xff" * 12)
    with pytest.raises(DataError, match=r"is cut off: 16 bytes of"):
        read_images(path)


def test_a_label_above_nine_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(idx(torch.tensor([3, 10])))
    with pytest.raises(DataError, match=r"holds the label 10"):
        read_labels(path)


def test_unequal_counts_name_both_files(tmp_path: Path, images: torch.Tensor) -> None:
    (tmp_path / "images").write_bytes(idx(images))
    (tmp_path / "labels").write_bytes(idx(torch.tensor([3, 1])))
    with pytest.raises(DataError, match=r"images holds 5 images and .*labels holds 2 labels"):
        read_pair(tmp_path / "images", tmp_path / "labels")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images cannot be read: .*No such file"):
        read_images(tmp_path / "images")
