"""The command that selects once, without training: select."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console

from raysubset.cli.app import app
from raysubset.cli.looking_on import screen
from raysubset.cli.options import File, Local, Options, resolve_over, worked_in
from raysubset.errors import ConfigError, ModelError, TrainingDiverged
from raysubset.experiment import Experiment, flatten
from raysubset.own_code import refuse_stored_code
from raysubset.stopping import terminable
from raysubset.storage.staging import shown

if TYPE_CHECKING:
    from raysubset.learn.embedded import EmbeddingFiles
    from raysubset.selecting.folder import IdsFormat, Selected
    from raysubset.selecting.ready import Ready

AGAIN = "terminated; nothing was written. Run the same command again."
_Dir = Annotated[
    str | None,
    Parameter(
        name="--run-dir", help="The folder to write; default: a new one under runs/, select-..."
    ),
]


def _help(text: str) -> Parameter:
    return Parameter(help=text)


@app.command
def select(
    file: File = None,
    /,
    *,
    experiment: Options = None,
    checkpoint: Annotated[
        str | None,
        _help(
            "Weights to choose by: .safetensors, .pt or .pth of the model; or a run folder, or one "
            "of its rounds, which brings data and model too; by path or URI."
        ),
    ] = None,
    embeddings: Annotated[
        str | None,
        _help(
            "Pool embeddings instead of data and model: npz or safetensors (embeddings, labels, "
            "optional ids, keys), npy, or Parquet (embedding or numeric columns, label, id, key)."
        ),
    ] = None,
    validation_embeddings: Annotated[
        str | None, _help("The same for validation; else --data.validation is split off by seed.")
    ] = None,
    labels: Annotated[str | None, _help("Pool labels, where they stand apart.")] = None,
    validation_labels: Annotated[
        str | None, _help("Validation labels, where they stand apart.")
    ] = None,
    head: Annotated[
        str | None,
        _help(
            "weight (classes, width), bias and optional classes above the embeddings; or fit: a "
            "logistic regression on the pool. Default: weight and bias beside the embeddings."
        ),
    ] = None,
    format: Annotated[
        Literal["txt", "csv", "json"],
        _help("Of the ids for other tools, beside selection.parquet; txt: an id per line."),
    ] = "txt",
    run_dir: _Dir = None,
    local: Local = False,
) -> dict[str, Any]:
    """Choose a subset once, by a checkpoint or by embeddings and a head; train nothing."""
    from raysubset.selecting.at_hand import at_hand
    from raysubset.selecting.folder import written_alone

    given = {
        "embeddings": embeddings,
        "validation_embeddings": validation_embeddings,
        "labels": labels,
        "validation_labels": validation_labels,
        "head": head,
    }
    start = perf_counter()
    _refuse_empty({"checkpoint": checkpoint, **given})
    with worked_in(run_dir) as folder, written_alone(folder):
        with at_hand(checkpoint) as here:
            ready = _ready(file, experiment, here, given)
        preparing_s = perf_counter() - start
        chosen = run_select(ready, folder, format, local=local, preparing_s=preparing_s)
        return chosen.told()


def run_select(
    ready: Ready, folder: Path | None, ids_format: IdsFormat, *, local: bool, preparing_s: float
) -> Selected:
    """Select with a person looking on, write the folder and return what came out."""
    from raysubset.preparation import new_run_folder
    from raysubset.selecting.folder import check_output, write_selected
    from raysubset.selecting.text import heading, outcome

    name = f"select-{ready.identity['name']}"
    folder = folder or new_run_folder(ready.experiment, name)
    check_output(folder)
    console = Console(markup=False)
    for line in (f"folder: {shown(folder)}", heading(ready), *(f"note: {n}" for n in ready.notes)):
        console.print(line, highlight=False, soft_wrap=True)
    start = perf_counter()
    with terminable(AGAIN), screen(console).showing(ready.phase.strategy) as watch:
        try:
            selection, how = _runner(local)(ready, watch.progress)
        except TrainingDiverged as error:  # in a run its training is the cause; here what was given
            told = str(error).partition(";")[0]
            raise ModelError(
                f"{told}: beyond float32. Scale the embeddings and the head, or give the weights "
                "of a training that did not diverge."
            ) from None
    inside = ("seconds_scoring", "seconds_greedy", "seconds_handover")
    starting_s = perf_counter() - start - sum(selection.facts[stage] for stage in inside)
    seconds = {"preparing": preparing_s, "starting": max(0.0, starting_s)}
    selected = write_selected(
        folder, ready, selection, ids_format=ids_format, seconds=seconds, how=how
    )
    console.print(outcome(selected), highlight=False, soft_wrap=True)
    return selected


def _ready(
    file: str | None,
    given: Experiment | None,
    checkpoint: str | None,
    files: dict[str, str | None],
) -> Ready:
    """Return the selection of the command's words; refuse what they cannot mean together."""
    from raysubset.selecting.point import stored_values
    from raysubset.selecting.ready import from_checkpoint, from_embeddings
    from raysubset.selecting.unread import refuse_unread

    of_embeddings = files["embeddings"] is not None
    if of_embeddings and checkpoint is not None:
        raise ConfigError(
            "--checkpoint and --embeddings are two ways to say what a model has learned; give one."
        )
    told = flatten({} if given is None else given.model_dump(mode="json", exclude_unset=True))
    refuse_unread(told, embeddings=of_embeddings)
    stored = stored_values(checkpoint)
    in_file = Experiment.read(file) if file is not None else {}
    refuse_stored_code(stored, given, f"--checkpoint={checkpoint}", in_file)
    experiment = resolve_over(stored, None, given, in_file)
    if of_embeddings:
        if files["validation_labels"] is not None and files["validation_embeddings"] is None:
            raise ConfigError(
                "--validation-labels: only with --validation-embeddings FILE; give that too."
            )
        return from_embeddings(experiment, _files(files, experiment))
    alone = [name.replace("_", "-") for name, text in files.items() if text is not None]
    if alone:
        raise ConfigError(f"--{', --'.join(alone)}: only with --embeddings FILE; give that too.")
    return from_checkpoint(experiment, checkpoint)


def _refuse_empty(named: Mapping[str, str | None]) -> None:
    """Refuse options with nothing in them: as a path, that would be the working folder."""
    empty = [f"--{name.replace('_', '-')}" for name, text in named.items() if text == ""]
    if empty:
        raise ConfigError(f"{', '.join(empty)} has no value (an unset variable?); give a path.")


def _files(files: dict[str, str | None], experiment: Experiment) -> EmbeddingFiles:
    from raysubset.learn.embedded import EmbeddingFiles

    embeddings = files["embeddings"]
    assert embeddings is not None, "asked before"
    others = {name: text for name, text in files.items() if name != "embeddings"}
    return EmbeddingFiles(
        embeddings=embeddings, label_column=experiment.data.label_column, **others
    )


def _runner(local: bool) -> Any:
    """Return what selects: this process, or actors."""
    if not local:
        from raysubset.cluster.selecting import select_on_ray

        return select_on_ray
    from raysubset.selecting.here import select_here

    return lambda ready, progress: (select_here(ready, progress), {"local": True})
