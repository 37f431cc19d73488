"""Every error a user can meet.

    GraphwrightError            exit 1: the model could not meet what was asked
    ├── ModelError              the model file or graph is broken
    ├── InputError              example inputs or calibration data do not fit the model
    ├── ExportError             PyTorch could not export the module
    ├── TargetError             the target has no kernel for an operator, or the target is unknown
    ├── BackendMissing          an optional package or device is not there
    ├── PassError               a pass left the graph broken
    ├── ContractError           numbers moved further than a contract allows
    ├── NoChangeError           a requested precision or sparsity changed nothing
    ├── BudgetError             the accuracy budget was missed
    ├── ArtifactError           an artifact cannot be written, read or trusted
    └── UsageError              exit 2: the call itself is wrong
"""


class GraphwrightError(Exception):
    """One sentence: what happened, where, and what to do."""

    exit_code = 1


class ModelError(GraphwrightError):
    """The model file or graph is broken."""


class InputError(GraphwrightError):
    """Example inputs or calibration data do not fit the model."""


class ExportError(GraphwrightError):
    """PyTorch could not export the module."""


class TargetError(GraphwrightError):
    """The target is unknown, or has no kernel for an operator."""


class BackendMissing(GraphwrightError):
    """An optional package or device is not there."""


class PassError(GraphwrightError):
    """A pass left the graph broken."""


class ContractError(GraphwrightError):
    """Numbers moved further than a contract allows."""


class NoChangeError(GraphwrightError):
    """A requested precision or sparsity changed nothing."""


class BudgetError(GraphwrightError):
    """The accuracy budget was missed."""


class ArtifactError(GraphwrightError):
    """An artifact cannot be written, read or trusted."""


class UsageError(GraphwrightError):
    """The call itself is wrong."""

    exit_code = 2


class GraphwrightWarning(UserWarning):
    """Something was done, but less of it was checked than usual."""
