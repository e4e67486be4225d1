"""The seat of an augmentation: what becomes of an input each time it is trained on; those of torchvision by name."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from reticket.errors import ConfigError, InputError
from reticket.extras import extra
from reticket.lookup import imported
from reticket.options import Options
from reticket.registry import Registry, first_line
from reticket.rng import global_generators

Transform: TypeAlias = Callable[[Tensor], Tensor]  # of one input as stored, drawing from torch's global generator
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class AugmentationKind:
    """An augmentation by name, before its options are known.

    Args:
        name: what users write as `augment`.
        make: from its options to a transform of one input.
        options: its own settings, with their annotations and defaults.
        package: whose release decides what it does, "" where `make` says it all.
    """

    name: str
    make: Callable[..., Transform]
    options: Options
    package: str = ""

    @classmethod
    def of(cls, name: str, make: Callable[..., Transform], package: str = "") -> "AugmentationKind":
        """Read from a signature which options an augmentation has.

        Raises:
            ConfigError: for a parameter without a default.
        """
        named = {key: one for key, one in inspect.signature(make).parameters.items() if one.kind in NAMED}
        odd = [key for key, one in named.items() if one.default is one.empty]
        if odd:
            raise ConfigError(
                f"augmentation '{name}' has the parameter '{odd[0]}' without a default; name a function of options "
                f"that returns a transform of one input"
            )
        own = {key: _checkable(one) for key, one in named.items()}
        return cls(name, make, Options(f"augmentation '{name}'", own, ConfigError), package)

    def __call__(self, options: Mapping[str, Any]) -> Transform:
        """Return the transform.

        Args:
            options: its own, by name.

        Raises:
            ConfigError: when it cannot be made, as without its package.
        """
        try:
            found = self.make(**options)
        except (InputError, ValueError, TypeError) as problem:
            raise ConfigError(f"augmentation '{self.name}' cannot be made: {problem}") from problem
        if not callable(found):
            raise ConfigError(
                f"augmentation '{self.name}' made a {type(found).__name__}, but a transform of one input was expected: "
                f"name a function of options that returns it"
            )
        return found


def _checkable(one: inspect.Parameter) -> inspect.Parameter:
    """Return an option with an annotation that a configuration can be checked by: others' may allow any object."""
    plain = one.annotation in (bool, int, float, str) or getattr(one.annotation, "__origin__", None) is Literal
    return one if plain else one.replace(annotation=Any)


AUGMENTATIONS = Registry[AugmentationKind](
    "augmentation", "reticket.augmentations", ConfigError, says=lambda one: first_line(one.make), importable=True
)
Make = TypeVar("Make", bound=Callable[..., Transform])


def augmentation(name: str, *, package: str = "") -> Callable[[Make], Make]:
    """Register an augmentation: a function from options to a transform of one input.

    The transform gets an input as stored, an image as uint8 `(channels, height, width)`, and returns one of the same
    shape and type. What it draws, it draws from torch's global generator, which is seeded for every input and epoch.
    `Recipe.augment_options` are checked against the function's signature.

    Args:
        name: what users write as `augment`.
        package: whose release decides what it does besides.

    Raises:
        ConfigError: when the name is taken or an option has no default.
    """

    def register(make: Make) -> Make:
        AUGMENTATIONS.add(name, AugmentationKind.of(name, make, package))
        return make

    return register


def find_augmentation(name: str) -> AugmentationKind:
    """Return an augmentation by its name, or one of the user's own as `package.module:NAME`.

    Args:
        name: what stands as `augment` in a recipe; a function of options that returns a transform, or its class, as
            `torchvision.transforms.v2:ColorJitter`.

    Raises:
        ConfigError: when there is no such augmentation.
    """
    if ":" not in name:
        return AUGMENTATIONS.named(name)
    return AugmentationKind.of(name, imported(name, "augmentation", ConfigError))


def transformed(
    transform: Transform, x: Shaped[Tensor, "n ..."], seeds: Int64[Tensor, " n"]
) -> Shaped[Tensor, "n ..."]:
    """Return what becomes of some inputs, each decided by its seed alone; the global generator is put back.

    Args:
        transform: of one input.
        x: inputs as stored, on the CPU.
        seeds: of each.

    Raises:
        ConfigError: when an input is given back in another form.

    >>> noisy = transformed(lambda image: image + torch.randn(2), torch.zeros(3, 2), torch.tensor([5, 6, 5]))
    >>> torch.equal(noisy[0], noisy[2]), torch.equal(noisy[0], noisy[1])
    (True, False)
    """
    made = torch.empty_like(x, memory_format=torch.contiguous_format)
    with global_generators():
        for row, place, seed in zip(x, made, seeds.tolist(), strict=True):
            torch.default_generator.manual_seed(seed)
            found = transform(row)
            if not isinstance(found, Tensor) or (found.shape, found.dtype) != (row.shape, row.dtype):
                seen = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
                raise ConfigError(
                    f"augmentation made {seen} of an input that is {row.dtype} {tuple(row.shape)}; it must keep type "
                    f"and shape"
                )
            place.copy_(found)
    return made


def _torchvision(module: str) -> Any:
    try:
        return extra(f"torchvision.{module}", "it")
    except RuntimeError as problem:  # a build for another torch
        said = str(problem).partition("\n")[0]
        raise InputError(
            f"torchvision does not load beside torch {torch.__version__} ({said}); install the release for it"
        ) from problem


def _of_torchvision(name: str, **options: Any) -> Transform:
    """Return a transform of torchvision that is given nothing but images of bytes."""
    transform = getattr(_torchvision("transforms.v2"), name)(**options)

    def of_images(image: Tensor) -> Tensor:
        if image.dim() != 3 or image.dtype != torch.uint8:
            raise ConfigError(
                f"torchvision's {name} changes images of bytes (channels, height, width), but an input is "
                f"{image.dtype} {tuple(image.shape)}; leave it out of augment"
            )
        return transform(image)

    return of_images


@augmentation("randaugment", package="torchvision")
def randaugment(*, num_ops: int = 2, magnitude: int = 9, num_magnitude_bins: int = 31) -> Transform:
    """torchvision's RandAugment: `num_ops` operations of one magnitude on each image (arXiv 1909.13719)."""
    return _of_torchvision("RandAugment", num_ops=num_ops, magnitude=magnitude, num_magnitude_bins=num_magnitude_bins)


@augmentation("trivial-augment", package="torchvision")
def trivial_augment(*, num_magnitude_bins: int = 31) -> Transform:
    """torchvision's TrivialAugmentWide: one operation of any magnitude on each image (arXiv 2103.10158)."""
    return _of_torchvision("TrivialAugmentWide", num_magnitude_bins=num_magnitude_bins)


@augmentation("autoaugment", package="torchvision")
def autoaugment(*, policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet") -> Transform:
    """torchvision's AutoAugment: a learnt pair of operations on each image (arXiv 1805.09501)."""
    policies = _torchvision("transforms.autoaugment").AutoAugmentPolicy
    return _of_torchvision("AutoAugment", policy=policies(policy))
