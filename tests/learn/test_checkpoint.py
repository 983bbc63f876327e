from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from raysubset.errors import RunFolderError
from raysubset.learn.checkpoint import (
    TRAINER,
    WEIGHTS,
    CheckpointRef,
    Snapshot,
    file_hash,
    read_trainer,
    read_weights,
    write_checkpoint,
)
from raysubset.learn.learner import Learner
from raysubset.learn.weights import Weights, pack, unpack
from tests.learn.ranks import CPU, flat, never, order_of
from tests.small_runs import problem

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool]
SHAPES = st.lists(st.integers(0, 4), max_size=3)


def snapshot() -> Snapshot:
    learner = Learner(problem(model__name="convnet"), CPU, world=2)
    learner.train(order_of(learner.problem, epochs=1), never)
    return learner.snapshot(3)


@pytest.fixture
def written(tmp_path: Path) -> tuple[Snapshot, CheckpointRef]:
    state = snapshot()
    files, seconds = write_checkpoint(tmp_path / "a" / "checkpoint", state)
    assert seconds > 0
    return state, CheckpointRef(path=str(tmp_path / "a" / "checkpoint"), files=files)


def test_a_checkpoint_gives_back_every_bit(written: tuple[Snapshot, CheckpointRef]):
    state, ref = written
    assert flat(read_weights(ref)) == flat(state.weights)
    assert flat(read_trainer(ref)) == flat(state.trainer)
    assert read_trainer(ref)["round"] == 3
    names = [name for name, t in state.weights.items() if t.ndim == 0 and t.dtype == torch.int64]
    assert names, "BatchNorm counts its batches in a 0-dim int64"


def test_a_snapshot_does_not_move_with_the_training_that_follows():
    learner = Learner(problem(), CPU, world=1)
    learner.train(order_of(learner.problem, epochs=1), never)
    state = learner.snapshot(0)
    before = flat({"w": state.weights, "t": state.trainer})
    learner.train(order_of(learner.problem, epochs=1), never)
    assert flat({"w": state.weights, "t": state.trainer}) == before
    assert flat(learner.weights()) != flat(state.weights)


def test_the_recorded_hashes_are_those_of_the_files(written: tuple[Snapshot, CheckpointRef]):
    _, ref = written
    assert set(ref.files) == {WEIGHTS, TRAINER}
    for name, digest in ref.files.items():
        assert digest == hashlib.sha256((Path(ref.path) / name).read_bytes()).hexdigest()
        assert digest == file_hash(Path(ref.path) / name)


