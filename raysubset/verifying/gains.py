"""Gains: choices made again from the data, and a sample of gains from the checkpoint they used.

Choices that need no model (random, adaptive random, the whole pool, one that is kept) are made
again id for id. GLISTER's first picks are recomputed by `greedy64` at the weights of the round
before, where that checkpoint is still kept and the data can be read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from raysubset.errors import RaySubsetError
from raysubset.experiment import Experiment
from raysubset.learn.sources.builtin import cache_folder
from raysubset.own_code import code_of, code_of_data
from raysubset.preparation import Prepared, prepare
from raysubset.schedule import KEPT
from raysubset.tracking.settings import TrackingSettings
from raysubset.verifying.differences import Check, Run
from raysubset.verifying.links import Chain
from raysubset.verifying.records import Whole, metrics_of
from raysubset.verifying.sample import Made, NotChecked

_REMEDY = (
    "the recorded choice is not what data, weights and options give: do not trust this run; run it "
    "again, and where that recurs with no other version, device or edited file at work, report it"
)


def check_gains(run: Run, chain: Chain, whole: Whole, model: str | None) -> Check:
    """Make every choice again that can be, and a sample of gains.

    Args:
        run: where.
        chain: its manifests.
        whole: what of it may be believed.
        model: the `module:factory` that a person allowed to be imported; a run folder's word alone
            never makes code run.
    """
    check, told = Check(name="gains", remedy=_REMEDY), list[str]()
    if not chain.links:
        return check
    try:
        prepared = _prepared(run.folder, whole, model)
    except NotChecked as why:
        check.unchecked.append(f"no choice was made again: {why}")
        return check
    again = 0
    for link in chain.links:
        try:
            sentence = _look(Made(run, chain, whole, prepared, link, check))
        except NotChecked as why:
            check.unchecked.append(f"round {link.round}: {why}")
            continue
        again += not sentence
        told += [sentence] * bool(sentence)
    same = [f"{again} choices without gains made again, the same ids"] * bool(again)
    check.told = "; ".join([*told, *same])
    return check


def _prepared(folder: Path, whole: Whole, model: str | None) -> Prepared:
    experiment, identity = whole.experiment, whole.identity
    if experiment is None or identity is None:
        raise NotChecked("experiment.yaml or fingerprint.json cannot be read")
    _refuse_code(experiment, model)
    if (
        experiment.data.format == "cifar10"
        and not (cache_folder() / "cifar-10-batches-py").is_dir()
    ):
        raise NotChecked("CIFAR-10 is not on this machine, and nothing is downloaded for this")
    # Where it reported is no part of what it chose.
    experiment = experiment.model_copy(update={"tracking": TrackingSettings()})
    try:
        prepared = prepare(experiment, begun=folder)
    except (RaySubsetError, OSError) as error:
        raise NotChecked(f"its data or model cannot be read here ({error})") from None
    if prepared.identity["data"] != identity.get("data"):
        raise NotChecked("the data at hand is not the run's (its SHA-256 differs)")
    return prepared


def _refuse_code(experiment: Experiment, model: str | None) -> None:
    names = list(code_of(experiment.model.model_dump()).values())
    data = list(dict.fromkeys(code_of_data(experiment.data.model_dump()).values()))
    if not {*names, *data} <= set((model or "").split(",")):
        what = f"the model {', '.join(names)}" if names else f"the data {', '.join(data)}"
        raise NotChecked(
            f"{what} is code, and code is not run because a run folder names "
            f"it; if it is yours: --model {','.join([*names, *data])}"
        )


def _look(made: Made) -> str:
    """Compare; return what was found well, "" for ids alone."""
    phase, chooser = made.prepared.phases[made.link.round], made.prepared.chooser
    if phase.strategy == KEPT:
        _same_ids(made, made.choice_of(made.before)["id"].to_numpy())
        return ""
    if not chooser.scores(phase):
        _same_ids(made, chooser.select(phase, _never).ids)
        return ""
    metrics = metrics_of(made.link) or {}
    if "seconds_scoring_beside" in metrics:
        raise NotChecked("chosen beside training, at weights that are not kept (selection.overlap)")
    return made.look(phase, metrics)


def _same_ids(made: Made, ids: np.ndarray) -> None:
    found = made.table["id"].to_numpy()
    if len(ids) != len(found):
        made.check.differs(made.name, "holds another number of ids", len(ids), len(found))
    elif not np.array_equal(ids, found):
        at = int((ids != found).argmax())
        what = f"is not the choice of this seed and data, from row {at} on"
        made.check.differs(made.name, what, f"id {ids[at]}", f"id {found[at]}")


def _never(ranges: Any, choice: Any) -> Any:
    raise AssertionError("what reads no weights scores nothing")
