"""What a person said of the data beside where it is; refused where nothing would read it."""

from __future__ import annotations

from dataclasses import dataclass

from raysubset.errors import ConfigError
from raysubset.learn.settings import Layout

_OF_HF = ("split", "hub_config", "hub_revision")
_OF_ARRAYS = ("numpy", "factory")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Options that some formats read.

    Attributes:
        split: of a Hugging Face dataset, the split with the train rows; None for `train`, or the
            only one.
        hub_config: of a dataset on the hub that has several.
        hub_revision: branch, tag or commit of a dataset on the hub.
        layout: where the channels of arrays of images stand.
    """

    split: str | None = None
    hub_config: str | None = None
    hub_revision: str | None = None
    layout: Layout = "auto"

    def refuse_unread(self, format: str) -> None:
        """Refuse an option that this format does not read.

        Raises:
            ConfigError: names it.
        """
        given = [name for name in _OF_HF if getattr(self, name) is not None]
        if given and format != "hf":
            raise ConfigError(
                f"--data.{given[0]}={getattr(self, given[0])}: only Hugging Face datasets have it, "
                f"and this data is of format {format}; leave it out"
            )
        if self.layout != "auto" and format not in _OF_ARRAYS:
            raise ConfigError(
                f"--data.layout={self.layout}: only arrays of images (formats "
                f"{' and '.join(_OF_ARRAYS)}) have one, and this data is of format {format}; leave "
                "it out"
            )
