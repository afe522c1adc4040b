"""lt-hpc prefetch [--config FILE] [key=value ...]

Fetches what a run reads from the hub into the hub's cache: its model, and the data of its benchmarks. For a
machine with a network, as a login node, where the jobs have none. Documents from the hub are streamed while
they are prepared: for those, a file or a `save_to_disk` folder is needed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lt_hpc.arguments import Parser
from lt_hpc.config.load import demo_file, load_config
from lt_hpc.config.schema import Config, ModelConfig
from lt_hpc.data import base_model
from lt_hpc.errors import ConfigError, guarded


@guarded
def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code (see lt_hpc.errors)."""
    options = parser().parse_intermixed_args(arguments)
    config = load_config(options.config or demo_file(), options.overrides, options.profile)
    fetched = _fetch_model(config.model) + _fetch_data(config)
    if fetched:
        print("jobs without a network: put export HF_HUB_OFFLINE=1 into slurm.setup, with the same HF_HOME")
    return 0


def parser() -> Parser:
    """Of the command line."""
    made = Parser("lt-hpc prefetch", __doc__)
    made.add_argument("--config", type=Path, default=None, help="YAML file (default: the demo)")
    made.add_argument("--profile", type=Path, default=None, help="site profile, a YAML file")
    made.add_argument("overrides", nargs="*", metavar="key=value")
    return made


def _fetch_model(model: ModelConfig) -> int:
    source = base_model.resolve(model)
    if not isinstance(source, str):
        print(f"model.path={model.path}: is here")
        return 0
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(source, revision=model.revision)
    except Exception as error:  # of the hub, of requests, of the file system
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(f"model.path={model.path!r}: can't be fetched: {line[:300]}") from error
    print(f"model.path={model.path}: in {folder}")
    return 1


def _fetch_data(config: Config) -> int:
    if not config.benchmark.tasks:
        return 0
    from lt_hpc.benchmarks import harness

    harness.identity(config.benchmark)
    loaded = harness.load(config.benchmark)
    sets = harness.data_sets(config.benchmark.tasks)
    names = ", ".join(name if of is None else f"{name} ({of})" for name, of in sets) or "made here"
    print(f"benchmark.tasks: {len(loaded.loaded['tasks'])} tasks; data: {names}")
    return len(sets)


if __name__ == "__main__":
    sys.exit(main())
