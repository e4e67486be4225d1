"""scikit-learn's embedded digits: 1,797 grey images of 8 x 8 as 64 features, no download."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from reticket.data.dataset import Dataset
from reticket.data.description import Description
from reticket.data.registry import dataset
from reticket.data.subset import balanced_indices

TEST_SIZE = 500  # 50 of each class; 1,297 stay for training


@dataset("digits", lambda: Description(1_797 - TEST_SIZE, TEST_SIZE, 10, (64,)))
def load_digits(folder: Path | None = None) -> Dataset:
    """Return the digits with a fixed split: 1,297 training and 500 test inputs (50 of each class), no augmentation.

    Features are scaled to [0, 1]; mean and std are those of all training features together.

    Args:
        folder: not used, the data comes with scikit-learn.
    """
    from sklearn import datasets

    features, labels = datasets.load_digits(return_X_y=True)
    x = torch.tensor(features / 16, dtype=torch.float32, device="cpu")
    y = torch.tensor(labels, dtype=torch.int64, device="cpu")
    test = balanced_indices(y, TEST_SIZE, "digits", "test split")
    is_train = torch.ones(len(y), dtype=torch.bool, device="cpu")
    is_train[test] = False
    train_x = x[is_train]
    return Dataset(
        name="digits",
        train_x=train_x,
        train_y=y[is_train],
        test_x=x[test],
        test_y=y[test],
        classes=tuple("0123456789"),
        mean=(_rounded(train_x.double().mean()),),
        std=(_rounded(train_x.double().std(correction=0)),),
    )


def _rounded(value: Float[Tensor, ""]) -> float:
    """Return six decimals: keys are made of this number, and a sum's last bits depend on the number of threads."""
    return round(float(value), 6)
