"""A private Ray that does not start: what is said, and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from raysubset.cluster import session
from raysubset.errors import RoomError
from tests.small_runs import experiment


@pytest.mark.parametrize(
    ("why", "remedy"),
    [
        ("validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes: /a/b/c",
         "set RAY_TMPDIR to a folder with a short name"),
        ("Failed to start GCS", "try again when it is less busy"),
    ],
)  # fmt: skip
def test_a_ray_that_does_not_start_is_told_with_what_helps(
    why: str, remedy: str, monkeypatch: pytest.MonkeyPatch
):
    def init(**_: Any) -> None:
        raise OSError(f"{why}\nand a traceback")

    monkeypatch.setattr(session.ray, "init", init)
    with pytest.raises(RoomError) as told:
        session._start_private(experiment())
    assert why in str(told.value) and remedy in str(told.value) and "--local" in str(told.value)
    assert "traceback" not in str(told.value)
