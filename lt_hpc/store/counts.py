"""What the counts in the manifest of prepared documents are called, and what they say to people. Pure."""

from __future__ import annotations

from collections.abc import Mapping

UNKNOWN_TOKENS = "unknown tokens"
"""Of texts and thoughts, what the tokenizer has no token for."""
DROPPED = "dropped: "
"""Documents that were left out, followed by the reason."""


def dropped(counts: Mapping[str, int]) -> str:
    """The reasons for which documents were dropped, with how many, most first; empty for none."""
    found = [(n, key.removeprefix(DROPPED)) for key, n in counts.items() if key.startswith(DROPPED)]
    return ", ".join(f"{n} {reason}" for n, reason in sorted(found, reverse=True))


def remarks(counts: Mapping[str, int]) -> list[str]:
    """What a reader should know of some documents: how many were dropped and why, and how many tokens
    the tokenizer did not know."""
    lines = []
    documents, kept = counts.get("documents", 0), counts.get("kept", 0)
    if documents > kept:
        share = (documents - kept) / documents
        lines.append(f"{documents - kept} of {documents} documents dropped ({share:.1%}): {dropped(counts)}")
    unknown = counts.get(UNKNOWN_TOKENS, 0)
    if unknown:
        tokens = counts.get("tokens", 0) + counts.get("thought tokens", 0)
        share = unknown / max(1, tokens)
        lines.append(
            f"{unknown} of {tokens} tokens ({share:.2%}) are nothing that the tokenizer knows: what they "
            "said is lost to the model"
        )
    return lines
