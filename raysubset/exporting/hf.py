"""A round's rows as a Hugging Face dataset: `Dataset.select` of what the run was made on.

Only the extra `hf` can do it; what was selected lies in a folder for `datasets.load_from_disk`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raysubset.errors import ConfigError, DataError
from raysubset.experiment import Experiment
from raysubset.learn.settings import DataSettings
from raysubset.learn.sources.files import PARQUET_SUFFIXES, table_parts
from raysubset.learn.sources.hf_disk import is_saved
from raysubset.learn.sources.hf_hub import HUB
from raysubset.storage.addresses import is_uri

_IN_PYTHON = "in Python, dataset.select(ids) takes the ids of --format json"


def chosen_rows(run: Path, ids: Sequence[int], labels: Sequence[str]) -> Any:
    """Return the `datasets.Dataset` of these rows, in the order of choice.

    Args:
        run: its folder; it says where its data lies.
        ids: row numbers of its train rows.
        labels: the class that the run knows each by.

    Raises:
        ConfigError: `datasets` is not installed, or the data is none of Hugging Face's forms.
        DataError: the data cannot be read, or is not what the run was made on.
    """
    data = Experiment.of(Experiment.read(run / "experiment.yaml")).data
    client = _client()
    try:
        rows = _train_rows(client, data)
    except ConfigError:
        raise
    except Exception as error:  # the client hands on whatever its readers raise
        first = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"the run's --data={data.path} cannot be read ({type(error).__name__}: {first}); put "
            "it where it was."
        ) from error
    if max(ids) >= len(rows):
        raise DataError(
            f"the run chose row {max(ids):,}, and --data={data.path} has {len(rows):,} rows now; "
            "put the data back as it was."
        )
    chosen = rows.select(ids)
    _check_labels(chosen, data, labels)
    return chosen


def _client() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"--format hf needs the package datasets ({error}); install it: uv sync --extra hf"
        ) from error
    return datasets


def _train_rows(client: Any, data: DataSettings) -> Any:
    """Return the dataset with the run's train rows, in the order of their ids."""
    path = data.path or ""
    if path.startswith(HUB) or (data.format == "hf" and not is_saved(Path(path))):
        name = path.removeprefix(HUB)
        found = client.load_dataset(name, data.hub_config, revision=data.hub_revision)
        return found[_split_of(found, data)]
    if is_uri(path) or not path:
        raise ConfigError(f"this run's data is not on this disk; {_IN_PYTHON}.")
    folder = Path(path).expanduser()
    if is_saved(folder):
        found = client.load_from_disk(str(folder))
        return found[_split_of(found, data)] if isinstance(found, dict) else found
    files = _parquet_files(folder)
    if not files:
        raise ConfigError(
            f"this run's --data={path} is no Hugging Face folder and no Parquet; {_IN_PYTHON}."
        )
    return client.Dataset.from_parquet([str(file) for file in files])


def _split_of(found: Any, data: DataSettings) -> str:
    """Return the split with the train rows, as the run chose it."""
    if data.split is not None:
        return data.split
    return "train" if "train" in found or len(found) > 1 else next(iter(found))


def _parquet_files(path: Path) -> tuple[Path, ...]:
    if path.is_file():
        return (path,) if path.suffix.lower() in PARQUET_SUFFIXES else ()
    try:
        return table_parts(path, PARQUET_SUFFIXES).files["train"]
    except DataError:
        return ()


def _check_labels(chosen: Any, data: DataSettings, labels: Sequence[str]) -> None:
    """Refuse rows whose labels are not one to one with what the run knows."""
    column = data.label_column or "label"
    if data.labels is not None or column not in chosen.column_names:
        return  # labels stand elsewhere
    both = set(zip(map(str, chosen[column]), labels, strict=True))
    if not len(both) == len({own for own, _ in both}) == len({theirs for _, theirs in both}):
        raise DataError(
            f"the labels in --data={data.path} are not those that the run was made on; put the "
            "data back as it was."
        )
