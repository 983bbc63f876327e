"""Features of a real network: a small conv net, trained for some epochs on the data asked for.

Greedy's cost depends on how the gains are spread, so no case measures it on noise. On CIFAR-10:
50,000 rows (45,000 of the pool, which were trained on, and 5,000 of the test part), H = 512.
Shape letters: N rows to choose from, V validation, C classes, H embedding width.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from torch import nn

from jobs.benches.measuring import Asked, device_of
from raysubset.core.factors import GradientFactors
from raysubset.core.lookahead import Lookahead
from raysubset.learn.head import head_weight
from raysubset.learn.learner import Learner, TrainOrder
from raysubset.learn.scoring import PartName, Scorer, ranges_of

EPOCHS = 3
MOST_ROWS = 50_000
_WIDTHS = (32, 64, 128, 512)


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """What the head of a trained network sees, and the head; plain float32 and int64 arrays."""

    embedding_NH: np.ndarray
    label_N: np.ndarray
    embedding_VH: np.ndarray
    label_V: np.ndarray
    weight_CH: np.ndarray
    bias_C: np.ndarray

    def factors(self, rows: int = MOST_ROWS) -> GradientFactors:
        """Return the gradient factors of the first rows."""
        return GradientFactors.from_embeddings(
            self.embedding_NH[:rows], self.label_N[:rows], self.weight_CH, self.bias_C
        )

    def lookahead(self) -> Lookahead:
        """Return the validation set as the head sees it."""
        return Lookahead.from_embeddings(
            self.embedding_VH, self.label_V, self.weight_CH, self.bias_C
        )


def wide_convnet(num_classes: int, in_shape: tuple[int, ...]) -> nn.Module:
    """Return four conv-BN-ReLU blocks with pools between them: an embedding of 512 numbers."""
    if len(in_shape) != 3:
        return nn.Sequential(nn.Linear(*in_shape, 512), nn.ReLU(), nn.Linear(512, num_classes))
    layers: list[nn.Module] = []
    for taken, given in pairwise((in_shape[0], *_WIDTHS)):
        layers += [nn.Conv2d(taken, given, 3, padding=1, bias=False), nn.BatchNorm2d(given)]
        layers += [nn.ReLU(inplace=True), nn.MaxPool2d(2, ceil_mode=True)]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_WIDTHS[-1], num_classes)
    )


def features(asked: Asked) -> Features:
    """Return the features, from the file where they are kept if it is there."""
    kept = Path(asked.features) if asked.features else None
    if kept and kept.exists():
        with np.load(kept) as arrays:
            return Features(**arrays)
    made = _trained(asked)
    if kept:
        np.savez(kept, **asdict(made))
    return made


def _trained(asked: Asked) -> Features:
    run = asked.prepared(
        model__name="jobs.benches.features:wide_convnet",
        training__batch_size=128,
        training__precision="bf16",
        training__channels_last="on",
        selection__batch_size=500,
    )
    problem = run.problem
    learner = Learner(problem, device_of(run), world=1)
    order = TrainOrder(
        ids_EK=problem.parts.pool.id_N[None],
        weights_K=None,
        epochs=range(EPOCHS),
        visits_before=0,
        total_visits=EPOCHS * problem.parts.pool.num_examples,
    )
    learner.train(order, lambda *_: None)
    scorer = Scorer(problem, learner.device, learner)
    pool, test, look = (_scored(scorer, name) for name in ("pool", "test", "validation"))
    weight, bias = (
        tensor.float().cpu().numpy() for tensor in head_weight(learner.model, scorer.head)
    )
    embedding, label = (np.concatenate(both)[:MOST_ROWS] for both in zip(pool, test, strict=True))
    return Features(
        embedding_NH=embedding,
        label_N=label,
        embedding_VH=look[0],
        label_V=look[1],
        weight_CH=weight,
        bias_C=bias,
    )


def _scored(scorer: Scorer, name: PartName) -> tuple[np.ndarray, np.ndarray]:
    """Return (embeddings, labels) of a part."""
    ids = scorer.problem.parts.named(name).id_N
    given = [scorer.score(rows) for rows in ranges_of(name, ids, scorer.problem.scoring_batch)]
    embedding = np.concatenate([out.embeddings for out in given])
    return embedding, np.concatenate([out.labels for out in given])
