"""Options that would change nothing here: refused, because somebody meant something by them."""

from __future__ import annotations

from collections.abc import Iterable

from raysubset.errors import ConfigError

_OF_EMBEDDINGS = (
    *("data.validation", "data.on_bad_row", "data.label_column"),
    "training.deterministic",
)
_OF_TRAINING = (
    "selection.goal",
    "selection.proxy_epochs",
    "selection.select_every",
    "selection.warm_start",
    "training.",
    "tracking.",
)
_OF_SCORING = ("training.precision", "training.channels_last", "training.deterministic")


def refuse_unread(names: Iterable[str], *, embeddings: bool) -> None:
    """Refuse options on the command line that would change nothing here.

    Raises:
        ConfigError: names them.
    """
    unread = [n for n in names if n.startswith(_OF_TRAINING) and n not in _OF_SCORING]
    why = "select trains nothing"
    if not unread and embeddings:
        unread = [n for n in names if n.startswith(("data.", "model.", "training."))]
        unread = [n for n in unread if n not in _OF_EMBEDDINGS]
        why = "with --embeddings the files are the data and the head is the model"
    if unread:
        said = ", ".join(f"--{name}" for name in unread)
        raise ConfigError(f"{said}: {why}, so this would change nothing; leave it out.")
