"""Reading the experiment's data and model as a run would: what is wrong becomes findings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raysubset.doctor.data import check_data, unreadable
from raysubset.doctor.finding import Finding, failed, ok, skipped, warning
from raysubset.doctor.within import Late, within
from raysubset.errors import ConfigError, DataError, ModelError, RaySubsetError
from raysubset.experiment import Experiment
from raysubset.preparation import Prepared, prepare
from raysubset.storage.data import data_kept

Prepare = Callable[[Experiment], Prepared]


@dataclass(frozen=True, kw_only=True)
class Read:
    """What could be read.

    Attributes:
        findings: about data, classes, duplicates and model.
        prepared: the run, where it could begin (or could without its bad rows).
    """

    findings: tuple[Finding, ...]
    prepared: Prepared | None = None


def read(experiment: Experiment, limit_s: float) -> Read:
    """Prepare the run; where rows are bad, look at the others too.

    Args:
        experiment: resolved.
        limit_s: how long reading may take.
    """
    try:
        return within(limit_s, lambda: _read(experiment), "reading the data")
    except Late as late:
        why = warning("data", f"{late}, so it was not looked at whole", _A_PART)
        return Read(findings=(why, *skipped("the data was not read", *_AFTER_DATA)))


_A_PART = "look at a part of it with --data.limit 5000, or wait longer with --patience"
_AFTER_DATA = ("classes", "duplicates", "model")


def _read(experiment: Experiment) -> Read:
    try:
        with data_kept(experiment.data):  # it may be read again, without its bad rows
            return _read_here(experiment)
    except DataError as error:
        return _nothing(error)


def _read_here(experiment: Experiment) -> Read:
    bad = None
    try:
        prepared = prepare(experiment)
    except ModelError as error:
        return _without_model(experiment, error)
    except DataError as error:
        prepared, bad = _without_bad_rows(experiment), str(error)
        if prepared is None:
            return _nothing(error)
    except ConfigError as error:
        return _nothing(error)
    return Read(
        findings=(*check_data(prepared.problem.parts, bad), _model(prepared)), prepared=prepared
    )


def _nothing(error: RaySubsetError) -> Read:
    return Read(findings=(unreadable(str(error)), *skipped("nothing was read", *_AFTER_DATA)))


def _without_bad_rows(experiment: Experiment) -> Prepared | None:
    """Return the run as it would be with its bad rows left out; None where that fails too."""
    if experiment.data.on_bad_row == "skip":
        return None
    data = experiment.data.model_copy(update={"on_bad_row": "skip"})
    try:
        return prepare(experiment.model_copy(update={"data": data}))
    except RaySubsetError:  # the first error is the one to tell
        return None


def _without_model(experiment: Experiment, error: ModelError) -> Read:
    """Return findings about the data of a run whose model does not fit it."""
    wrong = failed("model", str(error), "correct it, or choose another with --model.name")
    model = experiment.model.model_copy(update={"name": "auto", "head": None})
    try:
        prepared = prepare(experiment.model_copy(update={"model": model}))
    except RaySubsetError as other:
        return Read(findings=(*_nothing(other).findings[:-1], wrong))
    return Read(findings=(*check_data(prepared.problem.parts, None), wrong))


def _model(prepared: Prepared) -> Finding:
    found = f"{prepared.identity['model']}, one step rehearsed on two rows"
    return ok("model", found, parameters=prepared.num_parameters)
