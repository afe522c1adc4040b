"""What a teacher's thoughts took, in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lt_hpc.latent.cost import cost_of
from lt_hpc.store.counts import LOST, refused


def in_words(counts: Mapping[str, int], settings: Mapping[str, Any]) -> str | None:
    """Chunks with a thought, answers and why some were refused, tokens, and the cost where there are prices
    (`settings`: the teacher section). None where nothing was asked."""
    if not counts.get("answers"):
        return None
    text = f"{counts['taught']} of {counts['chunks']} chunks have a teacher's thought; "
    text += f"{counts['answers']} answers"
    if refused(counts):
        text += f", refused: {refused(counts)}"
    text += f"; {counts['prompt_tokens']:,} tokens asked and {counts['answer_tokens']:,} answered"
    cost = cost_of(counts["prompt_tokens"], counts["answer_tokens"], settings)
    if cost is not None:
        text += f", {cost:.4g} USD"
    if counts.get(LOST):
        text += (
            f"; beside these {counts[LOST]} requests whose answers were lost with a killed task "
            "and which may have been paid for"
        )
    return text
