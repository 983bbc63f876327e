"""A run's model on rows that are not the run's: a table with the same columns, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from raysubset.errors import DataError
from raysubset.experiment import Experiment
from raysubset.files import read_object
from raysubset.learn.checkpoint import WEIGHTS
from raysubset.learn.problem import Problem
from raysubset.learn.transform import Transform, read_transform
from raysubset.ledger import EXPERIMENT
from raysubset.selecting.point import Point

_NAMED = 5


def transform_behind(path: Path | None, point: Point | None) -> Transform | None:
    """Return what the weights' run made of its columns; None where no run of a table is behind.

    Args:
        path: of the checkpoint: a run, a round, or the weights' file in a round of one.
        point: the run's point, where the path names a run or a round.
    """
    if point is not None:
        return read_transform(point.run)
    inside = path is not None and path.name == WEIGHTS and len(path.absolute().parents) > 3
    return read_transform(path.absolute().parents[3]) if inside and path is not None else None


def as_in_run(problem: Problem, transform: Transform | None) -> Problem:
    """Return the problem with the run's own means and scales: the weights were learned on these."""
    return problem if transform is None else replace(problem, normalize=transform.normalize)


def check_data(
    point: Point, problem: Problem, experiment: Experiment, transform: Transform | None
) -> tuple[str, ...]:
    """Refuse other rows than the run's, but for another table of the same columns and classes.

    Returns:
        What a person should be told.

    Raises:
        DataError: the run's own data has changed, or another table has other classes. (One with
            other columns is refused when it is read.)
    """
    if problem.parts.fingerprint == point.data:
        return ()
    before = Experiment.of(Experiment.read(point.run / EXPERIMENT)).data.path
    if transform is None or _same_place(before, experiment.data.path):
        raise _other_rows(point)
    classes = (read_object(point.run / "fingerprint.json") or {}).get("classes")
    mine = list(problem.parts.pool.class_names)
    if classes != mine:
        raise DataError(
            f"--data={experiment.data.path} has the classes {_shown(mine)}, but the model of "
            f"{point.run} was trained on {_shown(classes or [])}; choose by a run with these "
            "classes, or bring them back"
        )
    return (
        f"other rows than those of {point.run}: columns, categories, means and scales are the "
        "run's own",
    )


def _same_place(before: str | None, now: str | None) -> bool:
    if before is None or now is None:
        return before == now
    return Path(before).expanduser().resolve() == Path(now).expanduser().resolve()


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(map(str, names[:_NAMED])) + more


def _other_rows(point: Point) -> DataError:
    weights = point.run / "rounds" / f"{point.round:04d}" / "checkpoint" / WEIGHTS
    return DataError(
        f"{point.run} was run on other rows (their SHA-256 differs): data that has changed, "
        "another --seed or --data option than its own, or a control that trained on validation "
        "rows. Leave these options out; or give its weights alone, with the data and model of "
        f"your own: --checkpoint {weights}"
    )
