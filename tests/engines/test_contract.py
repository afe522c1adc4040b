"""What every engine promises (lt_hpc/engines/protocol.py), asked of each. A new engine is one more name in
ENGINES and one more case in `served`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lt_hpc.engines.protocol import Completion, Draw, Engine, SamplingParams, Score, Work
from lt_hpc.engines.torch_engine import TorchEngine
from lt_hpc.errors import ConfigError
from tests.engines.exactness import (
    PLAIN,
    STOP,
    TRUNCATED,
    check_against_the_enumeration,
    plain_logits,
    plain_scores,
)
from tests.runs.tiny_models import make_gpt2

ENGINES = ["torch", "torch-gpt2", "vllm"]
NO_STOP = -1
BLOCK_TOKENS = 32
"""Engines with a prefix cache share it in whole blocks: on a CPU, of so many tokens."""


@dataclass(frozen=True)
class Served:
    """An engine in float32, and the folder of its model: a vocabulary of 6, 128 positions."""

    engine: Engine
    path: Path


@pytest.fixture(scope="module", params=ENGINES)
def served(
    request: pytest.FixtureRequest, served_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Served:
    if request.param == "vllm":
        return Served(request.getfixturevalue("vllm_engine"), served_path)
    path = (
        served_path
        if request.param == "torch"
        else make_gpt2(tmp_path_factory.mktemp("gpt2"), 6, spread=0.15)
    )
    return Served(TorchEngine(path, "float32", 4096), path)


def prompts_of(seed: int) -> list[list[int]]:
    """Around the edges of a block, long and short."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 6, size).tolist() for size in (1, 40, 33, 4, 32)]


def siblings(rng: np.random.Generator) -> list[list[int]]:
    """Continuations that share much, little and nothing, so that some of their blocks are in a cache."""
    start = rng.integers(1, 6, 2 * BLOCK_TOKENS).tolist()
    half = start[: BLOCK_TOKENS + 5]
    return [
        start, [*start, 1, 2, 3], [*half, 4, 4], [*start, 1, 2, 3], start[:3], [], [5],
    ]  # fmt: skip


@pytest.mark.parametrize("prior", [0.0, 0.5])
@pytest.mark.parametrize("params", [PLAIN, TRUNCATED], ids=["plain", "truncated"])
def test_thoughts_and_weights_agree_with_the_enumeration(
    served: Served, params: SamplingParams, prior: float
) -> None:
    """Thoughts are distributed as q, or the mixture with the prior, says; both sum to 1 over thoughts that
    end; weights average to the exact sum over all thoughts."""
    if prior and not params.plain and not isinstance(served.engine, TorchEngine):
        with pytest.raises(ConfigError, match="temperature"):
            served.engine.score([[1]], [[[2]]], params)
        return
    check_against_the_enumeration(served.engine, served.path, params, 3000, prior)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(40, NO_STOP),
        SamplingParams(40, STOP, temperature=0.7, top_p=0.9),
        SamplingParams(40, STOP, temperature=0.7, top_p=0.9, top_k=4),
    ],
    ids=["plain", "top-p", "top-k and top-p"],
)
def test_log_q_is_the_density_the_tokens_were_drawn_from(served: Served, params: SamplingParams) -> None:
    """`Completion.logprobs` are of the tempered, truncated and renormalised distribution, one for each id,
    the stop id included; a sample ends with the stop id, when finished, or at the limit."""
    prompts = prompts_of(5)
    draws = [[2**62 + 100 * i + k for k in range(4)] for i in range(len(prompts))]
    for prompt, samples in zip(prompts, served.engine.sample(prompts, draws, params), strict=True):
        assert len({sample.ids.tobytes() for sample in samples}) > 1, "seeds must differ"
        for sample in samples:
            assert (sample.ids.dtype, sample.logprobs.dtype) == (np.int32, np.float32)
            ids = sample.ids.tolist()
            assert sample.finished == (ids[-1] == params.stop_id)
            assert params.stop_id not in ids[:-1]
            assert sample.finished or len(ids) == params.max_tokens
            wanted = plain_scores(served.path, prompt, ids, params)
            np.testing.assert_allclose(sample.logprobs, wanted, atol=1e-4)


def test_a_block_gives_the_same_bytes_again_and_after_other_work(served: Served) -> None:
    """The same list of prompts, seeds and parameters gives the same bytes."""
    prompts, params = prompts_of(9), SamplingParams(30, STOP, temperature=0.9)
    draws = [[10 * i + k for k in range(3)] for i in range(len(prompts))]

    def block() -> list[bytes]:
        samples = served.engine.sample(prompts, draws, params)
        scores = served.engine.score(prompts, [[one.ids.tolist() for one in many] for many in samples])
        arrays = [part for one in itertools.chain(*samples) for part in (one.ids, one.logprobs)]
        return [array.tobytes() for array in (*arrays, *itertools.chain(*scores))]

    first = block()
    served.engine.sample(prompts_of(10), [[1, 2]] * 5, params)
    served.engine.score(prompts, [[[1, 2, 3]]] * 5)
    assert block() == first


