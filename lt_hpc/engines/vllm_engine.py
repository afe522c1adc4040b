"""The engine on vLLM, on GPUs or a CPU. The only file that imports vllm.

Every sample is a request of its own, with its own seed: the prefix cache computes a prompt
once for all of them. Scoring asks for prompt log-probabilities of the joint sequences, again over
cached prefixes, in requests of their own: a sample that asked for them would not read the cache.

vLLM runs inside this process, behind one queue (in_flight.py). It holds as many requests as are decoded
together, and a chunk is scored as soon as its samples have ended. `complete` takes the next block before
the last one has ended, so what a request is batched with depends on the blocks beside it, and on where an
earlier attempt was stopped; `sample` and `score` alone see the same batches each time. Both and `complete`
start from an empty prefix cache, unless others are at work. Sums may so differ in their last bits, and with
them a token whose draw falls on such a bit; log q is of what was drawn in any case. On a CPU in float32 no
byte differed where it was tried (docs/log.md). One engine loads one model: for another model make another
engine (reloaded weights would leave stale caches and tied embeddings behind).
"""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoConfig

for _name, _value in {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # fixed batches, and a kill leaves nothing behind
    # The newer runner needs Triton, so a GPU. It draws from (seed, position) in one kernel, where the other
    # one makes a call per request and step, and scores prompts in pieces of 1,024 rows of the vocabulary.
    "VLLM_USE_V2_MODEL_RUNNER": "1" if torch.cuda.is_available() else "0",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",  # never taken with seeds and log-probabilities; would be compiled
    # Workers of tensor parallelism: torch has asked the driver for its GPUs, which a fork does not survive.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # tasks on one machine must not sit on the same cores
    # Of its attention on GPUs, which otherwise rounds float32 to TF32.
    "TRITON_F32_DEFAULT": "ieee",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}.items():
    os.environ.setdefault(_name, _value)

import vllm  # noqa: E402
from vllm.inputs import tokens_input  # noqa: E402
from vllm.platforms import current_platform  # noqa: E402
from vllm.sampling_params import RequestOutputKind  # noqa: E402

from lt_hpc import hardware, host_memory, versions  # noqa: E402
from lt_hpc.config.schema import Config, VllmConfig  # noqa: E402
from lt_hpc.engines.head_padding import with_supported_heads  # noqa: E402
from lt_hpc.engines.in_flight import Queue, Steps  # noqa: E402
from lt_hpc.engines.protocol import (  # noqa: E402
    B,
    Completion,
    Draw,
    Engine,
    Ids,
    SamplingParams,
    Score,
    T,
    Work,
)
from lt_hpc.errors import ConfigError, HardwareError  # noqa: E402

CPU_BLOCK_TOKENS = 32
"""Of the prefix cache on a CPU, the fewest it takes there (its own choice is 128): a prefix is shared
in whole blocks. On a GPU vLLM chooses what its attention takes, 16 as a rule."""
STEP_TOKENS = 8192
"""Prompt tokens in one forward."""
CPU_CACHE_GB = 2.0


