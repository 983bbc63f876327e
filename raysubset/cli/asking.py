"""The commands that ask a run folder: explain, and export."""

from __future__ import annotations

from typing import Annotated, Literal, cast, get_args

from cyclopts import Parameter

from raysubset.cli.app import app
from raysubset.cli.options import RunFolder
from raysubset.errors import ConfigError
from raysubset.storage.staging import shown, staged


@app.command(name="explain")
def explain_(
    run_folder: RunFolder,
    /,
    *,
    id: Annotated[int | None, Parameter(help="The example's global row number.")] = None,
    key: Annotated[
        str | None,
        Parameter(help="Your own name of it instead: an image's path, or its --data.key_column."),
    ] = None,
) -> None:
    """Say in which rounds an example was chosen, at which rank and gain."""
    from raysubset.answers import explain
    from raysubset.report.wording import printable

    with staged(run_folder, write=False) as folder:
        found = explain(folder, id, key=key)
    name = f" ({printable(found.key)})" if found.key else ""
    print(f"id {found.id}{name}: label {printable(found.label)}, part {found.part}")
    if found.dropped:
        print(f"dropped before every strategy: {printable(found.dropped)}")
    elif found.part != "pool":
        print(f"never a candidate: it is in {found.part}, and only the pool is chosen from")
    elif not found.choices:
        print(f"never chosen in {found.rounds} rounds")
    for choice in found.choices:
        gain = "not scored" if choice.gain is None else f"gain {choice.gain:.6g}"
        print(
            f"round {choice.round}: chosen by {choice.strategy} as number {choice.rank:,} of "
            f"{choice.budget:,}, {gain}, trained in epochs {choice.epochs}"
        )


@app.command(name="export")
def export_(
    run_folder: RunFolder,
    /,
    *,
    format: Annotated[
        Literal["txt", "csv", "json", "parquet", "manifest", "symlinks", "hf", "tags", "fiftyone"],
        Parameter(
            help="txt: an id per line. json: with keys. csv, parquet: with rank, label, gain, key. "
            "manifest: an image folder's CSV of file names. symlinks: an image folder of links. "
            "hf: the rows by datasets.Dataset.select, for load_from_disk. "
            "tags: a CSV of every pool row, with how often and how it was chosen. fiftyone: the "
            "same for fiftyone.types.CSVDataset."
        ),
    ] = "txt",
    round: Annotated[
        int | None, Parameter(help="Which round, the number of its folder; default: the last.")
    ] = None,
    output: Annotated[
        str | None,
        Parameter(
            help="The file; default: ids-round-NNNN.FORMAT in the run folder. The formats for "
            "other tools need one, outside the run folder (symlinks, hf: a folder that is not "
            "there)."
        ),
    ] = None,
    images: Annotated[
        str | None,
        Parameter(help="symlinks, fiftyone: the folder of images; default: the run's own data."),
    ] = None,
) -> None:
    """Write the chosen ids, in the order of choice, or as another tool reads them."""
    from raysubset.answers import Format, export
    from raysubset.exporting import Form, export_as

    with staged(run_folder, write=False) as folder:
        if format in get_args(Form):
            form = cast("Form", format)
            made = export_as(folder, form, output=output, round_=round, images=images)
        elif images is not None:
            raise ConfigError(f"--images={images}: --format {format} looks at no image; drop it.")
        else:
            made = export(folder, cast("Format", format), round_=round, output=output)
        print(shown(made))
