"""reticket: reissue a lottery ticket for a new random initialisation.

The names below are the public surface. Each is imported from its home when it is first used, so that `import reticket`
costs little more than `import torch`.
"""

import ast
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reticket.version import __version__ as __version__

# The one list of the public names. Type checkers and editors follow these imports (`A as A` says that A is public); a
# running program does not carry them out, but reads the list as text: a table of names and homes, or an `__all__` that
# is written out, would have to repeat every name, and from a table alone a checker learns no types.
if TYPE_CHECKING:
    from reticket.analysis import (
        Diversity as Diversity,
        Stat as Stat,
        diversity as diversity,
        gap_closed as gap_closed,
        overlap as overlap,
    )
    from reticket.connectivity import (
        BarrierCurve as BarrierCurve,
        barrier as barrier,
        interpolate as interpolate,
        merge as merge,
        merge_partly as merge_partly,
        repair as repair,
    )
    from reticket.data import Dataset as Dataset, load_dataset as load_dataset
    from reticket.errors import ReticketError as ReticketError, VerificationError as VerificationError
    from reticket.matching import (
        Activations as Activations,
        CommonFrame as CommonFrame,
        assess as assess,
        match as match,
        match_each as match_each,
        match_many as match_many,
        matching_memory as matching_memory,
    )
    from reticket.models import build_model as build_model
    from reticket.objectives import Objective as Objective
    from reticket.rng import generator_for as generator_for
    from reticket.packed import compile_sparse as compile_sparse
    from reticket.symmetry import (
        Alignment as Alignment,
        Group as Group,
        Quality as Quality,
        Symmetry as Symmetry,
        discover as discover,
        identity_alignment as identity_alignment,
        load_into as load_into,
        random_alignment as random_alignment,
        verify as verify,
    )
    from reticket.tasks.config import Config as Config
    from reticket.tasks.results import Results as Results
    from reticket.experiment import ExecutionConfig as ExecutionConfig
    from reticket.tickets import (
        Mask as Mask,
        Ticket as Ticket,
        coverage as coverage,
        erk_mask as erk_mask,
        iterative_magnitude_pruning as iterative_magnitude_pruning,
        prunable as prunable,
        prune as prune,
        prune_magnitude as prune_magnitude,
        random_mask as random_mask,
        sparse as sparse,
        sparsify as sparsify,
        transfer as transfer,
        true_density as true_density,
    )
    from reticket.training import (
        Callback as Callback,
        LogMetrics as LogMetrics,
        Placement as Placement,
        Recipe as Recipe,
        Resume as Resume,
        Span as Span,
        evaluate as evaluate,
        train as train,
    )
    from reticket.types import Permutation as Permutation
    from reticket.workflow import run as run

_HOME_OF = {
    alias.name: str(statement.module)
    for block in ast.parse(Path(__file__).read_text("utf-8")).body
    if isinstance(block, ast.If)
    for statement in block.body
    if isinstance(statement, ast.ImportFrom)
    for alias in statement.names
}
__all__ = sorted(_HOME_OF)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'reticket' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
