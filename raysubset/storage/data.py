"""Data behind URIs: settings with local paths in their place, for as long as the data is read.

    SCRATCH/0/bucket/animals/cat/1.png      is s3://bucket/animals/cat/1.png

One tree mirrors the addresses, so that what is true of paths is true of them: a test file that
stands in the folder of the data is no train file, and the data has the name of its folder. Only
the driver reads there: rows travel to other processes as they do from a disk.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from raysubset.errors import DataError, RaySubsetError
from raysubset.learn.data import Dataset
from raysubset.learn.parts import Parts
from raysubset.learn.settings import DataSettings
from raysubset.learn.sources import Sources
from raysubset.learn.sources.beside import with_column
from raysubset.scratch import scratch_folder
from raysubset.storage.addresses import is_uri, refuse_bad_uri, without_credentials
from raysubset.storage.faults import DATA
from raysubset.storage.fetching import Listed, fetch, listed

PLACES = {
    "path": "--data",
    "labels": "--data.labels",
    "validation": "--data.validation",
    "tuning": "--data.tuning",
    "test": "--data.test",
}
"""The settings that name files, and their options."""
_WEB = ("http", "https", "ftp", "ftps")


@dataclass(frozen=True)
class Names:
    """What local paths stand in for: says it again by addresses.

    Attributes:
        uri_of: start of a local path -> start of the address.
    """

    uri_of: Mapping[str, str] = field(default_factory=dict[str, str])

    def __call__(self, text: str) -> str:
        """Return a text with addresses in place of temporary paths."""
        for path, uri in self.uri_of.items():
            text = text.replace(path, uri)
        return text


@dataclass(frozen=True)
class _Named:
    """How rows are called, by addresses; a value, because Ray carries it to trials."""

    names: Names
    row_name: Callable[[int], str]

    def name(self, row: int) -> str:
        return self.names(self.row_name(row))


@dataclass(frozen=True)
class _Tree:
    """What was fetched: URI -> local path, and the names of these paths."""

    paths: Mapping[str, Path]
    names: Names


_trees: list[_Tree] = []  # of this process, for as long as somebody holds them


@contextmanager
def held(places: Mapping[str, str]) -> Generator[tuple[dict[str, str], Names]]:
    """Give local paths of files and folders by option, and the names to tell of them.

    URIs are fetched once, for as long as this lasts: whoever asks meanwhile for what is held
    already gets the same. Errors of this package that pass through are told by their addresses.

    Args:
        places: option -> path or URI; paths are given back as they are.

    Raises:
        DataError: an address or a store that cannot be used, named before any work.
    """
    addresses = {option: place for option, place in places.items() if is_uri(place)}
    for option, uri in addresses.items():
        _refuse(option, uri)
    remote = {o: u for o, u in addresses.items() if urlsplit(u).scheme != "file"}
    local = {o: unquote(urlsplit(u).path) for o, u in addresses.items() if o not in remote}
    with _tree_of(remote) as tree:
        paths = {option: str(tree.paths[uri]) for option, uri in remote.items()}
        try:
            yield {**places, **local, **paths}, tree.names
        except RaySubsetError as error:
            error.message = tree.names(error.message)
            error.args = (error.message, *error.args[1:])  # what a pickle holds
            raise


@contextmanager
def data_at_hand(data: DataSettings) -> Generator[tuple[DataSettings, Names]]:
    """Give the settings with local paths in place of URIs; see `held`.

    Raises:
        DataError: an address or a store that cannot be used, named before any work.
    """
    data = _with_column_apart(data)
    given = {option: getattr(data, field) for field, option in PLACES.items()}
    places = {option: place for option, place in given.items() if isinstance(place, str)}
    if data.path is None or data.format == "digits":  # built-in data takes labels alone
        places = {option: p for option, p in places.items() if option == PLACES["labels"]}
    with held(places) as (paths, names):
        own = {f: paths[option] for f, option in PLACES.items() if option in paths}
        yield data.model_copy(update=own), names


def _with_column_apart(data: DataSettings) -> DataSettings:
    """Return the settings with URI:COLUMN of the labels as the two that it names."""
    if data.labels is None or not is_uri(data.labels) or "?" in data.labels:
        return data  # a query may end in a port
    labels, column = with_column(data.labels, data.label_column)
    return data.model_copy(update={"labels": labels, "label_column": column})


@contextmanager
def data_kept(data: DataSettings, *, when: bool = True) -> Generator[None]:
    """Hold what was fetched for whoever reads the data several times meanwhile."""
    if not when:
        yield
        return
    with data_at_hand(data):
        yield


def sources_by_uri(sources: Sources, names: Names) -> Sources:
    """Return sources whose notes and rows left out are told by addresses."""
    if not names.uri_of:
        return sources
    parts = {name: getattr(sources, name) for name in ("validation", "tuning", "test")}
    told = {name: part and _dataset(part, names) for name, part in parts.items()}
    trusted = sources.trusted and replace(
        sources.trusted,
        where=names(sources.trusted.where),
        row_name=_Named(names, sources.trusted.row_name).name,
    )
    return replace(sources, train=_dataset(sources.train, names), trusted=trusted, **told)


def name_of(place: str) -> str:
    """Return the last name of a path or URI: how its data is called."""
    if not is_uri(place):
        return Path(place).name
    steps = _steps(place)
    return steps[-1] if steps else _bucket_of(place)[0]


def parts_by_uri(parts: Parts, names: Names) -> Parts:
    """Return parts whose notes and rows left out are told by addresses."""
    each = {name: getattr(parts, name) for name in ("pool", "validation", "tuning", "test")}
    return replace(parts, **{name: part and _dataset(part, names) for name, part in each.items()})


def _dataset(dataset: Dataset, names: Names) -> Dataset:
    if not names.uri_of:
        return dataset
    skipped = tuple(
        replace(bad, where=names(bad.where), detail=names(bad.detail)) for bad in dataset.skipped
    )
    return replace(dataset, notes=tuple(map(names, dataset.notes)), skipped=skipped)


def _refuse(option: str, uri: str) -> None:
    """Refuse an address that names no data, before anything touches the network."""
    scheme = uri.partition(":")[0]
    if scheme.lower() in _WEB:
        raise DataError(
            f"{option}={without_credentials(uri)}: pages of the web are not read; download it "
            "first (curl -LO ADDRESS) and give the path, or put it into a bucket "
            "(s3://bucket/folder)."
        )
    with _of_option(option):
        refuse_bad_uri(uri, DATA)
    steps = unquote(urlsplit(uri).path).strip("/").split("/")
    if any(step in (".", "..") or (not step and len(steps) > 1) or "\0" in step for step in steps):
        raise DataError(
            f"{option}={without_credentials(uri)} has an empty step, . or .. in it; write the "
            "name of the folder itself."
        )


@contextmanager
def _tree_of(uris: Mapping[str, str]) -> Generator[_Tree]:
    """Give what is behind URIs, by option: of somebody who holds it, or fetched now."""
    wanted = set(uris.values())
    tree = next((tree for tree in _trees if wanted <= tree.paths.keys()), None)
    if tree is not None or not wanted:
        yield tree or _Tree({}, Names())
        return
    with scratch_folder("data") as folder:
        tree = _fetched(uris, folder)
        _trees.append(tree)
        try:
            yield tree
        finally:
            _trees.remove(tree)


def _fetched(uris: Mapping[str, str], folder: Path) -> _Tree:
    """Fetch what is behind URIs into a folder that mirrors their addresses."""
    of = {uri: _bucket_of(uri) for uri in uris.values()}
    stores = sorted({store for _, store in of.values()})
    buckets = {uri: folder / str(stores.index(store)) / name for uri, (name, store) in of.items()}
    paths = {uri: at.joinpath(*_steps(uri)) for uri, at in buckets.items()}
    found: dict[str, Listed] = {}
    for option, uri in uris.items():
        with _of_option(option):
            found[uri] = listed(uri)
    fetch({paths[uri]: each for uri, each in found.items()}, folder)
    uri_of = {
        str(each): "://".join(urlsplit(uri)[:2])
        for uri, bucket in buckets.items()
        for each in (bucket, bucket.resolve())
    }
    longest_first = sorted(uri_of.items(), key=lambda item: -len(item[0]))
    return _Tree(paths, Names(dict(longest_first)))


def _bucket_of(uri: str) -> tuple[str, str]:
    """Return the bucket or container of an address, and what else tells whose it is."""
    parts = urlsplit(uri)
    before, at, after = parts.netloc.partition("@")
    azure = parts.scheme in ("abfs", "abfss")
    name, other = (before, after) if azure or not at else (after, before)
    return name, repr((parts.scheme, other, sorted(parse_qsl(parts.query))))


def _steps(uri: str) -> list[str]:
    return [step for step in unquote(urlsplit(uri).path).split("/") if step]


@contextmanager
def _of_option(option: str) -> Generator[None]:
    """Name the option whose address is wrong."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{option}={error.message}") from error
