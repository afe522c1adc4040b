"""What a preempted run made against what an undisturbed one did, from the manifests of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lt_hpc.config.schema import Config
from lt_hpc.report.collect import provenance
from lt_hpc.run import state
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store import manifest, shards
from lt_hpc.store.paths import RunPaths

PROMISED = ("documents", "kept", "chunks", "samples", "items", "requests")
"""Counts that do not depend on what a model says."""


@dataclass(frozen=True)
class Compared:
    """The outputs of one stage.

    Attributes:
        files: how many there are in the undisturbed run.
        problems: what does not verify, in words, or is not of this plan, or differs in a promised count.
        differ: files whose bytes differ, or that only one of them has.
    """

    files: int
    problems: tuple[str, ...]
    differ: tuple[str, ...]


def compare(plan: Plan, undisturbed: RunPaths, disturbed: RunPaths) -> dict[str, Compared]:
    """Key of each stage -> its outputs in both, every file read against its checksum."""
    return {stage.key: _stage(stage, undisturbed, disturbed) for stage in plan.stages}


def _stage(stage: Stage, undisturbed: RunPaths, disturbed: RunPaths) -> Compared:
    problems: list[str] = []
    contents: list[dict[str, str]] = []
    counts: list[dict[str, int]] = []
    for paths in (undisturbed, disturbed):
        contents.append({})
        counts.append({})
        for folder, expected in _folders(paths, stage):
            found = manifest.problem(folder, expected, checksums=True)
            record = manifest.read(folder)
            if found is not None or record is None:
                problems.append(found or manifest.none_in(folder))
                continue
            name = folder.relative_to(paths.root)
            contents[-1] |= {str(name / entry.name): entry.sha256 for entry in record.files}
            for count in PROMISED:
                if count in record.counts:
                    counts[-1][f"{name}: {count}"] = record.counts[count]
    different = sorted(name for name in counts[0] if counts[0][name] != counts[1].get(name))
    if not problems:
        problems += [f"{name} {counts[0][name]}, preempted {counts[1].get(name)}" for name in different]
    names = sorted({*contents[0], *contents[1]})
    differ = tuple(name for name in names if contents[0].get(name) != contents[1].get(name))
    return Compared(len(contents[0]), tuple(problems), differ)


def _folders(paths: RunPaths, stage: Stage) -> Iterator[tuple[Path, str]]:
    """The folders of a stage that have a manifest each, with the fingerprint that each should have."""
    if not stage.kind.sharded:
        yield from ((paths.root / folder, expected) for folder, expected in stage.outputs.items())
        return
    pinned = shards.read(paths.root / stage.output)
    if pinned is None or pinned.samples != stage.fingerprint:
        yield paths.root / stage.output, stage.fingerprint  # which has no manifest
        return
    for number, folder in enumerate(state.folders(paths, stage)):
        yield folder, pinned.fingerprint(number)


def bytes_may_differ(plan: Plan, *runs: RunPaths) -> str:
    """Why nobody promises the same bytes, in words; empty where they are promised (docs/runs.md)."""
    config: Config = plan.config
    devices = {one for paths in runs for one in provenance(plan, paths).get("device", [])} - {"CPU"}
    if devices:
        return f"on {', '.join(sorted(devices))} sums may be ordered otherwise from one attempt to the next"
    if config.sample.engine != "torch":
        return f"with sample.engine={config.sample.engine} they depend on what else was in flight"
    if any("teacher" in stage.settings for stage in plan.stages) and config.teacher.kind == "openai":
        return "an endpoint may answer otherwise each time"
    return ""
