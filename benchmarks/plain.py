"""The loop that everybody writes: a DataLoader, transforms by image, `loss.item()` in each step, torch's own SGD."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from benchmarks.cases import Case
from reticket.data import Dataset
from reticket.training.evaluation import BATCH

Transform = Callable[[Tensor], Tensor]


class RandomCrop:
    """Pad by 4 black pixels and take a window of the image's own size."""

    def __call__(self, image: Tensor) -> Tensor:
        """Return the window."""
        height, width = image.shape[1:]
        padded = F.pad(image, (4, 4, 4, 4))
        top, left = torch.randint(9, (2,)).tolist()
        return padded[:, top : top + height, left : left + width]


class RandomFlip:
    """Flip from left to right, every other time."""

    def __call__(self, image: Tensor) -> Tensor:
        """Return the image or its mirror image."""
        return image.flip(2) if torch.rand(1).item() < 0.5 else image


class ToFloat:
    """Values in [0, 1]."""

    def __call__(self, image: Tensor) -> Tensor:
        """Return the image as float32."""
        return image.float().div(255)


class Normalise:
    """Minus the mean, divided by the standard deviation."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], image: bool) -> None:
        shape = (-1, 1, 1) if image else (-1,)
        self.mean, self.std = torch.tensor(mean).view(shape), torch.tensor(std).view(shape)

    def __call__(self, image: Tensor) -> Tensor:
        """Return the normalised input."""
        return (image - self.mean) / self.std


class PlainDataset(TorchDataset[tuple[Tensor, int]]):
    """Inputs one by one, each through its transforms."""

    def __init__(self, x: Tensor, y: Tensor, transforms: tuple[Transform, ...]) -> None:
        self.x, self.y, self.transforms = x, y.tolist(), transforms

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return an input and its label."""
        x = self.x[index]
        for transform in self.transforms:
            x = transform(x)
        return x, self.y[index]


class PlainLoop:
    """Training and evaluation of one model.

    Args:
        case: model and batch size.
        dataset: the data.
        workers: processes of the DataLoader, kept from epoch to epoch.
        device: where the model is.
    """

    def __init__(self, case: Case, dataset: Dataset, workers: int, device: str = "cpu") -> None:
        self.device = device
        image = dataset.is_images
        normalise = (*((ToFloat(),) if image else ()), Normalise(dataset.mean, dataset.std, image))
        augment = (RandomCrop(), RandomFlip()) if dataset.augmentation == "flip-crop" else ()
        train = PlainDataset(dataset.train_x, dataset.train_y, (*augment, *normalise))
        test = PlainDataset(dataset.test_x, dataset.test_y, normalise)
        keep = {"num_workers": workers, "persistent_workers": workers > 0, "pin_memory": device != "cpu"}
        self.train_loader = DataLoader(train, batch_size=case.batch_size, shuffle=True, **keep)
        self.test_loader = DataLoader(test, batch_size=BATCH, **keep)
        self.model = case.build().to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        self.criterion = nn.CrossEntropyLoss()
        self.total_loss = 0.0
        self._batches = self._endless()

    def train(self, steps: int) -> int:
        """Do some steps, going on where the last call stopped; return the number of inputs seen."""
        self.model.train()
        seen = 0
        for _ in range(steps):
            x, y = next(self._batches)
            x, y = x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.criterion(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            self.total_loss += loss.item()
            seen += len(y)
        return seen

    @torch.no_grad()
    def evaluate(self) -> int:
        """Count the right answers on the test part; return the number of inputs."""
        self.model.eval()
        right = seen = 0
        for x, y in self.test_loader:
            logits = self.model(x.to(self.device))
            right += (logits.argmax(1) == y.to(self.device)).sum().item()
            seen += len(y)
        return seen

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.train_loader
