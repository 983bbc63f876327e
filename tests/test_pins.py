"""The tested versions are one list, whole, and free of addresses."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from jobs import pin

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
DEV = [Requirement(line) for line in PROJECT["dependency-groups"]["dev"]]
PINS = [Requirement(line) for line in pin.read_requirements(ROOT / "jobs" / "requirements.txt")]

ADDRESS = re.compile(
    r"https?://\S*(?:/simple|pypi)"  # an index, or a mirror of one
    r"|--(?:extra-)?index-url|--find-links|--trusted-host"  # pip's words for one
    r"|^\s*(?:extra-)?index-url\s*=|^\s*find-links\s*=|^\[\[tool\.uv\.index",  # uv's words for one
    re.MULTILINE,
)


def environment(python: str, system: str) -> dict[str, str]:
    """Return the marker environment of one Python on Linux (with CUDA wheels), macOS or Windows."""
    machine = {"linux": "x86_64", "darwin": "arm64", "win32": "AMD64"}[system]
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "sys_platform": system,
        "platform_machine": machine,
    }


def pins_for(python: str, system: str) -> list[Requirement]:
    """Return the rows of the list that one machine installs."""
    here = environment(python, system)
    return [row for row in PINS if row.marker is None or row.marker.evaluate(here)]


def small_project(root: Path, constraints: list[str], requirements: list[str]) -> Path:
    """Write a project with the two lists given below `root`; return `root`."""
    text = f"[tool.uv]\n{pin.BEGIN}{pin.END}\n[tool.other]\nkept = true\n"
    (root / "pyproject.toml").write_text(pin.with_block(text, constraints))
    (root / "jobs").mkdir()
    (root / "jobs" / "requirements.txt").write_text("# a comment\n" + "\n".join(requirements))
    return root


def test_uv_and_pip_get_the_same_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert pin.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("dependency", RUNTIME, ids=lambda row: row.name)
def test_a_runtime_dependency_has_a_lower_bound(dependency: Requirement) -> None:
    assert any(part.operator in (">=", "~=", "==") for part in dependency.specifier)


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_dependency_has_one_version_within_its_bounds(python: str, system: str) -> None:
    rows = pins_for(python, system)
    version_of = {canonicalize_name(row.name): str(row.specifier).strip("=") for row in rows}
    assert len(version_of) == len(rows), "two versions of one package on one machine"
    for dependency in [*RUNTIME, *DEV]:
        name = canonicalize_name(dependency.name)
        assert name in version_of, f"{name} is not pinned: run `python jobs/pin.py`"
        assert dependency.specifier.contains(version_of[name], prereleases=True), name


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_cuda_wheels_are_for_linux_alone(system: str) -> None:
    cuda = re.compile("nvidia|cuda|triton")
    assert [row.name for row in pins_for("3.11", system) if cuda.match(row.name)] == []
    assert [row.name for row in pins_for("3.11", "linux") if cuda.match(row.name)] != []


def test_every_pin_is_one_plain_version() -> None:
    for row in PINS:
        assert row.url is None and re.fullmatch(r"==[\w.+!]+", str(row.specifier)), row


def test_no_tracked_file_names_a_package_index() -> None:
    places = ["*", ".ci/*", "jobs/**/*", "raysubset/**/*"]
    paths = {path for place in places for path in ROOT.glob(place)}
    kinds = {"", ".toml", ".md", ".yaml", ".txt", ".py"}
    texts = {path: path.read_text() for path in paths if path.is_file() and path.suffix in kinds}
    assert {"pyproject.toml", "README.md", "requirements.txt"} <= {path.name for path in texts}
    assert {
        path: ADDRESS.findall(text) for path, text in texts.items() if ADDRESS.search(text)
    } == {}


@pytest.mark.parametrize(
    "text",
    [
        "pip install --index-url https://mirror.example/x",
        "see https://mirror.example/simple/torch",
        'index-url = "https://mirror.example"',
        "[[tool.uv.index]]\n",
        "--find-links /opt/wheels",
    ],
)
def test_the_search_for_addresses_finds_one(text: str) -> None:
    assert ADDRESS.search(text)


def test_check_says_which_version_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = small_project(tmp_path, ["a==1", "b==2"], ["a==1", "b==3"])
    assert pin.main(["--check"], root=root) == 1
    assert capsys.readouterr().out.splitlines() == [
        "only in pyproject.toml: b==2",
        "only in requirements.txt: b==3",
    ]


def test_check_refuses_two_empty_lists(tmp_path: Path) -> None:
    assert pin.main(["--check"], root=small_project(tmp_path, [], [])) == 1


def test_a_new_block_replaces_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    project = small_project(tmp_path, ["a==1 ; sys_platform == 'linux'"], []) / "pyproject.toml"
    project.write_text(pin.with_block(project.read_text(), ["a==2", "b==1"]))
    assert pin.read_constraints(project) == ["a==2", "b==1"]
    assert tomllib.loads(project.read_text())["tool"]["other"] == {"kept": True}


def test_a_project_without_the_block_is_told_which_lines_to_add(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.uv]\n")
    assert pin.main([], root=tmp_path) == 2
    assert pin.BEGIN in capsys.readouterr().err
