"""Thoughts of earlier iterations beside those of this one: `sample.reuse`.

An old thought costs scores and no sampling. All thoughts of a chunk are weighted by the mixture of the models
that drew them, so each model scores the thoughts of all others. The models are held side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lt_hpc.data.corpus import Chunk
from lt_hpc.engines.load import load
from lt_hpc.engines.protocol import Engine, Ids
from lt_hpc.errors import IncompleteError
from lt_hpc.latent import weights
from lt_hpc.latent.layout import Layout
from lt_hpc.run.plan import reused
from lt_hpc.stages.estep import Proposals, Scheme, checked, prompts
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest, shards, tables
from lt_hpc.store.paths import block_part, shard_folder
from lt_hpc.store.shards import ShardMap


@dataclass(frozen=True)
class Draws:
    """The thoughts that one iteration drew for a chunk, each with its <EOL>; `cut` [K] bool: it was put
    there; `log_q` [K] nats under the model that drew them."""

    thoughts: list[np.ndarray]
    cut: np.ndarray
    log_q: np.ndarray

    @property
    def free(self) -> list[list[int]]:
        """What of each was drawn."""
        return [ids[: len(ids) - cut].tolist() for ids, cut in zip(self.thoughts, self.cut, strict=True)]


@dataclass
class Earlier:
    """The earlier iterations whose thoughts a task takes up again."""

    task: Task
    verified: dict[int, ShardMap] = field(default_factory=dict)
    checked: set[tuple[int, int]] = field(default_factory=set)
    engines: dict[int, Engine] = field(default_factory=dict)

    @property
    def iterations(self) -> list[int]:
        """The newest first."""
        return self.task.stage.earlier

    def engine(self, iteration: int) -> Engine:
        """With the model that drew the thoughts of an iteration."""
        if iteration not in self.engines:
            config, folder = self.task.plan.config, self.task.input(reused("model", iteration))
            self.engines[iteration] = load(config, folder, config.sample.dtype)
        return self.engines[iteration]

    def drawn(self, iteration: int, chunks: range) -> list[Draws]:
        """What that iteration itself drew for these chunks.

        Raises:
            IncompleteError: when a shard of it is missing or damaged.
        """
        folder, shard_map = self.task.folder(reused("samples", iteration)), self._shard_map(iteration)
        found: dict[int, Draws] = {}
        for shard in range(shard_map.num_shards):
            for block in shard_map.blocks(shard):
                its_chunks = shard_map.chunks(block)
                if its_chunks.start < chunks.stop and chunks.start < its_chunks.stop:
                    self._check(iteration, shard, shard_map)
                    table = tables.read(shard_folder(folder, shard) / block_part(block), tables.POOLED)
                    found |= {row["chunk"]: _own(row, iteration) for row in table.to_pylist()}
        return [found[chunk] for chunk in chunks]

    def _shard_map(self, iteration: int) -> ShardMap:
        if iteration not in self.verified:
            name = reused("samples", iteration)
            found = shards.read(self.task.folder(name))
            if found is None or found.samples != self.task.plan.output(self.task.stage.inputs[name]):
                raise IncompleteError(f"{self.task.folder(name)} has not been started")
            self.verified[iteration] = found
        return self.verified[iteration]

    def _check(self, iteration: int, shard: int, shard_map: ShardMap) -> None:
        if (iteration, shard) not in self.checked:
            folder = shard_folder(self.task.folder(reused("samples", iteration)), shard)
            manifest.verified(folder, shard_map.fingerprint(shard))
            self.checked.add((iteration, shard))


def _own(row: Mapping[str, Any], iteration: int) -> Draws:
    """Of a row of samples what that iteration drew itself."""
    drawn = row.get("drawn") or [iteration] * len(row["cut"])
    own = [k for k, n in enumerate(drawn) if n == iteration]
    return Draws(
        [np.array(row["thoughts"][k], np.int32) for k in own],
        np.array([row["cut"][k] for k in own], bool),
        np.array([row["log_q"][k] for k in own], np.float64),
    )


def pool(
    engines: Mapping[int, Engine],
    layout: Layout,
    chunks: Sequence[Chunk],
    scheme: Scheme,
    new: Sequence[Proposals],
    old: Mapping[int, Sequence[Draws]],
) -> list[Proposals]:
    """The new thoughts of each chunk, then the old ones, all with log-probabilities of the present model and
    `log_proposal` that of the mixture that they were drawn from, iterations in proportion to their numbers.

    `engines`: iteration -> the model that it draws with, the present one first; `old`: likewise, what each of
    the earlier ones drew for each chunk.

    Raises:
        StageError: naming the chunk whose log-weights are no numbers.
    """
    present, *earlier = engines
    posterior, joint = prompts(layout, chunks)
    draws = [
        {present: Draws(p.thoughts, p.cut, p.log_q)} | {n: old[n][row] for n in earlier}
        for row, p in enumerate(new)
    ]
    log_q = {n: _log_q(engine, n, posterior, draws, scheme) for n, engine in engines.items()}
    again = [[z for n in earlier for z in of[n].thoughts] for of in draws]
    scores = engines[present].score(
        joint,
        [[[*z.tolist(), *chunk.suffix] for z in many] for chunk, many in zip(chunks, again, strict=True)],
    )
    found = []
    for row, (chunk, one, of) in enumerate(zip(chunks, new, draws, strict=True)):
        pairs = [(s.astype(np.float64), len(z)) for s, z in zip(scores[row], again[row], strict=True)]
        counts = [len(part.cut) for part in of.values()]
        pooled = Proposals(
            thoughts=[z for part in of.values() for z in part.thoughts],
            cut=np.concatenate([part.cut for part in of.values()]),
            log_q=log_q[present][row],
            log_prior=np.append(one.log_prior, [s[:n].sum() for s, n in pairs]),
            log_likelihood=np.append(one.log_likelihood, [s[n:].sum() for s, n in pairs]),
            log_proposal=weights.log_balance(np.stack([log_q[n][row] for n in of]), np.array(counts)),
            drawn=np.repeat(list(of), counts),
        )
        found.append(checked(chunk, pooled))
    return found


def _log_q(
    engine: Engine, iteration: int, posterior: list[Ids], draws: Sequence[Mapping[int, Draws]], scheme: Scheme
) -> list[np.ndarray]:
    """[S] of each chunk: log q of all its S thoughts under the model with which an iteration draws; of that
    iteration's own as they were drawn."""
    others = [[ids for n, part in of.items() if n != iteration for ids in part.free] for of in draws]
    found = []
    for of, scores in zip(draws, engine.score(posterior, others, scheme.free), strict=True):
        sums = iter([float(one.astype(np.float64).sum()) for one in scores])
        found.append(
            np.concatenate(
                [
                    part.log_q if n == iteration else np.array([next(sums) for _ in part.thoughts])
                    for n, part in of.items()
                ]
            )
        )
    return found
