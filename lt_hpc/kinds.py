"""The kinds of stages: what each is, in one table. Pure; everything that differs by kind asks here.

A row is also where a kind gets its section of Slurm settings: `slurm.NAME`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lt_hpc.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Kind:
    """One kind of stage; lt_hpc/stages/NAME.py runs it.

    Attributes:
        name: of the module in lt_hpc.stages and of the section in `slurm`.
        tasks: `one` process; `shards`, independent processes that share the shards of the output;
            `ranks`, processes that start and fall together.
        goal: a run is complete only when every stage of this kind is done. Other stages run where
            a goal needs them: samples deleted after their model was trained are not missed.
        resumes: a task that is started again goes on from what the one before it kept.
        blocks: setting for how much it works on and commits together, or None.
        documents: its outputs, but for the base model, are documents as token ids.
        repairs: role of the input (the output of a `shards` stage) whose missing or corrupt shards
            are made again when this stage finds some, or None.
        reports: the report of the run is written again after it.
        harness: it imports lm-evaluation-harness.
    """

    name: str
    tasks: Literal["one", "shards", "ranks"] = "one"
    goal: bool = False
    resumes: bool = True
    blocks: str | None = None
    documents: bool = False
    repairs: str | None = None
    reports: bool = False
    harness: bool = False

    @property
    def sharded(self) -> bool:
        """Whether its output is a folder of shards, each with a manifest of its own."""
        return self.tasks == "shards"

    @property
    def ranked(self) -> bool:
        """Whether its tasks are ranks, with checkpoints that all of them write."""
        return self.tasks == "ranks"


KINDS = (
    Kind("prepare", documents=True),
    Kind("tokenise", tasks="shards"),
    Kind("gather", documents=True, repairs="tokenised"),
    Kind("synthesize", tasks="shards", blocks="sample.block_chunks"),
    Kind("sample", tasks="shards", blocks="sample.block_chunks"),
    Kind("merge", resumes=False, repairs="samples"),
    Kind("train", tasks="ranks", goal=True),
    Kind("evaluate", goal=True, blocks="sample.block_chunks", reports=True),
    Kind("measure", tasks="shards", blocks="sample.block_chunks"),
    Kind("aggregate", goal=True, resumes=False, repairs="measured", reports=True),
    Kind("answer", tasks="shards", blocks="benchmark.block_items", harness=True),
    Kind("benchmark", goal=True, resumes=False, repairs="answers", reports=True, harness=True),
)
NAMES = tuple(kind.name for kind in KINDS)


def kind_of(name: str) -> Kind:
    """The kind with a name.

    Raises:
        ConfigError: with the valid names, when there is none.
    """
    for kind in KINDS:
        if kind.name == name:
            return kind
    near = did_you_mean(name, NAMES)
    raise ConfigError(f"no stage is called {name!r}; there are: {', '.join(NAMES)}{near}")
