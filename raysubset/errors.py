"""Errors that a person can act on: each names the value, the cause and the remedy.

Every error here derives from `RaySubsetError`, survives pickling (Ray carries errors between
processes) and maps to exit code 2 when it means "bad input".
"""

from __future__ import annotations


class RaySubsetError(Exception):
    """Root of all errors that raysubset raises on purpose."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class ConfigError(RaySubsetError):
    """An option, or a combination of options, that cannot mean anything."""

    exit_code = 2


class DataError(RaySubsetError):
    """Data that cannot be read or that cannot be learned from; names the file or the rows."""

    exit_code = 2


class ModelError(RaySubsetError):
    """A model that gives no factors, or that does not fit the data."""

    exit_code = 2


class BudgetError(ConfigError):
    """A fraction or a budget outside what the pool holds."""


class RunFolderError(RaySubsetError):
    """A run folder that is taken, foreign, damaged or cannot be written."""

    exit_code = 2


class RoomError(RaySubsetError):
    """A machine or a cluster with less room than the experiment asks for."""

    exit_code = 2


class TrainingDiverged(RaySubsetError):
    """Training whose loss is no longer a finite number."""

    def __init__(self, message: str, epoch: int = -1, lr: float = float("nan")) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.lr = lr

    def __reduce__(self) -> tuple[type[TrainingDiverged], tuple[str, int, float]]:
        return (type(self), (self.message, self.epoch, self.lr))


class CrewLost(RaySubsetError):
    """Training ranks or scorers that did not answer in time, or died too often."""


class Stopped(RaySubsetError):
    """A run that was asked to stop and did so in good order; it can be resumed."""

    exit_code = 130
