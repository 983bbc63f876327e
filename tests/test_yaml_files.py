"""YAML from anybody: plain values, or a sentence that names the file and the line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from raysubset.errors import ConfigError
from raysubset.experiment import Experiment
from raysubset.yaml_files import MAX_YAML_BYTES, read_yaml


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "experiment.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: 1\nseed: 2\n", r"'seed' stands twice in its section \(again in line 2\)"),
        ("data:\n  limit: 1\n  path: a\n  limit: 2\n", r"'limit' stands twice.*line 4"),
        (
            "a: 1\nb: !!python/object/apply:os.system ['touch MARKER']\n",
            "tag tag:yaml.org,2002:python/object/apply:os.system in line 2",
        ),
        ("a: !!python/name:os.system\n", "tag .*python/name:os.system in line 1"),
        ("a: !custom 3\n", "the tag !custom in line 1"),
        ("a: !!int ''\n", "the tag tag:yaml.org,2002:int in line 1"),
        ("", "must hold sections"),
        ("null\n", "must hold sections"),
        ("- seed\n- 1\n", "must hold sections"),
        ("seed: 1\n---\nseed: 2\n", "not valid YAML"),
        ("data:\n\tlimit: 3\n", "not valid YAML.*line 2"),
        ("? [a, b]\n: 1\n", "not valid YAML"),
        ("seed: *nothing\n", "not valid YAML"),
        ("data: &x\n  path: *x\n", "not valid YAML"),
        (b"seed: \xff\n", "not valid YAML"),
        (b"seed: \0\n", "not valid YAML"),
        ("[" * 100_000, "nesting deeper than 20 in line 1"),
        ("seed: " + "{a: " * 5_000, "nesting deeper than 20 in line 1"),
        ("? " * 5_000 + "x", "nesting deeper than 20"),
        ("a: &a 1\nb: [" + "*a, " * 101 + "]\n", "more than 100 aliases .* in line 2"),
        ("a: &a [x]\nb: &b [*a, *a]\n? *b\n: 1\n", "unhashable key"),
        ("a: 2024-99-99\n", "not valid YAML"),
    ],
)
def test_f28_a_tricky_yaml_file_is_refused_by_name_and_line_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | bytes, said: str
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"(?s)experiment file .*experiment.yaml.*{said}"):
        Experiment.read(write(tmp_path, text))
    assert not (tmp_path / "MARKER").exists()


def test_f28_a_bad_value_in_a_file_names_the_file_and_the_line(tmp_path: Path):
    text = "seed: 1\nselection:\n  fraction: 30\n  glister:\n    piks: exact\ndata: {limit: 0}\n"
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        Experiment.read(path)
    told = str(caught.value)
    assert told.startswith(f"experiment file {path}: ")
    lines = told.removeprefix(f"experiment file {path}: ").splitlines()
    for start, end in (
        ("selection.fraction=30: ", "did you mean 0.3? (line 3)"),
        ("unknown option selection.glister.piks", "selection.glister.picks? (line 5)"),
        ("data.limit=0: ", "(line 6)"),
    ):
        assert [line for line in lines if line.startswith(start) and line.endswith(end)]


def test_f28_a_missing_a_huge_file_and_a_folder_are_refused_by_name(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml does not exist"):
        read_yaml(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="does not exist; give a YAML file"):
        read_yaml(tmp_path)
    with pytest.raises(ConfigError, match=r"experiment\.yaml is larger than 1 MB"):
        read_yaml(write(tmp_path, "#" * (MAX_YAML_BYTES + 1)))


def test_f28_aliases_that_stand_for_a_huge_value_are_refused_in_a_short_message(tmp_path: Path):
    """Nine lines of YAML, 10^9 words: printed, they would fill the memory."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    path = write(tmp_path, "\n".join([*lines, "seed: *a8", "data: {path: *a8}"]))
    with pytest.raises(ConfigError) as caught:
        Experiment.read(path)
    assert len(str(caught.value)) < 5000


def test_f28_merges_of_merges_end(tmp_path: Path):
    """Nine lines of YAML again, by << this time: 10^9 pairs, each of them the same."""
    lines = ["a0: &a0 {limit: 300}"]
    lines += [
        f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}], k{i}: 0}}" for i in range(1, 9)
    ]
    found = read_yaml(write(tmp_path, "\n".join([*lines, "data: {<<: *a8, limit: 5}"])))
    assert found["data"] == {"limit": 5} | {f"k{i}": 0 for i in range(1, 9)}


def test_f28_plain_yaml_is_read_as_yaml_reads_it(tmp_path: Path):
    text = Experiment().to_yaml() + "more: [1, 0.5, ~, yes, 2024-01-01, 1e3, '1', 0x1f, é, 1:30]\n"
    assert read_yaml(write(tmp_path, text)) == yaml.safe_load(text)


def test_f28_many_keys_are_read_in_no_time(tmp_path: Path):
    """50,000 keys: looking for duplicates must not compare each with each."""
    path = write(tmp_path, "".join(f"k{i}: 0\n" for i in range(50_000)))
    assert len(read_yaml(path)) == 50_000


def test_merge_keys_of_yaml_work(tmp_path: Path):
    text = "data: &d {limit: 300}\nother:\n  <<: *d\n  path: a\n"
    both = {"data": {"limit": 300}, "other": {"limit": 300, "path": "a"}}
    assert read_yaml(write(tmp_path, text)) == both
