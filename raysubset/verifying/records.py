"""Records: do a run's choices, its history and its result agree with each other and the plan?

Shape letters: K chosen, N pool.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raysubset.chain import PARTS, RESULT
from raysubset.experiment import Experiment
from raysubset.files import read_object
from raysubset.records import CHOICE, PoolKeys, history_lines, is_choice, pool_of
from raysubset.schedule import PROXY, Phase
from raysubset.verifying.differences import Check, Run
from raysubset.verifying.links import Chain, Link

_REDO = (
    "the manifests vouch for the rounds: --resume of the same command writes the history anew, and "
    "the result where it is damaged"
)


@dataclass(frozen=True, kw_only=True)
class Whole:
    """What of a run may be believed so far.

    Attributes:
        experiment: None where it cannot be read.
        identity: fingerprint.json; None where it cannot be read.
        phases: the plan; None where it cannot be made.
        tables: name -> table of every Parquet file that is whole.
        damaged: names of files that are not what was recorded.
    """

    experiment: Experiment | None
    identity: Mapping[str, Any] | None
    phases: tuple[Phase, ...] | None
    tables: Mapping[str, Any]
    damaged: set[str]


def check_choices(run: Run, chain: Chain, whole: Whole) -> Check:
    """Look at every round's choice: as many as planned, of the pool, none twice, all finite."""
    check, seen = Check(name="choices"), 0
    pool = _labels_of_pool(run, whole)
    if pool is None:
        check.unchecked.append("ids against the pool: parts.parquet cannot be read")
    if whole.phases is None:
        check.unchecked.append("budgets: the plan cannot be made of experiment.yaml")
    for link in chain.links:
        table = whole.tables.get(run.name(link.folder / "selection.parquet"))
        if table is None:
            continue
        name = run.name(link.folder / "selection.parquet")
        if not is_choice(table):
            found = table.column_names
            check.differs(name, "has other columns than a choice", list(CHOICE), found)
            continue
        columns = {column: table[column].to_numpy() for column in CHOICE}
        phase = None if whole.phases is None else _phase_of(whole.phases, link.round)
        _check_choice(name, columns, link.round, phase, check)
        if pool is not None:
            _check_rows(name, columns, pool, check)
            _check_keys(name, table, whole.tables[run.name(run.folder / PARTS)], check)
        seen += 1
    check.told = f"{seen} rounds: budget, order, ids, labels, gains and weights" if seen else ""
    return check


def _phase_of(phases: tuple[Phase, ...], number: int) -> Phase | None:
    return phases[number] if number < len(phases) else None


def _labels_of_pool(run: Run, whole: Whole) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (ids, labels) of the rows that may be chosen, ascending; None without a table."""
    parts = whole.tables.get(run.name(run.folder / PARTS))
    if parts is None or not {"part", "id", "label", "dropped"} <= set(parts.column_names):
        return None
    return pool_of(parts)


def _check_choice(
    name: str, columns: Mapping[str, np.ndarray], number: int, phase: Phase | None, check: Check
) -> None:
    if not (columns["round"] == number).all():
        check.differs(name, "is of another round", number, sorted({*columns["round"].tolist()}))
    epochs, ids = columns["epoch"], columns["id"]
    slices = max(1, len(np.unique(epochs)))
    size = len(ids) // slices
    if phase is not None and size != phase.budget:
        check.differs(name, "holds another number of ids", phase.budget, f"{size:,}")
    if not np.array_equal(columns["rank"], np.tile(np.arange(size), slices)):
        check.differs(name, "is not in the order of choice")
    elif any(len(np.unique(part)) != size for part in ids.reshape(slices, size)):
        check.differs(name, "chooses an id twice in one epoch")
    first = None if phase is None else phase.epochs.start
    expected = epochs if first is None else np.repeat(np.arange(slices) + first, size)
    if not np.array_equal(epochs, expected):
        check.differs(name, "is for other epochs", f"from {first}", int(epochs.min()))
    if not np.isfinite(columns["weight"]).all():
        check.differs(name, "has weights that are not finite")
    finite = np.isfinite(columns["gain"])
    if not finite.all() and not np.isnan(columns["gain"]).all():
        check.differs(
            name, "has gains that are not finite", "all or none scored", int(finite.sum())
        )


def _check_rows(
    name: str,
    columns: Mapping[str, np.ndarray],
    pool: tuple[np.ndarray, np.ndarray],
    check: Check,
) -> None:
    id_N, label_N = pool
    at_K = np.minimum(np.searchsorted(id_N, columns["id"]), max(0, len(id_N) - 1))
    known_K = id_N[at_K] == columns["id"] if len(id_N) else np.zeros(len(at_K), dtype=bool)
    if not known_K.all():
        bad = columns["id"][~known_K][:3].tolist()
        check.differs(name, f"chooses ids that are not in the pool, such as {bad}")
    elif not np.array_equal(label_N[at_K], columns["label"]):
        at = int((label_N[at_K] != columns["label"]).argmax())
        what = f"has another label for id {columns['id'][at]} than parts.parquet"
        check.differs(name, what, label_N[at_K][at], columns["label"][at])


def _check_keys(name: str, table: pa.Table, parts: pa.Table, check: Check) -> None:
    """Compare the person's own names of chosen rows, where the choice has them."""
    if "key" not in table.column_names or "key" not in parts.column_names or check.differences:
        return
    keys, found = PoolKeys.of(parts), table["key"].to_pylist()
    wanted = [None] * len(found) if keys is None else keys.named(table["id"].to_numpy()).to_pylist()
    at = next(
        (at for at, pair in enumerate(zip(wanted, found, strict=True)) if len({*pair}) > 1), None
    )
    if at is not None:
        what = f"has another key for id {table['id'][at]} than parts.parquet"
        check.differs(name, what, wanted[at], found[at])


