"""A comparison takes a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysubset.cli import call
from raysubset.cluster.comparing import check_comparison, plan_comparison
from raysubset.errors import RunFolderError
from tests.small_runs import BLOCKS, play, prepared


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("mark", ["experiment.yaml", "frontier.yaml", "selection.json"])
def test_a_folder_of_another_kind_is_refused(mark: str, resume: bool, tmp_path: Path):
    runs = plan_comparison(prepared(**BLOCKS))
    check_comparison(runs, tmp_path, resume=resume)
    (tmp_path / mark).write_text("{}")
    with pytest.raises(RunFolderError, match="no comparison"):
        check_comparison(runs, tmp_path, resume=resume)


def test_an_export_to_an_address_is_refused_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    play(prepared(**BLOCKS), tmp_path / "run")
    assert call(["export", str(tmp_path / "run"), "--output", "s3://bucket/ids.txt"])[0] == 2
    assert "s3://bucket/ids.txt: give a local path" in capsys.readouterr().err
