"""The Dockerfile is pinned and names no index. No Docker is asked: this proves no build."""

import re
from pathlib import Path

import yaml
from packaging.requirements import Requirement

from jobs import pin

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "jobs" / "container" / "Dockerfile").read_text()
LINES = re.sub(r"\\\n\s*", " ", re.sub(r"^\s*#.*\n", "", TEXT, flags=re.M)).splitlines()
REQUIREMENTS = ROOT / "jobs" / "requirements.txt"


def told(word: str) -> list[str]:
    """Return what stands after an instruction, each time it is given."""
    return [line.removeprefix(f"{word} ") for line in LINES if line.startswith(f"{word} ")]


def test_the_one_base_is_pinned_to_the_python_of_the_clusters() -> None:
    (base,) = told("FROM")
    image = yaml.safe_load((ROOT / "cluster.yaml").read_text())["docker"]["image"]
    (minor,) = re.findall(r"-py3(\d+)-", image)
    assert re.fullmatch(rf"python:3\.{minor}-slim-[a-z]+", base)
    assert "latest" not in TEXT


def test_cpu_or_cuda_is_one_argument_and_anything_else_is_refused() -> None:
    assert told("ARG")[0] == "ACCELERATOR=cpu"
    (install,) = (line for line in told("RUN") if "pip install" in line)
    assert "cpu|cuda) ;; *)" in install and "exit 2" in install


def test_every_package_comes_from_the_tested_list() -> None:
    installed = re.findall(r"pip install ([^;&]+)", " ".join(LINES))
    assert installed
    assert all(re.fullmatch(r"--no-deps -r \w+\.txt\s*", words) for words in installed)


def test_no_index_host_and_no_secret_is_named() -> None:
    assert not re.search(r"https?://|index-url|find-links|trusted-host", TEXT)
    assert not re.search(r"(?i)^(ENV|ARG) .*(token|password|secret|key)", TEXT, flags=re.M)


def test_the_list_without_cuda_differs_in_nothing_but_cuda() -> None:
    drop, local = re.findall(r"-e '([^']+)'", " ".join(LINES))
    (pattern,) = re.findall(r"^/(.+)/d$", drop)
    before = pin.read_requirements(REQUIREMENTS)
    dropped = {Requirement(row).name for row in before if re.match(pattern, row)}
    assert dropped and all(re.match(r"nvidia-|cuda-|triton$", name) for name in dropped)
    (wheel,) = re.findall(r"^s/(.+)/\\1==\\2\+cpu/$", local)
    on_cpu = {Requirement(row).name for row in before if re.match(wheel, row)}
    assert on_cpu == {"torch", "torchvision"}


def test_what_is_copied_exists_and_is_let_through() -> None:
    sources = [word for line in told("COPY") for word in line.split()[:-1]]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source.split('/')[0]}" in ignored


def test_it_does_not_run_as_root_unless_it_is_told_to() -> None:
    assert told("USER") == ["$RUN_AS"]
    assert "RUN_AS=raysubset" in told("ARG")
    assert LINES[-1] == 'ENTRYPOINT ["python", "-m", "jobs.container.train"]'
