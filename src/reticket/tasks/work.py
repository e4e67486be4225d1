"""What a task passes through a network, in images: the unit in which a plan is estimated before it is carried out."""

from dataclasses import dataclass

EVALUATED = 1 / 3  # of the time of an image in training: forward alone, of forward, backward and step


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

    def cost(self, train: int) -> float:
        """Return it in model-epochs, the unit in which the costs of tasks are compared.

        Args:
            train: images of an epoch.

        >>> Work(trained=300, evaluated=300).cost(train=100)
        4.0
        """
        return (self.trained + EVALUATED * self.evaluated) / train


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