class VllmEngine(Engine):
    """Samples and scores with vLLM. `max_tokens`: of a prompt and what follows it, together.

    Raises:
        ConfigError: when vLLM can't run the model as configured, or not in this memory; for a version
            that is not allowed.
    """

    def __init__(
        self,
        model_path: Path,
        dtype: str,
        settings: VllmConfig,
        max_tokens: int,
        trust_remote_code: bool = False,
    ) -> None:
        versions.check("vllm", vllm.__version__)
        versions.check("transformers", transformers.__version__)
        _check_platform()
        config = AutoConfig.from_pretrained(model_path, trust_remote_code=trust_remote_code)
        longest = getattr(config.get_text_config(), "max_position_embeddings", None)
        # One more than asked for: scoring draws a token, and throws it away.
        self.max_tokens = min(max_tokens + 1, longest or max_tokens + 1)
        with tempfile.TemporaryDirectory() as scratch:
            folder, cache_gb = model_path, settings.kv_cache_gb
            if current_platform.is_cpu():
                host_memory.keep_freed()
                from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

                # What eager mode leaves to compile takes longer than it saves. This holds for the whole
                # process, but a float32 TorchEngine that checks this one compiles nothing; were a model
                # to do so, its plain operations are what a reference should run.
                torch.compiler.set_stance("force_eager")
                sizes = CPUAttentionBackend.get_supported_head_sizes()
                folder = with_supported_heads(model_path, sizes, Path(scratch))
                cache_gb = cache_gb or CPU_CACHE_GB
            self.attention = f"vLLM's on {current_platform.device_type}"
            self.llm = _start(folder, dtype, settings, self.max_tokens, cache_gb, trust_remote_code)
        self.seconds = {"sample": 0.0, "score": 0.0}
        server = _Server(self.llm, settings.tensor_parallel_size, self.seconds)
        self._queue = Queue(server, settings.max_num_seqs)

    def sample(
        self, prompts: Sequence[Ids], seeds: Sequence[Sequence[int]], params: SamplingParams
    ) -> list[list[Completion]]:
        """See `protocol.Engine.sample`."""
        self._forget()
        draws = [Draw(prompt, own, params) for prompt, own in zip(prompts, seeds, strict=True)]
        return self._queue.run(map(self._drawing, draws))

    def score(
        self,
        prefixes: Sequence[Ids],
        continuations: Sequence[Sequence[Ids]],
        params: SamplingParams | None = None,
    ) -> list[list[np.ndarray]]:
        """See `protocol.Engine.score`; of the model's own distribution alone."""
        pairs = zip(prefixes, continuations, strict=True)
        return self._queue.run([self._scoring(Score(prefix, many, params)) for prefix, many in pairs])

    def complete(
        self, blocks: Iterable[tuple[B, Sequence[Work[T]]]], stopping: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[B, list[T]]]:
        """See `protocol.Engine.complete`. Takes the next block as soon as `max_num_seqs` samples are not
        there to be decoded together, and scores a chunk while others are sampled. What a chunk is batched
        with so depends on what else there is to do."""
        self._forget()
        yield from self._queue.complete(
            ((block, map(self._requests, works)) for block, works in blocks), stopping
        )

    def _forget(self) -> None:
        """Empty the prefix cache, unless something is at work."""
        if self._queue.idle:
            self.llm.reset_prefix_cache()

    def _requests(self, work: Work[T]) -> Steps[T]:
        """All requests of one chunk."""
        answer: Any = None
        while True:
            try:
                asked = work.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            answer = yield from self._drawing(asked) if isinstance(asked, Draw) else self._scoring(asked)

    def _drawing(self, asked: Draw) -> Steps[list[Completion]]:
        self._check_length(len(asked.prompt), asked.params.max_tokens)
        outputs = yield [(asked.prompt, sampling(asked.params, seed)) for seed in asked.seeds]
        return [_completion(output.outputs[0], asked.params) for output in outputs or ()]

    def _scoring(self, asked: Score) -> Steps[list[np.ndarray]]:
        """Twice where a position was read from the prefix cache: those have no logits."""
        if asked.params is not None and not asked.params.plain:
            raise ConfigError(
                "sample.engine=vllm: scores at sample.temperature=1 without top_p and top_k alone"
            )
        prefix, many = asked.prefix, asked.continuations
        self._check_length(len(prefix) + max(map(len, many), default=0), 1)
        results: list[Any] = [None if ids else np.zeros(0, np.float32) for ids in many]
        for use_cache in (True, False):
            wanted = [k for k, one in enumerate(results) if one is None]
            outputs = yield [([*prefix, *many[k]], prompt_logprobs(use_cache)) for k in wanted]
            for k, output in zip(wanted, outputs or (), strict=True):
                found = np.array(output.prompt_logprobs.logprobs, np.float32)
                cached = output.num_cached_tokens or 0
                logprobs, num_missing = of_continuation(found, len(prefix), len(many[k]), cached)
                if num_missing:
                    donor = _donor(many, results, many[k][:num_missing])
                    if donor is None:
                        continue  # the second time without the cache
                    logprobs[:num_missing] = donor[:num_missing]
                results[k] = logprobs
        return results

    def _check_length(self, num_tokens: int, num_new: int) -> None:
        if num_tokens + num_new > self.max_tokens:
            raise ConfigError(
                f"a prompt of {num_tokens} tokens and {num_new} new ones do not fit the {self.max_tokens} of "
                "the model: lower model.context_length or evaluate.max_answer_tokens"
            )


