"""A state from somebody else's file fits the model as it is, or is refused by name."""

from __future__ import annotations

import os
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from raysubset.errors import ModelError
from raysubset.learn.states import WRAPPERS, fitted, read_state


def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


LIKE: dict[str, Tensor] = model().state_dict()


def same(state: dict[str, Tensor]) -> bool:
    return state.keys() == LIKE.keys() and all(torch.equal(state[n], LIKE[n]) for n in LIKE)


def given(path: Path, value: Any) -> dict[str, Tensor]:
    torch.save(value, path)
    return fitted(read_state(path), LIKE, str(path))[0]


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_a_plain_state_dict_comes_back_whole(tmp_path: Path, suffix: str):
    assert same(given(tmp_path / f"m{suffix}", LIKE))


def test_safetensors_come_back_whole(tmp_path: Path):
    save_file(LIKE, tmp_path / "m.safetensors")
    assert same(fitted(read_state(tmp_path / "m.safetensors"), LIKE, "m")[0])


@pytest.mark.parametrize("key", WRAPPERS)
def test_a_wrapped_state_dict_is_found_beside_optimizer_and_counters(tmp_path: Path, key: str):
    value = {"epoch": 3, "optimizer": {"lr": 0.1}, key: OrderedDict(LIKE)}
    assert same(given(tmp_path / "m.pt", value))
    assert same(given(tmp_path / "n.pt", {"model": value}))


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net."]
)
def test_prefixes_of_wrappers_are_stripped_and_told(tmp_path: Path, prefix: str):
    state = {f"{prefix}{name}": tensor for name, tensor in LIKE.items()}
    ready, notes = fitted(state, LIKE, "m")
    assert same(ready)
    assert any("stripped" in note for note in notes)


def test_a_prefix_that_the_model_itself_has_stays():
    own = {f"module.{name}": tensor for name, tensor in LIKE.items()}
    assert fitted(own, own, "m")[0].keys() == own.keys()


def test_half_precision_becomes_the_models_own_types():
    state = {n: t.bfloat16() if t.is_floating_point() else t for n, t in LIKE.items()}
    ready, notes = fitted(state, LIKE, "m")
    assert all(ready[n].dtype == LIKE[n].dtype for n in LIKE)
    assert any("bfloat16" in note for note in notes)


def test_counters_that_evaluation_never_reads_may_be_missing():
    state = {n: t for n, t in LIKE.items() if "num_batches" not in n}
    assert fitted(state, LIKE, "m")[0].keys() == LIKE.keys()


def test_every_missing_unexpected_and_mis_shaped_name_is_told():
    state = {n: t for n, t in LIKE.items() if n not in ("0.weight", "2.bias")}
    with pytest.raises(ModelError) as refused:
        fitted(state | {"fc.weight": torch.ones(1)}, LIKE, "m.pt")
    assert all(name in str(refused.value) for name in ("m.pt", "0.weight", "2.bias", "fc.weight"))
    state = {**LIKE, "2.weight": torch.ones(10, 3), "2.bias": torch.ones(10)}
    with pytest.raises(ModelError, match=r"2\.weight is \(10, 3\).*\(2, 3\).*2\.bias"):
        fitted(state, LIKE, "m.pt")


def test_weights_that_diverged_are_refused():
    state = {**LIKE, "0.bias": torch.tensor([1.0, torch.nan, 0.0])}
    with pytest.raises(ModelError, match=r"NaN.*0\.bias"):
        fitted(state, LIKE, "m.pt")


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("value", [model(), {"state_dict": LIKE, "callback": _Runs()}])
def test_f24_a_file_that_could_run_code_is_refused_and_runs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any
):
    monkeypatch.chdir(tmp_path)
    torch.save(value, tmp_path / "m.pt")
    with pytest.raises(ModelError, match=r"could run code.*state_dict"):
        read_state(tmp_path / "m.pt")
    assert not (tmp_path / "ran").exists()


def test_what_is_no_state_is_refused_with_what_it_is(tmp_path: Path):
    torch.save({"epoch": 3, "weights": [1, 2]}, tmp_path / "m.pt")
    with pytest.raises(ModelError, match=r"epoch.*weights"):
        read_state(tmp_path / "m.pt")
    with pytest.raises(ModelError, match="no such file"):
        read_state(tmp_path / "none.pt")
    (tmp_path / "m.h5").write_bytes(b"x")
    with pytest.raises(ModelError, match="safetensors"):
        read_state(tmp_path / "m.h5")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("cut", [0, 10, 300])
def test_a_file_cut_short_is_refused(tmp_path: Path, suffix: str, cut: int):
    path = tmp_path / f"m{suffix}"
    torch.save(LIKE, path) if suffix == ".pt" else save_file(LIKE, path)
    path.write_bytes(path.read_bytes()[:cut])
    with warnings.catch_warnings(), pytest.raises(ModelError, match=r"write it again|run code"):
        warnings.simplefilter("ignore")  # torch's guesses about a broken zip file
        read_state(path)