def test_blocks_are_completed_with_what_sample_and_score_give(served: Served) -> None:
    """Each once, whatever is at work beside it: the tokens of the seeds, and their log-probabilities."""
    params, blocks = SamplingParams(30, STOP, temperature=0.9), [prompts_of(seed) for seed in range(4)]

    def work(prompt: list[int], draws: list[int]) -> Work[tuple[list[Completion], list[np.ndarray]]]:
        samples = yield Draw(prompt, draws, params)
        return samples, (yield Score(prompt, [one.ids.tolist() for one in samples]))

    draws = [[[100 * n + 10 * i + k for k in range(3)] for i in range(5)] for n in range(4)]
    works = ((n, list(map(work, blocks[n], draws[n]))) for n in range(4))
    found = dict(served.engine.complete(works))
    assert sorted(found) == [0, 1, 2, 3]
    for n, of_block in found.items():
        wanted = served.engine.sample(blocks[n], draws[n], params)
        for (samples, scores), alone, prompt in zip(of_block, wanted, blocks[n], strict=True):
            for one, score, other in zip(samples, scores, alone, strict=True):
                assert (one.ids.tolist(), one.finished) == (other.ids.tolist(), other.finished)
                np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)
                exact = plain_scores(served.path, prompt, one.ids.tolist())
                np.testing.assert_allclose(score, exact, atol=2e-4)


def test_a_sample_depends_on_its_seed_and_not_on_what_is_batched_with_it(served: Served) -> None:
    """The tokens; floating-point sums may differ in their last bits."""
    prompts, params = prompts_of(9), SamplingParams(30, STOP, temperature=0.9)
    draws = [[10 * i + k for k in range(3)] for i in range(len(prompts))]
    whole = served.engine.sample(prompts, draws, params)
    alone = [
        served.engine.sample([prompt], [seeds], params)[0]
        for prompt, seeds in zip(prompts, draws, strict=True)
    ]
    for one, other in zip(itertools.chain(*whole), itertools.chain(*alone), strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)


def test_each_prompt_has_as_many_samples_as_seeds_and_a_seed_repeats_its_sample(served: Served) -> None:
    """`sample` gives len(seeds[i]) samples for prompt i, none where there is no seed."""
    params = SamplingParams(16, NO_STOP)
    samples = served.engine.sample([[1, 2], [3], [4, 5, 1]], [[7, 8, 7], [], [9]], params)
    assert [len(of_prompt) for of_prompt in samples] == [3, 0, 1]
    first, second, third = (sample.ids.tolist() for sample in samples[0])
    assert first == third != second
    assert served.engine.sample([], [], params) == []


def test_greedy_takes_the_most_likely_token(served: Served) -> None:
    """At temperature 0, with certainty."""
    prompt = [3, 1, 4, 1, 5]
    sample = served.engine.sample([prompt], [[0]], SamplingParams(6, STOP, temperature=0))[0][0]
    so_far = list(prompt)
    for token in sample.ids.tolist():
        assert token == int(plain_logits(served.path, so_far)[-1].argmax())
        so_far.append(token)
    assert sample.logprobs.tolist() == [0.0] * len(sample.ids)


def test_scores_are_those_of_a_full_forward(served: Served) -> None:
    """`score` gives log p of every token of every continuation, whatever is shared, cached or scored
    beside it."""
    rng = np.random.default_rng(3)
    prefixes = prompts_of(3)
    continuations = [siblings(rng) for _ in prefixes]
    for attempt in range(2):  # the second time every block is in the cache
        scored = served.engine.score(prefixes, continuations)
        for prefix, of_prefix, scores in zip(prefixes, continuations, scored, strict=True):
            for ids, logprobs in zip(of_prefix, scores, strict=True):
                assert logprobs.dtype == np.float32
                wanted = plain_scores(served.path, prefix, ids) if ids else []
                np.testing.assert_allclose(logprobs, wanted, atol=2e-4, err_msg=f"attempt {attempt}")


@pytest.mark.parametrize("continuations", [[[], [[1, 2]]], [[], []], [[[3]], [[]]]])
def test_a_prefix_may_have_nothing_to_score(served: Served, continuations: list[list[list[int]]]) -> None:
    """No continuation, or an empty one."""
    scored = served.engine.score([[5], [4, 3]], continuations)
    assert [[len(one) for one in of_prefix] for of_prefix in scored] == [
        [len(ids) for ids in of_prefix] for of_prefix in continuations
    ]


def test_untempered_samples_score_as_they_were_drawn(served: Served) -> None:
    """At temperature 1 with nothing cut off, q is p."""
    prompts = prompts_of(7)
    seeds = [[i, 50 + i] for i in range(len(prompts))]
    samples = served.engine.sample(prompts, seeds, SamplingParams(40, STOP))
    drawn = [[sample.ids.tolist() for sample in of_prompt] for of_prompt in samples]
    for of_prompt, scored in zip(samples, served.engine.score(prompts, drawn), strict=True):
        for sample, logprobs in zip(of_prompt, scored, strict=True):
            np.testing.assert_allclose(sample.logprobs, logprobs, atol=1e-4)
