"""Packages that are used where they are installed, and asked for in one sentence where they are not."""

import importlib
from importlib.util import find_spec
from typing import Any

from reticket.errors import InputError


def extra(package: str, use: str) -> Any:
    """Import a package that is not needed by everybody.

    Args:
        package: its name, to import and to install.
        use: what needs it, for the error.

    Raises:
        InputError: when it is not installed.

    >>> extra("json", "saving").dumps([1])
    '[1]'
    >>> extra("no_such_package", "drawing")
    Traceback (most recent call last):
    reticket.errors.InputError: drawing needs no_such_package, which is not installed; pip install no_such_package
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        name = package.partition(".")[0]
        raise InputError(f"{use} needs {name}, which is not installed; pip install {name}") from None


def check_installed(package: str, use: str) -> None:
    """Refuse what needs a package that is not there, without importing it.

    Args:
        package: its name, to import and to install.
        use: what needs it, for the error.

    Raises:
        InputError: when it is not installed.

    >>> check_installed("no_such_package", "drawing")
    Traceback (most recent call last):
    reticket.errors.InputError: drawing needs no_such_package, which is not installed; pip install no_such_package
    """
    if find_spec(package) is None:
        raise InputError(f"{use} needs {package}, which is not installed; pip install {package}")


def axes_of(axes: Any, use: str) -> Any:
    """Return matplotlib's axes to draw on: those given, or new ones.

    Args:
        axes: of matplotlib, None for new ones.
        use: what draws, for the error.

    Raises:
        InputError: when matplotlib is not installed.
    """
    return extra("matplotlib.pyplot", use).subplots()[1] if axes is None else axes
