"""A model's state from a file that somebody else wrote, made to fit a model or refused by name.

Nothing read here can execute code: safetensors by format, torch.load with weights_only=True.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from raysubset.errors import ModelError

SAFE_SUFFIXES = (".safetensors",)
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net")
"""Keys under which training scripts keep the state beside optimizer and counters."""
_NAMED_AT_MOST = 10
_UNUSED_IN_EVAL = "num_batches_tracked"  # BatchNorm counts it; evaluation never reads it


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict on the CPU, under the names that stand in the file.

    Args:
        path: .safetensors; or .pt, .pth, .bin, .ckpt with a plain state dict, or one under a key
            of `WRAPPERS`.

    Raises:
        ModelError: no such file, damaged, another format, or more than tensors in it.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise ModelError(f"--checkpoint={path}: there is no such file or folder; check the path.")
    if suffix in SAFE_SUFFIXES:
        return _from_safetensors(path)
    if suffix in TORCH_SUFFIXES:
        return _state_in(_from_torch(path), path)
    known = ", ".join((*SAFE_SUFFIXES, *TORCH_SUFFIXES))
    raise ModelError(
        f"--checkpoint={path} is no {known} file and no run folder; save the weights with "
        "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')."
    )


def fitted(
    state: Mapping[str, Tensor], like: Mapping[str, Tensor], where: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the state with the model's names and types, and what was done to make it fit.

    Prefixes that a wrapper of the model left (`module.` of DDP, `_orig_mod.` of torch.compile,
    a Lightning module's `model.`) are stripped where all names have them and the model has none.

    Args:
        state: as read.
        like: the model's own `state_dict()`.
        where: what an error calls the file.

    Raises:
        ModelError: every missing, unexpected or mis-shaped name, and values that are not finite.
    """
    named, notes = _without_prefixes(dict(state), like)
    _refuse_other_names(named, like, where)
    _refuse_other_shapes(named, like, where)
    full = {name: named.get(name, own) for name, own in like.items()}
    _refuse_non_finite(full, where)
    kinds = sorted({f"{t.dtype}"[6:] for n, t in full.items() if t.dtype != like[n].dtype})
    if kinds:
        notes.append(f"weights: converted from {', '.join(kinds)} to the model's own types")
    ready = {n: t.detach().to(like[n].dtype).contiguous() for n, t in full.items()}
    return ready, tuple(notes)


def _from_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"--checkpoint={path} cannot be read as safetensors ({reason}); the file is damaged or "
            "of another format: write it again."
        ) from None


def _from_torch(path: Path) -> object:
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        # torch's own advice is to load without weights_only, which would run the file's code.
        raise ModelError(
            f"--checkpoint={path} holds more than tensors and numbers ({_cause(error)}), so it is "
            "not read: it could run code. Save the weights alone: torch.save(model.state_dict(), "
            "PATH)."
        ) from None
    except Exception as error:  # a damaged pickle ends its reader in whatever way it happens to
        raise ModelError(
            f"--checkpoint={path} cannot be read as a PyTorch file ({_cause(error)}); the file is "
            "damaged or of another format: write it again with torch.save(model.state_dict(), "
            "PATH)."
        ) from None


def _cause(error: Exception) -> str:
    """Return the first sentence of torch's many."""
    text = " ".join(str(error).split()) or type(error).__name__
    for start in ("Unsupported global: ", "Unsupported class ", "WeightsUnpickler error: "):
        if start in text:
            return text[text.index(start) :].split(" was not")[0].split(" Please")[0][:120]
    return text[:120].rstrip(". ")


def _state_in(value: object, path: Path) -> dict[str, Tensor]:
    """Return the state dict that a file holds, by itself or under a wrapper's key."""
    top = list(value)[:_NAMED_AT_MOST] if isinstance(value, Mapping) else type(value).__name__
    for _ in range(3):
        if not isinstance(value, Mapping):
            break
        if value and all(isinstance(tensor, Tensor) for tensor in value.values()):
            return {str(name): tensor for name, tensor in value.items()}
        value = next((value[key] for key in WRAPPERS if isinstance(value.get(key), Mapping)), None)
    raise ModelError(
        f"--checkpoint={path} holds no state dict, by itself or under {', '.join(WRAPPERS)} "
        f"(it holds: {top}); save torch.save(model.state_dict(), PATH)."
    )


def _without_prefixes(
    state: dict[str, Tensor], like: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Strip what wrappers put before every name, and torch.compile's mark inside names."""
    notes: list[str] = []
    if any("_orig_mod." in name for name in state) and not any("_orig_mod." in n for n in like):
        state = {name.replace("_orig_mod.", ""): tensor for name, tensor in state.items()}
        notes.append("weights: torch.compile's '_orig_mod.' was stripped from the names")
    own = {name.split(".")[0] for name in like}
    while state and not state.keys() & like.keys():
        first = {name.partition(".")[0] for name in state if "." in name}
        if len(first) != 1 or first & own or any("." not in name for name in state):
            break
        prefix = f"{first.pop()}."
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        notes.append(f"weights: the prefix {prefix!r} was stripped from every name")
    return state, notes


def _refuse_other_names(
    state: Mapping[str, Tensor], like: Mapping[str, Tensor], where: str
) -> None:
    missing = [n for n in like if n not in state and not n.endswith(_UNUSED_IN_EVAL)]
    extra = [n for n in state if n not in like]
    if not missing and not extra:
        return
    said = [f"it lacks {len(missing)} of {len(like)} names: {_first(missing)}"] if missing else []
    said += [f"it has {len(extra)} that the model has not: {_first(extra)}"] if extra else []
    raise ModelError(
        f"{where} does not fit the model: {'; '.join(said)}. Give the model that it was made of "
        "(--model.name module:factory), or rename or drop these entries."
    )


def _refuse_other_shapes(
    state: Mapping[str, Tensor], like: Mapping[str, Tensor], where: str
) -> None:
    bad = [
        f"{name} is {tuple(tensor.shape)} and should be {tuple(like[name].shape)}"
        for name, tensor in state.items()
        if tensor.shape != like[name].shape
    ]
    if bad:
        raise ModelError(
            f"{where} does not fit the model: {len(bad)} shapes differ: {_first(bad, '; ')}. The "
            "number of classes, the size of the examples and --model.name must be those it was "
            "trained with."
        )


def _refuse_non_finite(state: Mapping[str, Tensor], where: str) -> None:
    bad = [n for n, t in state.items() if t.is_floating_point() and not t.isfinite().all()]
    if bad:
        raise ModelError(
            f"{where} holds NaN or infinity in {len(bad)} tensors: {_first(bad)}; its training "
            "diverged: give an earlier checkpoint."
        )


def _first(names: Sequence[str], between: str = ", ") -> str:
    more = len(names) - _NAMED_AT_MOST
    return between.join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
