"""Datasets of the Hugging Face hub, through its own client: the extra `hf`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from raysubset.errors import ConfigError, DataError
from raysubset.learn.sources.rows import FileRows

HUB = "hf:"
"""How a dataset's name begins where it is meant, as in hf:ylecun/mnist."""
_RUNS_CODE_BELOW = 4  # datasets 4 runs no code of a dataset's; older ones do if they are told to


def read_hub(
    name: str, config: str | None, revision: str | None
) -> dict[str, tuple[pa.Table, FileRows]]:
    """Return the splits of a dataset on the hub, fetched once into the cache of its client.

    Args:
        name: such as ylecun/mnist.
        config: which of several; None for the only one.
        revision: branch, tag or commit; None for the newest.

    Raises:
        ConfigError: `datasets` is not installed.
        DataError: the hub has no such dataset, or cannot be reached; says what it said.
    """
    datasets = _client(name)
    major = int(str(datasets.__version__).split(".")[0])
    refuse: dict[str, Any] = {} if major >= _RUNS_CODE_BELOW else {"trust_remote_code": False}
    try:
        found = datasets.load_dataset(name, config, revision=revision, **refuse)
        return {str(split): _table(f"{HUB}{name} {split}", rows) for split, rows in found.items()}
    except Exception as error:  # the client hands on whatever its transport raises
        first = (str(error).splitlines() or [""])[0].rstrip(". ")
        raise DataError(
            f"--data={HUB}{name} cannot be had from the Hugging Face hub ({type(error).__name__}: "
            f"{first}); check its name, --data.hub_config, --data.hub_revision and the network. "
            "Without a network: load it elsewhere, save_to_disk(FOLDER) there, and give --data "
            "FOLDER"
        ) from error


def _client(name: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"--data={HUB}{name} needs the package datasets ({error}); install it: "
            "uv sync --extra hf"
        ) from error
    return datasets


def _table(where: str, rows: Any) -> tuple[pa.Table, FileRows]:
    # public: the Arrow table below a dataset, without its own formatting and decoding
    table: pa.Table = rows.with_format("arrow")[:]
    if not table.num_rows:
        raise DataError(f"{where} holds no row")
    return table, FileRows.count([Path(where)], [table.num_rows])
