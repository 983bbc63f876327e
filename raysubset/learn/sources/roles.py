"""What a person says of a table's columns: which is the key, which to leave out, which to one-hot.

A name with a comma stands in double quotes: --data.drop '"a,b",c'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raysubset.errors import ConfigError
from raysubset.learn.columns import Column
from raysubset.learn.sources.files import did_you_mean

KEY_OPTION = "--data.key_column"
DROP_OPTION = "--data.drop"
CATEGORICAL_OPTION = "--data.categorical"


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Columns that are more, or less, than what their type says.

    Attributes:
        key: holds the person's own name of each row; no feature.
        drop: are left out.
        categorical: are one-hot, whatever their type.
        fitted: the columns that a run was made with, for a table that has to be like it; None
            where the train rows decide.
    """

    key: str | None = None
    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    fitted: tuple[Column, ...] | None = None

    @property
    def left_out(self) -> frozenset[str]:
        """The columns that are no features."""
        return frozenset(self.drop if self.key is None else (*self.drop, self.key))

    def check(self, names: Sequence[str], labels: Sequence[str], where: str) -> None:
        """Refuse columns of the train rows that are not there, or that cannot be both.

        Args:
            names: the columns of the train file.
            labels: those of them that hold labels.
            where: the file.

        Raises:
            ConfigError: names the option, the column and the remedy.
        """
        asked = [(DROP_OPTION, name) for name in self.drop]
        asked += [(CATEGORICAL_OPTION, name) for name in self.categorical]
        asked += [] if self.key is None else [(KEY_OPTION, self.key)]
        used: dict[str, str] = {name: "the labels" for name in labels}
        for option, name in asked:
            if name not in names:
                if self.fitted is not None:  # options of the run; another table may lack its key
                    continue
                raise ConfigError(
                    f"{option}={name}: {where} has no such column; {did_you_mean(name, names)}"
                )
            if name in used:
                raise ConfigError(
                    f"{option}={name}: that column of {where} is given as {used[name]} too; "
                    "give it once"
                )
            used[name] = option

    def key_in(self, names: Sequence[str]) -> str | None:
        """Return the key column where a file has it; its rows are known by number elsewhere."""
        return self.key if self.key in names else None


def plain_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return names as they stand in the file, without the quotes that a comma in one needs."""
    quoted = (len(n) > 1 and n.startswith('"') and n.endswith('"') for n in names)
    return tuple(n[1:-1] if q else n for n, q in zip(names, quoted, strict=True))


def refuse_roles(roles: Roles, format: str, name: str) -> None:
    """Refuse roles of columns where the data has no such columns.

    Raises:
        ConfigError: names the option, the data and the remedy.
    """
    asked = [(DROP_OPTION, n) for n in roles.drop[:1]]
    asked += [(CATEGORICAL_OPTION, n) for n in roles.categorical[:1]]
    asked = [] if format in ("tabular", "hf") else asked
    if roles.key is not None and format not in ("tabular", "parquet-images", "cifar10", "hf"):
        asked.append((KEY_OPTION, roles.key))
    if asked:
        option, value = asked[0]
        own = "; an image folder's keys are its paths" if option == KEY_OPTION else ""
        raise ConfigError(
            f"{option}={value}: {name} ({format}) has no such columns{own}: leave the option out"
        )
