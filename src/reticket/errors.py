"""Every error a user can meet. One sentence: where, what was seen, what was expected, what to do."""

OF_OTHERS = (Exception, SystemExit)
"""What code of others may end with: its `sys.exit` must not end our process, least of all in silence."""


class ReticketError(Exception):
    """Base of all errors of this package; the command line prints it as one sentence.

    `exit_code` is 1 for a failure of the work itself and 2 for a call or an input that the user can fix.
    """

    exit_code: int = 1


class InputError(ReticketError):
    """Something the caller passed in cannot be used as it is."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration, preset name or `--set` value is wrong."""


class DataError(InputError):
    """A data set is missing, truncated or not what its name says."""


class ModelError(InputError):
    """A model name cannot be resolved, built or run on the example inputs."""


class PermutationError(InputError):
    """An index vector is not a permutation, or permutations of different sizes are combined."""


class SymmetryError(InputError):
    """A symmetry file or specification does not fit the model it is used with."""


class AlignmentError(InputError):
    """An alignment cannot be applied to these tensors."""


class MaskError(InputError):
    """A mask, ticket or density does not fit the weights it is meant for."""


class VerificationError(ReticketError):
    """A claimed symmetry changed the function of the model."""


class TrainingError(ReticketError):
    """A training run cannot go on, for instance because its loss is not finite."""


class RanksError(ReticketError):
    """Processes that train one model together lost touch with each other."""


class StoreError(ReticketError):
    """The store of results cannot be read or written."""
