"""What a task passes through a network, in images: the unit in which a plan is estimated before it is carried out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """What one task passes through a network, in images.

    Args:
        trained: images forward and backward.
        evaluated: images forward only.
        seconds: work that is in neither.
        epochs: of training.
    """

    trained: int | float = 0
    evaluated: int | float = 0
    seconds: int | float = 0
    epochs: int | float = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.trained + other.trained,
            self.evaluated + other.evaluated,
            self.seconds + other.seconds,
            self.epochs + other.epochs,
        )


@dataclass(frozen=True)
class Sizes:
    """How many inputs a data set has before anything is left out.

    Args:
        train, test: inputs of each part.
        balanced: the most test inputs that a class-balanced choice can have; all when None.
    """

    train: int
    test: int
    balanced: int | None = None
