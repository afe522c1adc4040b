"""What counts in the manifests of documents and of a teacher's thoughts are called, and what they say to
people. Pure."""

from __future__ import annotations

from collections.abc import Mapping

UNKNOWN_TOKENS = "unknown tokens"
"""Of texts and thoughts, what the tokenizer has no token for."""
DROPPED = "dropped: "
"""Documents that were left out, followed by the reason."""
LEFT_OUT = "left out: "
"""Chunks that were left out of documents that are kept, followed by the reason."""
SHARED = "also in "
"""Documents that another folder has too, followed by its name."""
HELD_OUT = "heldout"
REFUSED = "refused: "
"""A teacher's answers that could be no thought, followed by the reason."""
LOST = "lost requests"
"""Questions to a teacher that have no answer because the task was killed."""


def dropped(counts: Mapping[str, int]) -> str:
    """The reasons for which documents were dropped, with how many, most first; empty for none."""
    return _reasons(counts, DROPPED)


def left_out(counts: Mapping[str, int]) -> str:
    """Likewise those for which chunks were left out of documents that are kept."""
    return _reasons(counts, LEFT_OUT)


def refused(counts: Mapping[str, int]) -> str:
    """Likewise those for which answers of a teacher were refused."""
    return _reasons(counts, REFUSED)


def _reasons(counts: Mapping[str, int], start: str) -> str:
    found = [(n, key.removeprefix(start)) for key, n in counts.items() if key.startswith(start)]
    return ", ".join(f"{n} {reason}" for n, reason in sorted(found, reverse=True))


def num_left_out(counts: Mapping[str, int]) -> int:
    """Chunks that were left out of documents that are kept."""
    return sum(n for key, n in counts.items() if key.startswith(LEFT_OUT))


def remarks(name: str, counts: Mapping[str, int]) -> list[str]:
    """What a reader should know of the documents of a folder: how many were dropped and why, how many chunks
    of the others were left out, how many tokens the tokenizer did not know, and how many documents are
    both trained on and held out."""
    lines = []
    documents, kept = counts.get("documents", 0), counts.get("kept", 0)
    if documents > kept:
        share = (documents - kept) / documents
        lines.append(f"{documents - kept} of {documents} documents dropped ({share:.1%}): {dropped(counts)}")
    out = num_left_out(counts)
    if out:
        chunks = out + counts.get("chunks", 0)
        lines.append(f"{out} of {chunks} chunks left out ({out / chunks:.1%}): {left_out(counts)}")
    unknown = counts.get(UNKNOWN_TOKENS, 0)
    if unknown:
        tokens = counts.get("tokens", 0) + counts.get("thought tokens", 0)
        share = unknown / max(1, tokens)
        lines.append(
            f"{unknown} of {tokens} tokens ({share:.2%}) are nothing that the tokenizer knows: what they "
            "said is lost to the model"
        )
    for key, shared in counts.items():
        other = key.removeprefix(SHARED)
        if key.startswith(SHARED) and shared and HELD_OUT in (name, other):
            lines.append(
                f"{shared} of {kept} documents are also in {other}: held-out figures are in part of text "
                "that is trained on"
            )
    return lines
