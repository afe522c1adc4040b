"""Learning-rate schedules as functions of the step alone, so that resuming needs no state."""

from __future__ import annotations

import math
from typing import assert_never

from lt_hpc.config.schema import Schedule

WSD_DECAY = 0.2
"""Share of the steps in which a warmup-stable-decay schedule decays (Hu et al., arXiv 2404.06395)."""


def learning_rate(schedule: Schedule, step: int, steps: int, warmup: int, final: float) -> float:
    """Factor of the peak rate at optimizer step `step` in [0, steps), of which the first `warmup`
    rise to it in equal parts.

    `cosine` falls from 1 to `final` after the warmup; `wsd` stays at 1 and falls linearly to
    `final` over the last fifth.
    """
    if step < warmup:
        return (step + 1) / warmup
    match schedule:
        case "cosine":
            share = (step - warmup) / max(1, steps - warmup)
            return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * share))
        case "wsd":
            start = max(warmup, steps - math.ceil(WSD_DECAY * steps))
            share = (step - start) / max(1, steps - start)
            return 1.0 if share < 0 else 1.0 - (1.0 - final) * share
        case _:
            assert_never(schedule)