class _Server:
    """vLLM's scheduler and model behind a `Queue`. A request is the ids of a prompt and vLLM's parameters."""

    def __init__(self, llm: vllm.LLM, workers: int, seconds: dict[str, float]) -> None:
        self.engine, self.workers, self.seconds = llm.llm_engine, workers, seconds
        self.sampled: set[int] = set()
        self.last_decode = 0.0

    def add(self, number: int, request: tuple[Ids, vllm.SamplingParams]) -> None:
        """See `in_flight.Server.add`."""
        prompt, params = request
        if params.prompt_logprobs is None:
            self.sampled.add(number)
        self.engine.add_request(str(number), tokens_input(list(prompt)), params)

    def step(self) -> list[tuple[int, vllm.RequestOutput]]:
        """See `in_flight.Server.step`."""
        started, samples = time.monotonic(), bool(self.sampled)
        try:
            outputs = self.engine.step()
        except torch.OutOfMemoryError as error:
            # Log-probabilities of a prompt are over the whole vocabulary, and vLLM's own estimate
            # of what it needs leaves them out.
            raise _config_error(error) from error
        except RuntimeError as error:
            raise _of_workers(error, self.workers) from error
        found = [(int(output.request_id), output) for output in outputs if output.finished]
        self._count(time.monotonic() - started, samples, {number for number, _ in found} - self.sampled)
        self.sampled.difference_update(number for number, _ in found)
        return found

    def _count(self, seconds: float, samples: bool, scored: set[int]) -> None:
        """A step that does both has sampled for as long as the last one that sampled alone."""
        if not scored:
            self.last_decode = seconds
        share = min(seconds, self.last_decode) if samples else 0.0
        self.seconds["sample"] += share
        self.seconds["score"] += seconds - share

    def drop(self, numbers: Collection[int]) -> None:
        """See `in_flight.Server.drop`."""
        self.sampled.difference_update(numbers)
        self.engine.abort_request([str(number) for number in numbers])


def of_continuation(found: np.ndarray, prefix: int, length: int, cached: int) -> tuple[np.ndarray, int]:
    """The last `length` of a prompt's log-probabilities `found`, float32 [length] nats, and how many at
    their start are missing. The first token of a prompt has none, each other one has exactly one; token t
    is predicted at position t - 1, and for the `cached` positions one runner gives values without a
    meaning, the newer one none at all. Pure."""
    absent = prefix + length - 1 - len(found)
    assert absent in (0, cached), f"{absent} log-probabilities are absent, {cached} positions were cached"
    whole = np.concatenate([np.full(absent, np.nan, np.float32), found])
    return whole[prefix - 1 :], max(0, cached - (prefix - 1))


def _check_platform() -> None:
    """Raise where vLLM would compute on something else than this node's GPUs, or not at all."""
    if current_platform.is_cpu():
        if torch.cuda.is_available():
            raise ConfigError(
                "sample.engine=vllm: its CPU build is installed, and this node has GPUs; bash tools/setup.sh "
                "vllm, or set CUDA_VISIBLE_DEVICES= to run on the CPU"
            )
        return
    if not torch.cuda.is_available():
        raise ConfigError(
            "sample.engine=vllm: its GPU build is installed, and no GPU is here; set gpus_per_node of "
            "slurm.sample and slurm.evaluate, or bash tools/setup.sh vllm-cpu"
        )
    capability, built = current_platform.get_device_capability(), torch.cuda.get_arch_list()
    if capability is not None and not hardware.runs_on(built, capability.major, capability.minor):
        raise ConfigError(
            f"sample.engine=vllm: torch was built for {', '.join(built)}, not for this GPU of compute "
            f"capability {capability.major}.{capability.minor}"
        )


