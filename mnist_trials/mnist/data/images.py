"""The data set as a torchvision one, for transforms of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from PIL import Image
from torchvision.datasets import VisionDataset
from typing_extensions import override

from mnist_trials.mnist.data.arrays import Arrays


@final
class ImageDataset(VisionDataset):  # type: ignore[misc]
    """Items as torchvision's MNIST gives them: a grey PIL image of 28 x 28 and a class number, both transformed."""

    def __init__(
        self,
        arrays: Arrays,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
    ) -> None:
        super().__init__(None, transform=transform, target_transform=target_transform)
        self.data = arrays.images[:, 0]
        self.targets = arrays.labels

    @override
    def __len__(self) -> int:
        return len(self.data)

    @override
    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image: Any = Image.fromarray(self.data[index].numpy())
        target: Any = int(self.targets[index])
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target
