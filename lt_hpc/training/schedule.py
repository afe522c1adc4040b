"""Learning-rate schedules as functions of the step alone, so that resuming needs no state."""

from __future__ import annotations

import math

WSD_DECAY = 0.2
"""Share of the steps in which a warmup-stable-decay schedule decays (Hu et al., arXiv 2404.06395)."""


def learning_rate(schedule: str, step: int, steps: int, warmup: int, final: float) -> float:
    """Factor of the peak rate at optimizer step `step` in [0, steps).

    `cosine` falls from 1 to `final` after the warmup; `wsd` stays at 1 and falls linearly to
    `final` over the last fifth.
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "wsd":
        start = max(warmup, steps - math.ceil(WSD_DECAY * steps))
        share = (step - start) / max(1, steps - start)
        return 1.0 if share < 0 else 1.0 - (1.0 - final) * share
    share = (step - warmup) / max(1, steps - warmup)
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * share))
