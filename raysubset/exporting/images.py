"""Where a run's images lie: its keys are paths below a folder that the person names, or its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from raysubset.errors import ConfigError, DataError
from raysubset.experiment import Experiment
from raysubset.learn.sources.image_folder import folder_parts
from raysubset.learn.sources.rows import shown
from raysubset.storage.addresses import is_uri, without_credentials

NAMED = 3


def image_files(run: Path, keys: Sequence[str | None] | None, images: str | None) -> list[Path]:
    """Return the file of each row; every one is there.

    Args:
        run: its folder.
        keys: the person's own names of the rows, paths below the folder of images.
        images: that folder; None for the run's own data.

    Raises:
        ConfigError: the run's rows have no file names, or its data no folder on this machine.
        DataError: a name that leads out of the folder, or files that are not there.
    """
    if keys is None or not all(keys):
        raise ConfigError(
            "the rows of this run have no file names, so there are no files to name; use --format "
            "csv or tags, or run on a folder of images."
        )
    root = _root(run, images)
    files = [root / _inside(str(key), root) for key in keys]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(files):,} images are not below {root}: "
            f"{shown(missing, NAMED)}; name the folder that holds them with --images FOLDER."
        )
    return files


def _root(run: Path, images: str | None) -> Path:
    """Return the folder below which the keys are paths."""
    if images is not None:
        return _folder(images, "--images")
    data = Experiment.of(Experiment.read(run / "experiment.yaml")).data
    if data.path is None:
        raise ConfigError("this run is on built-in data, which has no files; use --format csv.")
    root = _folder(data.path, "the run's --data")
    return folder_parts(root).roots["train"]


def _folder(path: str, option: str) -> Path:
    if is_uri(path):
        raise ConfigError(
            f"{option}={without_credentials(path)}: the images lie behind an address; copy them to "
            "this machine, and name the folder with --images FOLDER."
        )
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"{option}={path} is no folder here; name the folder of images with --images FOLDER."
        )
    return folder.absolute()


def _inside(key: str, root: Path) -> PurePosixPath:
    """Return a key as a path that stays below the folder: a run folder may be anybody's."""
    path = PurePosixPath(key)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise DataError(f"key {key!r} of this run leads out of {root}; nothing was written.")
    return path