@pytest.mark.parametrize(("name", "read"), [(WEIGHTS, read_weights), (TRAINER, read_trainer)])
@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "longer", "missing", "a folder"])
def test_f23_a_damaged_file_is_never_parsed(
    written: tuple[Snapshot, CheckpointRef], name: str, read: Any, damage: str
):
    _, ref = written
    path = Path(ref.path) / name
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "missing":
        content[len(content) // 2] ^= damage == "flipped"
        size = {"cut": len(content) - 1, "empty": 0}.get(damage, len(content))
        path.write_bytes(bytes(content[:size]) + b"x" * (damage == "longer"))
    with pytest.raises(RunFolderError) as caught:
        read(ref)
    assert str(path) in str(caught.value)
    assert "SHA-256 differs" in str(caught.value) or "cannot be read" in str(caught.value)


@given(st.integers(0, 10**9), st.integers(0, 7))
def test_f23_no_flipped_bit_of_the_weights_gets_through(place: int, bit: int):
    folder, content, files = one_checkpoint()
    flipped = bytearray(content)
    flipped[place % len(content)] ^= 1 << bit
    (folder / WEIGHTS).write_bytes(flipped)
    with pytest.raises(RunFolderError, match="SHA-256 differs"):
        read_weights(CheckpointRef(path=str(folder), files=files))


_ONE: list[tuple[Path, bytes, dict[str, str]]] = []


@pytest.fixture(scope="module", autouse=True)
def _one_checkpoint_for_all_examples(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("one")
    files, _ = write_checkpoint(folder, snapshot())
    _ONE[:] = [(folder, (folder / WEIGHTS).read_bytes(), files)]


def one_checkpoint() -> tuple[Path, bytes, dict[str, str]]:
    return _ONE[0]


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def torch_file(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def pickled(value: object) -> bytes:
    return pickle.dumps(value, protocol=2)  # torch's own


@pytest.mark.parametrize("wrap", [pickled, torch_file])
def test_f24_a_trainer_file_that_could_run_code_is_refused_though_its_hash_is_right(
    written: tuple[Snapshot, CheckpointRef], tmp_path: Path, wrap: Any
):
    _, ref = written
    marker = tmp_path / "was-run"
    content = wrap({"optimizer": Harmful(marker), "scaler": {}, "round": 0})
    (Path(ref.path) / TRAINER).write_bytes(content)
    trusted = CheckpointRef(
        path=ref.path, files={**ref.files, TRAINER: hashlib.sha256(content).hexdigest()}
    )
    with pytest.raises(RunFolderError, match="not loaded: it could run code"):
        read_trainer(trusted)
    assert not marker.exists()


def test_the_marker_would_be_there_had_it_run(tmp_path: Path):
    """Otherwise the test above proves nothing."""
    marker = tmp_path / "was-run"
    pickle.loads(pickled(Harmful(marker)))
    assert marker.exists()


def tensor_of(shape: list[int], dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-99, 99, shape, generator=generator).to(dtype)


@given(st.lists(st.tuples(SHAPES, st.sampled_from(DTYPES)), min_size=1, max_size=6))
def test_a_packed_state_unpacks_to_the_same_names_types_shapes_and_bits(parts: list[Any]):
    state = {f"t{i}": tensor_of(shape, dtype, i) for i, (shape, dtype) in enumerate(parts)}
    like = {name: torch.empty_like(tensor) for name, tensor in state.items()}
    packed = pack(state)
    assert packed.dtype == np.uint8 and packed.ndim == 1
    packed.flags.writeable = False  # as Ray hands it over
    assert flat(unpack(packed, like)) == flat(state)


def test_a_whole_model_packs_and_unpacks_with_its_counters():
    learner = Learner(problem(model__name="convnet"), CPU, world=1)
    learner.train(order_of(learner.problem, epochs=1), never)
    fresh = Learner(problem(model__name="convnet"), CPU, world=1)
    fresh.model.load_state_dict(unpack(pack(learner.weights()), fresh.weights()))
    assert flat(fresh.weights()) == flat(learner.weights())
    assert fresh.weights()["1.num_batches_tracked"] > 0


def test_a_state_from_a_checkpoint_packs_to_the_bytes_of_the_state_in_memory(
    written: tuple[Snapshot, CheckpointRef],
):
    """safetensors gives the names in another order at every reading."""
    state, ref = written
    names = {tuple(read_weights(ref)) for _ in range(20)}
    assert len(names) > 1
    for _ in range(5):
        packed = pack(Weights(round=0, checkpoint=ref).state())
        assert packed.tobytes() == pack(state.weights).tobytes()
        assert flat(unpack(packed, state.weights)) == flat(state.weights)


def test_a_transposed_or_sliced_tensor_packs_its_values_not_its_memory():
    grid = torch.arange(12.0).reshape(3, 4)
    state = {
        "t": grid.T,
        "s": grid[:, 1],
        "c": grid[None, None].to(memory_format=torch.channels_last),
    }
    assert flat(unpack(pack(state), state)) == flat(state)


def test_a_packed_state_is_its_own_and_unpacked_without_a_copy():
    state = {"a": torch.ones(3), "b": torch.zeros((), dtype=torch.int64), "c": torch.ones(5)}
    packed, before = pack(state), flat(state)
    state["a"].add_(1)
    unpacked = unpack(packed, state)
    assert flat(unpacked) == before and list(unpacked) == list(state)
    for tensor in unpacked.values():
        assert 0 <= tensor.data_ptr() - packed.ctypes.data < packed.nbytes


def test_a_packed_state_of_another_model_is_refused():
    packed = pack({"a": torch.ones(3), "b": torch.ones(2)})
    with pytest.raises(AssertionError, match="model's size"):
        unpack(packed, {"a": torch.ones(3)})


def test_weights_give_their_state_from_memory_or_from_the_checkpoint(
    written: tuple[Snapshot, CheckpointRef],
):
    state, ref = written
    for weights in (
        Weights(round=0, tensors=state.weights),
        Weights(round=0, checkpoint=ref),
    ):
        assert flat(weights.state()) == flat(state.weights)
