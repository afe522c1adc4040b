"""The engine on vLLM, on GPUs or a CPU. The only file that imports vllm.

Every sample is a request of its own, with its own seed: the prefix cache computes a prompt
once for all of them. Scoring asks for prompt log-probabilities of the joint sequences, again over
cached prefixes, and never while sampling: that would switch the cache off.

vLLM runs inside this process, so all requests of a call are queued before its first step and
the batches are the same each time. `sample` starts from an empty prefix cache; what `score` finds
in it are the prompts sampled from just before. One engine loads one model: for another model
make another engine (reloaded weights would leave stale caches and tied embeddings behind).
"""

from __future__ import annotations

import os
import re
import signal
import tempfile
from collections.abc import Sequence
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
from vllm.platforms import current_platform  # noqa: E402

from lt_hpc import hardware, host_memory, versions  # noqa: E402
from lt_hpc.config.schema import Config, VllmConfig  # noqa: E402
from lt_hpc.engines.head_padding import with_supported_heads  # noqa: E402
from lt_hpc.engines.protocol import Completion, Ids, SamplingParams  # noqa: E402
from lt_hpc.errors import ConfigError, HardwareError  # noqa: E402

CPU_BLOCK_TOKENS = 32
"""Of the prefix cache on a CPU, the fewest it takes there (its own choice is 128): a prefix is shared
in whole blocks. On a GPU vLLM chooses what its attention takes, 16 as a rule."""
STEP_TOKENS = 8192
"""Prompt tokens in one forward."""
CPU_CACHE_GB = 2.0


class VllmEngine:
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
        self.workers = settings.tensor_parallel_size
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

    def sample(
        self, prompts: Sequence[Ids], seeds: Sequence[Sequence[int]], params: SamplingParams
    ) -> list[list[Completion]]:
        """See `protocol.Engine.sample`."""
        self._check_length(max(map(len, prompts), default=0), params.max_tokens)
        self.llm.reset_prefix_cache()
        requests = [(prompt, seed) for prompt, of_one in zip(prompts, seeds, strict=True) for seed in of_one]
        outputs = self._run([prompt for prompt, _ in requests], [_sampling(params, s) for _, s in requests])
        completions = iter([_completion(output.outputs[0], params) for output in outputs])
        return [[next(completions) for _ in of_prompt] for of_prompt in seeds]

    def score(
        self,
        prefixes: Sequence[Ids],
        continuations: Sequence[Sequence[Ids]],
        params: SamplingParams | None = None,
    ) -> list[list[np.ndarray]]:
        """See `protocol.Engine.score`; of the model's own distribution alone."""
        if params is not None and not params.plain:
            raise ConfigError(
                "sample.engine=vllm: scores at sample.temperature=1 without top_p and top_k alone"
            )
        longest = [
            len(prefix) + max(map(len, of_prefix), default=0)
            for prefix, of_prefix in zip(prefixes, continuations, strict=True)
        ]
        self._check_length(max(longest, default=0), 1)
        results: list[list[Any]] = [
            [None if ids else np.zeros(0, np.float32) for ids in many] for many in continuations
        ]
        for use_cache in (True, False):
            wanted = [(i, k) for i, many in enumerate(results) for k, one in enumerate(many) if one is None]
            pairs = [(prefixes[i], continuations[i][k]) for i, k in wanted]
            for (i, k), (logprobs, num_missing) in zip(
                wanted, self._prompt_logprobs(pairs, use_cache), strict=True
            ):
                if num_missing:
                    donor = _donor(continuations[i], results[i], continuations[i][k][:num_missing])
                    if donor is None:
                        continue  # the second time without the cache
                    logprobs[:num_missing] = donor[:num_missing]
                results[i][k] = logprobs
        return results

    def _prompt_logprobs(self, pairs: list[tuple[Ids, Ids]], use_cache: bool) -> list[tuple[np.ndarray, int]]:
        """float32 [T] log-probabilities of each continuation, and how many at its start are
        missing: a position read from the prefix cache has no logits."""
        params = vllm.SamplingParams(
            max_tokens=1, temperature=0, prompt_logprobs=0, flat_logprobs=True, detokenize=False,
            ignore_eos=True, skip_reading_prefix_cache=not use_cache,
        )  # fmt: skip
        outputs = self._run([[*prefix, *ids] for prefix, ids in pairs], [params] * len(pairs))
        rows = []
        for (prefix, ids), output in zip(pairs, outputs, strict=True):
            found, cached = np.array(output.prompt_logprobs.logprobs, np.float32), output.num_cached_tokens
            rows.append(of_continuation(found, len(prefix), len(ids), cached or 0))
        return rows

    def _run(self, prompts: Sequence[Ids], params: list[vllm.SamplingParams]) -> list[vllm.RequestOutput]:
        if not prompts:
            return []
        requests = [vllm.TokensPrompt(prompt_token_ids=list(prompt)) for prompt in prompts]
        try:
            return list(self.llm.generate(requests, params, use_tqdm=False))
        except torch.OutOfMemoryError as error:
            # Log-probabilities of a prompt are over the whole vocabulary, and vLLM's own estimate
            # of what it needs leaves them out.
            raise _config_error(error) from error
        except RuntimeError as error:
            raise _of_workers(error, self.workers) from error

    def _check_length(self, num_tokens: int, num_new: int) -> None:
        if num_tokens + num_new > self.max_tokens:
            raise ConfigError(
                f"a prompt of {num_tokens} tokens and {num_new} new ones do not fit the {self.max_tokens} of "
                "the model: lower model.context_length or evaluate.max_answer_tokens"
            )


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


def _sampling(params: SamplingParams, seed: int) -> vllm.SamplingParams:
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
    )


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
