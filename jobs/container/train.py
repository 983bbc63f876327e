"""The entry point of a managed training container, in the way of SageMaker.

Every host of a job runs it. The first host runs the experiment and starts Ray, the others join it;
all end with the experiment, with its exit code. Inputs are the platform's own: a channel `train`
(and `validation`, `tuning`, `test` where they are there), hyperparameters in plain words
(`fraction`, `strategy`, `epochs`, `lr`, `batch_size`, `select_every`, `seed`, `model`; any option
as `section.option`), folders for checkpoints, model and output; see platform_job.py.

    fraction=0.1 strategy=glister epochs=100     -> one rank per GPU of all hosts
    SM_CHECKPOINT_DIR/run                        the run folder: a restarted job goes on in it
    SM_MODEL_DIR        weights.safetensors, experiment.yaml, fingerprint.json (classes), ids.csv
    SM_OUTPUT_DATA_DIR  report.html, report.md, plots/, result.json, history.jsonl

A line per round and one at the end are for metric definitions; the expressions stand in
`round_lines.METRIC_DEFINITIONS`:

    round=3 epoch=39 strategy=glister examples=129 validation_accuracy=0.91 ...
    finished=1 strategy=glister ... test_accuracy=0.98 ... speed_up=7.7

Exit codes: 0 done, 1 failed, 2 bad input (nothing was started), 75 terminated (SIGTERM; resumable).
The reason of a failure is in /opt/ml/output/failure, where such platforms look for it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

CODE = Path(__file__).resolve().parents[2]
if str(CODE) not in sys.path:  # run as a file, as script-mode toolkits do
    sys.path.insert(0, str(CODE))

from jobs.container import ray_node as nodes  # noqa: E402
from jobs.container.platform_job import (  # noqa: E402
    PlatformJob,
    experiment_of,
    failure_file,
    read_job,
)
from jobs.container.roll_call import END, JOINED, START, HostLost, Line, RollCall, answer  # noqa: E402
from raysubset.errors import RaySubsetError  # noqa: E402
from raysubset.stopping import EXIT_TERMINATED, Terminated  # noqa: E402

EXIT_FAILED = 1
START_S = 300.0  # for `ray start`, and for every host to come
GRACE_S = 60.0  # for the first host to end in good order; platforms kill after about 120 s
JOIN_S = "RAYSUBSET_JOIN_S"
"""Variable: how many seconds hosts wait for each other at the start (300)."""
AGAIN = "SIGTERM; start the job again with the same checkpoints: it goes on."
SHOWN = 1024
"""Characters that a platform shows of a failure."""


def main(words: Sequence[str]) -> int:
    """Play this host's part; return the exit code."""
    with suppress(FileNotFoundError):
        failure_file(os.environ).unlink()  # of an attempt before this one
    try:
        job = read_job(os.environ, words)
        with tempfile.TemporaryDirectory(prefix="rs-") as private:
            return _play(job, Path(private))
    except Terminated as error:
        print(f"terminated: {error}", file=sys.stderr)
        return error.exit_code
    except RaySubsetError as error:
        return _fail(str(error), error.exit_code)
    except Exception as error:  # a bug: the platform shows this file, not the log
        _fail(f"{type(error).__name__}: {error}", EXIT_FAILED)
        raise


def _play(job: PlatformJob, private: Path) -> int:
    """Lead or follow, with the token in place."""
    experiment = experiment_of(job, _gpus())  # every host refuses by itself
    token, note = nodes.token_of(job, os.environ)
    if note and job.leads:
        print(f"note: {note}", flush=True)
    known = [str(CODE), *filter(None, [os.environ.get("PYTHONPATH")])]
    environ = nodes.with_token(os.environ, token, private)
    environ["PYTHONPATH"] = os.pathsep.join(known)  # so that every worker finds what we run
    os.environ.clear()
    os.environ.update(environ)
    if not job.leads:
        return _follow(job, token)
    if len(job.hosts) > 1:
        return _lead(job, experiment, token)
    with _sigterm(lambda: Terminated(AGAIN)):
        return _train(job, experiment, lambda: None)  # a private Ray, on this host alone


def _lead(job: PlatformJob, experiment: Any, token: str) -> int:
    """Start Ray for all hosts, run, and send them home with the exit code."""
    first, port = _first(job)

    def lost() -> None:
        os.kill(os.getpid(), signal.SIGTERM)  # wakes the run wherever it is

    roll = RollCall((first, port + 1), job.hosts[1:], token, lost)
    code = EXIT_FAILED
    with ExitStack() as ending:  # closed last: the others leave before this host's Ray does
        try:
            with _sigterm(lambda: _lost(roll.lost) if roll.lost else Terminated(AGAIN)):
                code = _train(job, experiment, lambda: _gather(ending, roll, first, port))
                return code
        except RaySubsetError as error:
            code = error.exit_code
            raise
        finally:
            roll.dismiss(code)


def _gather(ending: ExitStack, roll: RollCall, first: str, port: int) -> None:
    """Start this host's Ray, and wait until every host has joined it."""
    words = nodes.head_words(first, port)
    ending.enter_context(nodes.ray_node(words, os.environ)).wait(START_S)
    roll.start()
    roll.wait(_join_s())
    os.environ["RAY_ADDRESS"] = f"{first}:{port}"


