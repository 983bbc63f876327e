"""Our errors as scikit-learn's callers expect them: each is a ValueError too.

Only here: elsewhere a ValueError means that a text could not be read as a number.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from raysubset.errors import BudgetError, ConfigError, DataError, ModelError


class ConfigValueError(ConfigError, ValueError):
    """`ConfigError`, and a ValueError."""


class BudgetValueError(BudgetError, ValueError):
    """`BudgetError`, and a ValueError."""


class DataValueError(DataError, ValueError):
    """`DataError`, and a ValueError."""


class ModelValueError(ModelError, ValueError):
    """`ModelError`, and a ValueError."""


_TWINS: tuple[tuple[type[ConfigError | DataError | ModelError], type[ValueError]], ...] = (
    (BudgetError, BudgetValueError),
    (ConfigError, ConfigValueError),
    (DataError, DataValueError),
    (ModelError, ModelValueError),
)


@contextmanager
def as_value_errors() -> Generator[None]:
    """Raise what means "bad input" as its twin that is a ValueError too."""
    try:
        yield
    except (ConfigError, DataError, ModelError) as error:
        twin = next(twin for kind, twin in _TWINS if isinstance(error, kind))
        raise twin(error.message) from error
