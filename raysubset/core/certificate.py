"""The optimality certificate: how far any other subset of the same size could be ahead.

f(S) = -L_V(W_S) is concave in G = sum of g_i over S (cross-entropy of logits that are linear in
G), so f(OPT) <= f(S) + step * (sum of the K largest gains at S - sum of the gains of S).
"""

from __future__ import annotations

from dataclasses import dataclass

from raysubset.core.ground_set import GroundSet, Taken
from raysubset.core.lookahead import Lookahead
from raysubset.core.scores import Alignment


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What the modelled validation loss was, is after the step, and could be at best (nats)."""

    loss_before: float
    loss_after: float
    loss_bound: float

    @property
    def share(self) -> float:
        """The achieved drop over the largest possible one: at least this share of the optimum.

        At most 1; negative where the step made the modelled loss worse (an overshoot). Where no
        subset can lower the loss: 1 if none can be better than this one, else 0.
        """
        possible = self.loss_before - self.loss_bound
        achieved = self.loss_before - self.loss_after
        if possible <= 0:
            return float(achieved >= possible)
        return min(1.0, achieved / possible)


def certify(
    ground_set: GroundSet, lookahead: Lookahead, chosen: GroundSet, step: float, nothing: Taken
) -> Certificate:
    """Return the certificate of a chosen subset at the cost of one more pass over the gains.

    Args:
        ground_set: what could have been chosen.
        lookahead: the validation set, of the same width as the factors.
        chosen: the rows that were chosen, as a ground set.
        step: the step per pick.
        nothing: the state before the first pick, with the class rooms that greedy obeyed.
    """
    logits_VC = lookahead.moved_logits(chosen.gradient_sum(), step)
    score = Alignment(lookahead.direction(logits_VC))
    # The same sum in the same order on both sides: chosen rows that are the best cancel exactly.
    size = chosen.num_examples
    best = ground_set.top(score, size, nothing).gain_K.double().sum()
    own = chosen.top(score, size, Taken.nothing()).gain_K.double().sum()
    loss = lookahead.loss(logits_VC)
    return Certificate(
        loss_before=lookahead.loss(lookahead.logits_VC),
        loss_after=loss,
        loss_bound=loss - step * float(best - own),
    )
