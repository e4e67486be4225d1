"""What a registered data set is, known without its files."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Description:
    """Sizes of a data set as its publisher gives them, so that an experiment can be planned before the data are there.

    Args:
        train, test: number of inputs of each part.
        classes: number of classes.
        input_shape: of one input without the batch, `(channels, height, width)` or `(features,)`.
    """

    train: int
    test: int
    classes: int
    input_shape: tuple[int, ...]
