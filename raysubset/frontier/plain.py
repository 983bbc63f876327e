"""The answer as plain data: what stands in frontier.json, for other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from raysubset.evidence.decision import SmallestWithin
from raysubset.frontier.answer import Answer, Cell
from raysubset.frontier.settings import FrontierSettings
from raysubset.frontier.stability import ClassChange, Stability
from raysubset.frontier.suspects import Suspects


def plain_answer(
    answer: Answer,
    sentences: Sequence[str],
    notes: Sequence[str],
    failures: Mapping[str, str],
    settings: FrontierSettings,
) -> dict[str, Any]:
    """Return the answer with all its figures; accuracies and differences are shares."""
    return {
        "sentences": list(sentences),
        "notes": list(notes),
        "max_drop": answer.max_drop,
        "num_seeds": answer.num_seeds,
        "num_test": answer.num_test,
        "full": _cell(answer.full) if answer.full else None,
        "cells": [_cell(cell) for cell in answer.cells],
        "decisions": {row: _decision(within) for row, within in answer.within.items()},
        "duels": [asdict(duel) for duel in answer.duels],
        "failures": dict(failures),
        "plan": settings.model_dump(mode="json"),
    }


def plain_findings(
    stability: Sequence[Stability], changes: Sequence[ClassChange], suspects: Suspects | None
) -> dict[str, Any]:
    """Return what the run folders tell beside the answer."""
    return {
        "stability": [_stability(found) for found in stability],
        "class_changes": [
            {**_place(change), "change_by_class": change.change_C.tolist()} for change in changes
        ],
        "suspects": asdict(suspects) | {"unanimous": suspects.unanimous} if suspects else None,
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return asdict(cell) | {"seconds_total": cell.total_s}


def _decision(within: SmallestWithin | None) -> dict[str, Any] | None:
    if within is None:
        return None
    return {
        "fraction": within.fraction,
        "reason": within.reason,
        "tests": [{"fraction": fraction, **asdict(test)} for fraction, test in within.tests],
        "untested": list(within.untested),
    }


def _stability(found: Stability) -> dict[str, Any]:
    return {
        **_place(found),
        "chosen": found.chosen,
        "overlap": found.overlap,
        "overlap_by_chance": found.expected,
        "ids_in_every_pool": found.shared,
        "ids_always_chosen": len(found.always),
        "ids_never_chosen": len(found.never),
        "chosen_share_by_class": found.chosen_C.tolist(),
        "pool_share_by_class": found.pool_C.tolist(),
    }


def _place(found: Stability | ClassChange) -> dict[str, Any]:
    return {"row": found.row, "fraction": found.fraction, "seeds": found.seeds}
