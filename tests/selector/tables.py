"""Tables to choose from, and the slow, explicit twin of the selector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from sklearn.datasets import make_classification

import raysubset as rs
from raysubset.core.keys import derive_key
from raysubset.core.lookahead import Lookahead
from raysubset.strategies.selection import Selection
from raysubset.strategies.strategy import Strategy


def table(
    rows: int = 240, features: int = 6, classes: int = 3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of overlapping classes, not equally large."""
    return make_classification(
        n_samples=rows,
        n_features=features,
        n_informative=features - 1,
        n_redundant=0,
        n_classes=classes,
        n_clusters_per_class=1,
        weights=None if classes > 2 else [0.7, 0.3],
        class_sep=0.7,
        random_state=seed,
    )


def real(folder: Path, name: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The first train rows of a real table."""
    read = pq.read_table(folder / "tabular" / name / "train.parquet").slice(0, rows)
    names = [column for column in read.column_names if column != "label"]
    X = np.stack([read.column(column).to_numpy() for column in names], axis=1)
    return X, read.column("label").to_numpy()


def by_hand(selector: Any, X: Any, y: Any, budget: int) -> Selection:
    """What the strategy chooses where scikit-learn gives embeddings and residuals.

    Embeddings by `transform`, residuals by `predict_proba`; no head is looked at.
    """
    last, h_all = selector.estimator_, np.asarray(X)
    while hasattr(last, "steps"):
        for _, step in last.steps[:-1]:
            h_all = step.transform(h_all)
        last = last.steps[-1][1]
    p_all = last.predict_proba(h_all)
    classes = last.classes_.tolist()
    held = set(selector.validation_ids_.tolist())
    pool = np.array([row for row in range(len(y)) if row not in held])
    parts = []
    for rows in (pool, selector.validation_ids_):
        label = np.array([classes.index(value) for value in np.asarray(y)[rows].tolist()])
        parts.append((rows, label, h_all[rows], p_all[rows]))
    (ids, label, h, p), (_, label_V, h_V, p_V) = parts
    factors = rs.GradientFactors(
        ids_N=torch.from_numpy(ids),
        label_N=torch.from_numpy(label),
        residual_NC=torch.from_numpy(p - np.eye(len(classes))[label]).to(torch.float64),
        embedding_NH=torch.from_numpy(h).to(torch.float64),
    )
    lookahead = Lookahead(  # logits are known up to a number a row, which no softmax sees
        embedding_VH=torch.from_numpy(h_V).to(torch.float64),
        label_V=torch.from_numpy(label_V),
        logits_VC=torch.from_numpy(np.log(p_V)).to(torch.float64),
    )
    strategy: Strategy = selector.strategy
    key = derive_key(selector.seed, "select")
    return strategy.select(rs.LocalGroundSet(factors), lookahead, budget, key)