def _train(job: PlatformJob, experiment: Any, gather: Callable[[], None]) -> int:
    """Prepare, gather the hosts, run, and leave the results where the platform takes them from."""
    from jobs.container.round_lines import RoundLines, run_line
    from raysubset.cli.looking_on import report_each
    from raysubset.cluster.ray_run import run_ray
    from raysubset.preparation import check_folder, prepare

    folder = job.run_folder
    resume = (folder / "experiment.yaml").is_file()
    prepared = prepare(experiment, begun=folder if resume else None)
    check_folder(prepared, folder, resume=resume)
    for note in prepared.notes:
        print(f"note: {note}", flush=True)
    gather()
    what = "goes on in" if resume else "begins in"
    print(f"the run {what} {folder}, {experiment.resources.workers} ranks", flush=True)
    outcome = run_ray(prepared, folder, resume=resume, watch=RoundLines())
    report_each([prepared], folder)
    leave_results(folder, job.model, job.output)
    print(run_line(outcome), flush=True)
    return 0


def leave_results(run: Path, model: Path, output: Path) -> None:
    """Copy what is to outlive the job: the model with its ids, and what a person reads."""
    from raysubset.answers import committed_rounds, export
    from raysubset.learn.checkpoint import WEIGHTS

    last = run / "rounds" / f"{committed_rounds(run)[-1]:04d}"
    model.mkdir(parents=True, exist_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(last / "checkpoint" / WEIGHTS, model / WEIGHTS)
    for name in ("experiment.yaml", "fingerprint.json"):
        shutil.copyfile(run / name, model / name)
    export(run, "csv", output=str(model / "ids.csv"))
    for name in ("report.html", "report.md", "result.json", "history.jsonl"):
        shutil.copyfile(run / name, output / name)
    shutil.copytree(run / "plots", output / "plots", dirs_exist_ok=True)


def _follow(job: PlatformJob, token: str) -> int:
    """Join the first host's Ray when it is up; leave when it says so, with its exit code."""
    first, port = _first(job)
    with _sigterm(lambda: Terminated("SIGTERM, before the first host answered.")):
        line = answer((first, port + 1), job.host, token, _join_s())
    asked: list[float] = []
    before = signal.signal(signal.SIGTERM, lambda *_: asked.append(time.monotonic()))
    try:
        with ExitStack() as ending:
            return _stay(job, line, ending, asked)
    except OSError as error:
        raise _lost(f"{job.hosts[0]}, the first one ({error})") from None
    finally:
        line.close()
        signal.signal(signal.SIGTERM, before)


def _stay(job: PlatformJob, line: Line, ending: ExitStack, asked: Sequence[float]) -> int:
    """Do as the first host says until it says the end.

    A SIGTERM waits for it: the ranks of this host are needed until the first one has ended them.
    """
    first, port = _first(job)
    node: nodes.RayNode | None = None
    joined = False
    while not (asked and time.monotonic() - asked[0] > GRACE_S):
        word, _, code = line.hear().partition(" ")
        if word == END:
            return _sent_home(int(code))
        if word == START and node is None:
            address = nodes.address_of(job.host)
            joining = nodes.joining_words(address, nodes.address_of(first), port)
            node = ending.enter_context(nodes.ray_node(joining, os.environ))
        if node is not None and node.is_up() and not joined:
            line.say(JOINED)
            joined = True
    raise Terminated(f"SIGTERM, and the first host said nothing for {GRACE_S:g} s.")


def _sent_home(code: int) -> int:
    if code in (0, EXIT_TERMINATED):
        return code
    return _fail(f"the first host ended with exit code {code}; its log says why.", code)


def _first(job: PlatformJob) -> tuple[str, int]:
    """Return the first host, by its name or (there) by its address, and its Ray's port."""
    name = job.hosts[0]
    return nodes.address_of(name) if job.leads else name, int(os.environ.get(nodes.PORT, "6379"))


def _join_s() -> float:
    return float(os.environ.get(JOIN_S, START_S))


def _gpus() -> int:
    """Return how many GPUs this host has; all hosts of a job are of one kind."""
    if (told := os.environ.get("SM_NUM_GPUS", "")).isdigit():
        return int(told)
    import torch  # seconds, which a toolkit's variable saves

    return torch.cuda.device_count()


def _lost(host: str) -> HostLost:
    return HostLost(
        f"host {host} was lost, and a job gets no other one; the rounds so far are in the "
        "checkpoints. Start the job again with the same checkpoints: it goes on."
    )


@contextmanager
def _sigterm(why: Callable[[], BaseException]) -> Generator[None]:
    """Raise in the main thread, wherever it is, when SIGTERM comes."""

    def raise_(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once; the end must not be disturbed
        raise why()

    before = signal.signal(signal.SIGTERM, raise_)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(message: str, code: int) -> int:
    """Tell the log and the platform; return the code."""
    print(f"error: {message}", file=sys.stderr)
    path = failure_file(os.environ)
    with suppress(OSError):  # a platform without that folder has only the log
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(message[:SHOWN], encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