def metrics_of(link: Link) -> dict[str, Any] | None:
    """Return a round's metrics.json; None where it cannot be read."""
    return read_object(link.folder / "metrics.json")


def check_history(run: Run, chain: Chain, damaged: set[str]) -> Check:
    """Compare history.jsonl with the figures of the rounds, line by line."""
    check, path = Check(name="history", remedy=_REDO), run.folder / "history.jsonl"
    name, expected = run.name(path), list[dict[str, Any]]()
    for link in chain.links:
        metrics = metrics_of(link)
        if metrics is None or run.name(link.folder / "metrics.json") in damaged:
            check.unchecked.append(f"{name}: the figures of round {link.round} are damaged")
            return check
        trace = metrics.pop("trace", [])
        try:
            lines = history_lines(link.round, metrics, trace).splitlines()
        except TypeError:
            check.differs(run.name(link.folder / "metrics.json"), "has no trace of its epochs")
            return check
        expected += [json.loads(line) for line in lines]
    try:
        found = path.read_bytes().decode("utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError):
        check.differs(name, "cannot be read as text: it is damaged")
        return check
    whole = _compare_lines(name, found, expected, check)
    _check_rest(name, found, whole, chain, run, check)
    check.told = f"{len(expected):,} lines are those of {len(chain.links)} rounds"
    return check


def _compare_lines(
    name: str, text: str, expected: Sequence[Mapping[str, Any]], check: Check
) -> int:
    """Compare as many lines as the rounds have; return how many characters they take."""
    at = 0
    for index, line in enumerate(expected, 1):
        end = text.find("\n", at) + 1 or len(text)
        found, at = text[at:end], end
        told = f"line {index} ({line['kind']} of round {line['round']})"
        try:
            value = json.loads(found)
        except (ValueError, RecursionError):
            check.differs(name, f"{told} is missing or no JSON: it was cut or damaged")
            return at
        if value != line:
            check.differs(name, f"{told}, {_first_other(line, value)}")
            return at
        if json.dumps(value) + "\n" != found:
            check.differs(name, f"{told} is not byte for byte as a ledger writes it")
            return at
    return at


def _first_other(expected: Mapping[str, Any], found: Any) -> str:
    if not isinstance(found, dict):
        return "is no object"
    for key in [*expected, *found]:
        if key not in found or key not in expected or found[key] != expected[key]:
            values = f"expected {expected.get(key)!r}, found {found.get(key)!r}"
            return f"{key} is not that of metrics.json; {values}"[:300]
    return "is another"


def _check_rest(name: str, text: str, at: int, chain: Chain, run: Run, check: Check) -> None:
    """Allow lines of the one round that a commit may be at work on."""
    rest = text[at:]
    if not rest or check.differences:
        return
    if chain.named is not None or (run.folder / RESULT).is_file():
        check.differs(name, "has lines after those of the last round")
        return
    for line in rest.splitlines():
        try:
            number = json.loads(line).get("round")
        except (ValueError, AttributeError, RecursionError):
            continue  # cut short by a crash: the next start writes it anew
        if number != len(chain.links):
            check.differs(name, f"has lines of round {number}, which no manifest commits")
            return


def check_result(run: Run, chain: Chain, whole: Whole) -> Check:
    """Compare result.json with what the rounds say."""
    check, path = Check(name="result", remedy=_REDO), run.folder / RESULT
    name = run.name(path)
    if not path.is_file() or name in whole.damaged:
        return check
    result = read_object(path)
    if result is None:
        check.differs(name, "is no JSON: it was cut or damaged")
        return check
    expected = _expected(run, chain, whole)
    if expected is None:
        check.unchecked.append(f"{name}: a round, the plan or the experiment cannot be read")
        return check
    for key, value in expected.items():
        if result.get(key) != value:
            check.differs(name, f"has another {key} than the rounds", value, result.get(key))
    check.told = f"{len(expected)} figures are those of the rounds"
    return check


def _expected(run: Run, chain: Chain, whole: Whole) -> dict[str, Any] | None:
    """Return what the rounds say of the result."""
    rounds = [metrics_of(link) for link in chain.links]
    names = [run.name(link.folder / "selection.parquet") for link in chain.links]
    phases, experiment, identity = whole.phases, whole.experiment, whole.identity
    known = [metrics for metrics in rounds if metrics is not None]
    if phases is None or experiment is None or identity is None or not known:
        return None
    missing = [n for n in names if n not in whole.tables]
    if len(known) != len(rounds) or missing or len(phases) != len(rounds):
        return None
    own = [phase for phase in phases if phase.strategy != PROXY]
    ids = [whole.tables[names[phase.round]]["id"].to_numpy() for phase in own]
    return {
        "strategy": experiment.selection.strategy,
        "fraction": experiment.selection.fraction,
        "seed": experiment.seed,
        "budget": phases[-1].budget,
        "num_pool": identity.get("pool"),
        "epochs": sum(len(phase.epochs) for phase in own),
        "visits": sum(phase.visits for phase in own),
        "selections": sum(1 for metrics in known if metrics.get("examples_scored")),
        "distinct": len(np.unique(np.concatenate(ids))),
        "validation_accuracy": known[-1].get("validation_accuracy"),
        "tuning_accuracy": known[-1].get("tuning_accuracy"),
    }
