"""A head that takes its product once, in full fp32, and keeps what it took and gave.

Backbones may run in 16 bits, the logits that choose may not. Beside the model's own product a
second one would cost as much as the backbone where there are many classes.
Shape letters: B batch, C classes, H embedding width.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Self, final

import torch
from torch import Tensor, nn

from raysubset.core.factors import logits_of
from raysubset.errors import ModelError
from raysubset.learn.head import Head, check_embedding, head_weight, linear_of
from raysubset.learn.numerics import full_fp32


@final
class FullHead:
    """Put full fp32 in place of the head's own product while the model runs.

    with FullHead(model, head) as full:
        model(x_B)
        full.logits_BC, full.embedding_BH
    """

    def __init__(self, model: nn.Module, head: Head) -> None:
        """Prepare to stand in for the head; nothing is changed before `with`."""
        self._model, self._head = model, head
        self._linear = linear_of(model, head)
        self._kept: tuple[Tensor, Tensor] | None = None
        self._leaving = ExitStack()

    def __enter__(self) -> Self:
        """Stand in for the head's forward; its hooks go on being called."""
        own = vars(self._linear).get("forward")  # a person may have put one there
        self._linear.forward = self._product
        self._leaving.callback(lambda: self._give_back(own))
        return self

    def __exit__(self, *_: object) -> None:
        """Give the head its own product back."""
        self._leaving.close()

    @property
    def embedding_BH(self) -> Tensor:
        """The head's input in the last forward, fp32. Shape: (B, H)."""
        return self._last()[0]

    @property
    def logits_BC(self) -> Tensor:
        """The head's output in the last forward, fp32. Shape: (B, C)."""
        return self._last()[1]

    def _last(self) -> tuple[Tensor, Tensor]:
        if self._kept is None:
            raise ModelError(
                f"no forward has reached the head {self._head.name!r}; run the model inside the "
                "`with`"
            )
        return self._kept

    def _product(self, input: Tensor) -> Tensor:
        check_embedding(self._head.name, input)
        # contiguous: a kept embedding is, and a product's last bits may depend on it
        embedding_BH = input.detach().float().contiguous()
        logits_BC = full_logits(self._model, self._head, embedding_BH)
        self._kept = embedding_BH, logits_BC
        # a copy: a model may go on to change what its head gave
        return logits_BC[:, 1:].clone() if self._head.one_logit else logits_BC.clone()

    def _give_back(self, own: object) -> None:
        del self._linear.forward
        if own is not None:
            vars(self._linear)["forward"] = own


def full_logits(model: nn.Module, head: Head, embedding_BH: Tensor) -> Tensor:
    """Return the head's logits of some embeddings, in full fp32. Shape: (B, H) -> (B, C)."""
    with torch.autocast(embedding_BH.device.type, enabled=False), full_fp32():
        return logits_of(embedding_BH, *head_weight(model, head))