def _start(
    folder: Path, dtype: str, settings: VllmConfig, max_tokens: int, cache_gb: float | None, trusted: bool
) -> vllm.LLM:
    # Workers inherit what is blocked while they start: a warning that reaches the whole job must not end
    # them. One that arrives meanwhile is delivered to this process after that.
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
    try:
        return vllm.LLM(
            str(folder),
            dtype=dtype,
            logprobs_mode="processed_logprobs",  # of the tempered, truncated distribution
            enable_prefix_caching=True,
            enable_chunked_prefill=False,  # a seeded request must not be prefilled in pieces
            **({"block_size": CPU_BLOCK_TOKENS} if current_platform.is_cpu() else {}),
            max_model_len=max_tokens,
            max_num_batched_tokens=max(STEP_TOKENS, max_tokens),
            max_num_seqs=settings.max_num_seqs,
            tensor_parallel_size=settings.tensor_parallel_size,
            gpu_memory_utilization=settings.gpu_memory_utilization,
            kv_cache_memory_bytes=None if cache_gb is None else int(cache_gb * 2**30),
            enforce_eager=settings.enforce_eager or current_platform.is_cpu(),
            skip_tokenizer_init=True,
            generation_config="vllm",  # no sampling defaults from the model's folder
            trust_remote_code=trusted,
            seed=0,
        )
    except (ValueError, NotImplementedError, torch.OutOfMemoryError) as error:
        raise _config_error(error) from error
    except RuntimeError as error:
        raise _of_workers(error, settings.tensor_parallel_size) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _of_workers(error: RuntimeError, workers: int) -> Exception:
    """What an error means where there are several: vLLM says little of why they ended."""
    if workers == 1:
        return error
    if "out of memory" in str(error):
        return _config_error(error)
    cause = (str(error).splitlines() or [type(error).__name__])[0]
    return HardwareError(f"sample.engine=vllm: its workers ended ({cause})")


def _config_error(error: Exception) -> ConfigError:
    # pydantic names a class first, and the reason in a later line: Value error, REASON [type=...]
    reason = re.search(
        r"(?:Value error|Assertion failed), (.+?)(?: \[type=|$)", str(error), flags=re.MULTILINE
    )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = reason[1] if reason else lines[0] if lines else type(error).__name__
    return ConfigError(f"sample.engine=vllm: {cause}{_advice(cause)}")


def _advice(cause: str) -> str:
    """Which field to change, where the cause tells."""
    if "memory" in cause.lower() or "kv cache" in cause.lower():
        return " (sample.vllm.kv_cache_gb, sample.vllm.gpu_memory_utilization, model.context_length)"
    return ""


def sampling(params: SamplingParams, seed: int) -> vllm.SamplingParams:
    """Parameters that ask for one sample."""
    return vllm.SamplingParams(
        max_tokens=params.max_tokens,
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        seed=seed,
        stop_token_ids=[params.stop_id] if params.stop_id >= 0 else [],
        ignore_eos=True,  # the model's own end of text is a token like any other
        logprobs=0,  # of the sampled token alone
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def prompt_logprobs(use_cache: bool) -> vllm.SamplingParams:
    """Parameters that ask for the log-probabilities of a prompt."""
    return vllm.SamplingParams(
        max_tokens=1, temperature=0, prompt_logprobs=0, flat_logprobs=True, detokenize=False,
        ignore_eos=True, skip_reading_prefix_cache=not use_cache, output_kind=RequestOutputKind.FINAL_ONLY,
    )  # fmt: skip


def _completion(output: vllm.CompletionOutput, params: SamplingParams) -> Completion:
    ids = np.array(output.token_ids, np.int32)
    logprobs = np.array(output.logprobs.logprobs, np.float32)
    assert len(ids) == len(logprobs)
    if params.temperature == 0:
        logprobs = np.zeros_like(logprobs)  # greedy: the only possible token
    return Completion(ids, logprobs, output.finish_reason == "stop")


def _donor(siblings: Sequence[Ids], scores: list[np.ndarray | None], start: Ids) -> np.ndarray | None:
    """The scores of a continuation of the same prefix that starts with the tokens `start`."""
    for ids, logprobs in zip(siblings, scores, strict=True):
        if logprobs is not None and list(ids[: len(start)]) == list(start):
            return logprobs
    return None


def load(config: Config, model_path: Path, dtype: str) -> VllmEngine:
    """The engine as configured; in evaluation an answer may follow a thought that fills the context."""
    longest = config.model.context_length + config.evaluate.max_answer_tokens
    return VllmEngine(model_path, dtype, config.sample.vllm, longest, config.model.trust_remote_code)
