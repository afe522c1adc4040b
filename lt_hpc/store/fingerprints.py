"""Fingerprints: what a result was made from, as 16 hex digits. Pure.

What enters is declared: the identity of the settings (lt_hpc.config.identity) and the fingerprints of
the inputs. No module name, path, version or place of execution does, so that a release that adds a
neutral setting or moves code changes none. `FORMAT` is part of each: raising it redoes everything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

FORMAT = 2
_ENCODER = json.JSONEncoder(sort_keys=True, allow_nan=False)
"""One for all: making an encoder costs as much as using it, and a run has a fingerprint for each shard."""


def fingerprint(made: str, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """SHA-256 (16 hex digits) of what decides a result: what is `made`, the settings, and role ->
    fingerprint of the inputs.

    Raises:
        ValueError, TypeError: for values that JSON can't hold exactly.
    """
    text = _ENCODER.encode({"format": FORMAT, "stage": made, "identity": settings, "inputs": inputs})
    return hashlib.sha256(text.encode()).hexdigest()[:16]
