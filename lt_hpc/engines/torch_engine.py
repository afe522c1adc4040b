"""The engine on plain torch and transformers: any causal LM, CPU or GPU.

Nothing is computed twice: the prefix is computed and held once for all samples that share it
(shared_prefix.py), samples of a prompt that have drawn the same tokens so far are one branch until
they differ, and equal continuations are scored once. Prompts are batched by length, and branches
leave the batch as they finish. The prompt's last token is fed together with the continuation,
because its logits predict the continuation's first token.
Shapes: N prompts, K samples per prompt, R = N * K rows, T continuation width.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, DynamicCache

from lt_hpc import host_memory, versions
from lt_hpc.config.schema import Config
from lt_hpc.engines import shared_prefix
from lt_hpc.engines.proposal import draw, log_proposal
from lt_hpc.engines.protocol import Completion, Engine, Ids, SamplingParams
from lt_hpc.engines.shared_prefix import Prefixes
from lt_hpc.errors import ConfigError
from lt_hpc.latent.cost import longest_sequence
from lt_hpc.latent.seeds import uniforms

MAX_LOGITS = 2**27
"""Logits held at once while scoring, at most (unless the vocabulary is larger): 512 MiB in float32."""

_FOREIGN = (NotImplementedError, IndexError, RuntimeError, TypeError, AttributeError, ValueError)
"""What models say whose layers are no attention, or one with keys and values of another form."""


_NO_MEMORY = re.compile(r"out of memory|CU(BLAS|DNN|SPARSE|SOLVER)_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)")


@contextmanager
def memory_errors() -> Iterator[None]:
    """A device's lack of memory as Python's MemoryError, with the memory that was taken given back. Its
    libraries and the driver say it in words of their own."""
    try:
        yield
    except RuntimeError as error:  # OutOfMemoryError and AcceleratorError are such
        if not isinstance(error, torch.OutOfMemoryError) and _NO_MEMORY.search(str(error)) is None:
            raise
        torch.cuda.empty_cache()
        raise MemoryError(str(error).strip().splitlines()[0].partition(".")[0]) from error


class TorchEngine(Engine):
    """Samples and scores with a transformers model. `batch_tokens`: padded tokens in one forward.

    Raises:
        ConfigError: when this engine does not compute some of the model's attention, or for a version
            of transformers that is not allowed.
    """

    def __init__(
        self, model_path: Path, dtype: str, batch_tokens: int, trust_remote_code: bool = False
    ) -> None:
        versions.check("transformers", transformers.__version__)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self.model = AutoModelForCausalLM.from_pretrained(
                model_path,
                dtype=getattr(torch, dtype),
                trust_remote_code=trust_remote_code,
                attn_implementation=shared_prefix.NAME,
                # Straight to the GPU: the host's memory may be smaller than a model in float32.
                device_map={"": self.device} if self.device.type == "cuda" else None,
            )
        except KeyError as error:  # in models with a table of attentions of their own
            raise self._unknown_attention(model_path.name) from error
        self.attention = shared_prefix.NAME
        self.longest = longest_sequence(self.model.config.to_dict())
        self.model.to(self.device).eval()
        if self.device.type == "cpu":
            host_memory.keep_freed()
        self.batch_tokens = batch_tokens
        self.seconds = {"sample": 0.0, "score": 0.0}
        self._check_attention()

    @torch.inference_mode()
    def _check_attention(self) -> None:
        """Raise unless every key and value goes through our attention."""
        cache = DynamicCache()
        settings = self.model.config.get_text_config()
        layers = set(getattr(settings, "layer_types", None) or [])
        try:
            prefixes = self._prefill([[0, 0]])
            self._forward(torch.zeros(1, 1, dtype=torch.long, device=self.device), prefixes, cache)
        except torch.OutOfMemoryError:
            raise
        except _FOREIGN as error:
            raise self._unknown_attention(type(self.model).__name__) from error
        every = prefixes.calls == len(cache.layers) == settings.num_hidden_layers
        if not every or layers - {"full_attention", "sliding_attention"}:
            raise self._unknown_attention(type(self.model).__name__)

    @staticmethod
    def _unknown_attention(name: str) -> ConfigError:
        return ConfigError(
            f"sample.engine=torch does not know the attention of {name}: use sample.engine=vllm if that does"
        )

    def _check_length(self, num_tokens: int) -> None:
        if self.longest is not None and num_tokens > self.longest:
            raise ConfigError(
                f"a prompt and what follows it have {num_tokens} tokens, the model has positions for "
                f"{self.longest}: lower model.context_length or evaluate.max_answer_tokens"
            )

    @torch.inference_mode()
    def sample(
        self, prompts: Sequence[Ids], seeds: Sequence[Sequence[int]], params: SamplingParams
    ) -> list[list[Completion]]:
        """See `protocol.Engine.sample`."""
        started = time.monotonic()
        rows = [len(of_prompt) for of_prompt in seeds]
        widths = [len(prompt) + params.max_tokens for prompt in prompts]
        self._check_length(max(widths, default=0))
        results: list[list[Completion]] = [[] for _ in prompts]
        for group in _groups(rows, widths, self.batch_tokens):
            sampled = self._sample_group([prompts[i] for i in group], [seeds[i] for i in group], params)
            for index, completions in zip(group, sampled, strict=True):
                results[index] = completions
        self.seconds["sample"] += time.monotonic() - started
        return results

    def _sample_group(
        self, prompts: list[Ids], seeds: list[Sequence[int]], params: SamplingParams
    ) -> list[list[Completion]]:
        counts = torch.tensor([len(of_prompt) for of_prompt in seeds], device=self.device)
        prefixes, cache = self._prefill(prompts), DynamicCache()
        last = torch.tensor([[prompt[-1]] for prompt in prompts], device=self.device)
        logits = self._forward(last, prefixes, cache)[:, -1]
        uniforms_RT = torch.tensor(
            np.stack([uniforms(seed, params.max_tokens) for of_prompt in seeds for seed in of_prompt]),
            device=self.device,
        )
        num_rows, vocab_size = len(uniforms_RT), logits.shape[-1]
        ids_RT = torch.zeros(num_rows, params.max_tokens, dtype=torch.int32, device=self.device)
        logprobs_RT = torch.zeros(num_rows, params.max_tokens, device=self.device)
        lengths_R = torch.full((num_rows,), params.max_tokens, device=self.device)
        finished_R = torch.zeros(num_rows, dtype=torch.bool, device=self.device)
        active = torch.arange(num_rows, device=self.device)
        branch = prefixes.owners.repeat_interleave(counts)  # of each active sample
        for step in range(params.max_tokens):
            tokens, log_q = draw(logits, branch, uniforms_RT[active, step], params)
            ids_RT[active, step] = tokens.int()
            logprobs_RT[active, step] = log_q
            stopped = tokens == params.stop_id
            finished_R[active[stopped]] = True
            lengths_R[active[stopped]] = step + 1
            going = (~stopped).nonzero()[:, 0]
            if len(going) == 0 or step + 1 == params.max_tokens:
                break
            active = active[going]
            grown, branch = torch.unique(branch[going] * vocab_size + tokens[going], return_inverse=True)
            parents = grown // vocab_size
            if not torch.equal(parents, torch.arange(len(logits), device=self.device)):
                cache.batch_select_indices(parents)
                prefixes = prefixes.of(prefixes.owners[parents])
            logits = self._forward((grown % vocab_size)[:, None], prefixes, cache)[:, -1]
        return _completions(
            ids_RT.cpu().numpy(), logprobs_RT.cpu().numpy(), lengths_R.tolist(), finished_R.tolist(),
            counts.tolist(),
        )  # fmt: skip

    @torch.inference_mode()
    def score(
        self,
        prefixes: Sequence[Ids],
        continuations: Sequence[Sequence[Ids]],
        params: SamplingParams | None = None,
    ) -> list[list[np.ndarray]]:
        """See `protocol.Engine.score`."""
        started = time.monotonic()
        rows = [len(of_prefix) for of_prefix in continuations]
        longest = [max((len(ids) for ids in of_prefix), default=0) for of_prefix in continuations]
        widths = [len(prefix) + width for prefix, width in zip(prefixes, longest, strict=True)]
        self._check_length(max(widths, default=0))
        results: list[list[np.ndarray]] = [[] for _ in prefixes]
        for group in _groups(rows, widths, self.batch_tokens):
            scored = self._score_group(
                [prefixes[i] for i in group], [continuations[i] for i in group], params
            )
            for index, logprobs in zip(group, scored, strict=True):
                results[index] = logprobs
        self.seconds["score"] += time.monotonic() - started
        return results

    def _score_group(
        self, prefixes: list[Ids], continuations: list[Sequence[Ids]], params: SamplingParams | None
    ) -> list[list[np.ndarray]]:
        if not any(len(ids) for of_prefix in continuations for ids in of_prefix):
            return [[np.zeros(0, np.float32) for _ in of_prefix] for of_prefix in continuations]
        prefixes_N = self._prefill(prefixes)
        different = sorted({(i, *ids) for i, of_prefix in enumerate(continuations) for ids in of_prefix})
        owners, targets = [owner for owner, *_ in different], [list(ids) for _, *ids in different]
        width = max(map(len, targets))
        step = max(1, MAX_LOGITS // (width * self.model.config.get_text_config().vocab_size))
        scores: list[np.ndarray] = []
        for start in range(0, len(targets), step):
            rows = slice(start, start + step)
            shared = prefixes_N.of(torch.tensor(owners[rows], device=self.device))
            last = [prefixes[owner][-1] for owner in owners[rows]]
            scores += self._score_rows(last, targets[rows], shared, params)
        found = dict(zip(different, scores, strict=True))
        return [[found[i, *ids] for ids in of_prefix] for i, of_prefix in enumerate(continuations)]

    def _score_rows(
        self, last: list[int], targets: list[list[int]], prefixes: Prefixes, params: SamplingParams | None
    ) -> list[np.ndarray]:
        """Log-probabilities of `targets` after prefixes that end in the tokens `last`."""
        wanted = np.zeros((len(targets), max(1, *map(len, targets))), dtype=np.int64)
        for row, ids in enumerate(targets):
            wanted[row, : len(ids)] = ids
        inputs = np.concatenate([np.array(last)[:, None], wanted[:, :-1]], axis=1)
        span = max(1, MAX_LOGITS // (len(targets) * self.model.config.get_text_config().vocab_size))
        # A row that has too many logits by itself is computed span by span, over the keys of those before.
        cache = DynamicCache() if span < inputs.shape[1] else None
        spans = []
        for start in range(0, inputs.shape[1], span):
            part = slice(start, start + span)
            logits_RTV = self._forward(
                torch.tensor(inputs[:, part], device=self.device), prefixes, cache
            ).float()
            wanted_RT1 = torch.tensor(wanted[:, part], device=self.device)[..., None]
            if params is None:
                logprobs_RT = logits_RTV.gather(-1, wanted_RT1)[..., 0] - logits_RTV.logsumexp(dim=-1)
            else:
                log_q = log_proposal(logits_RTV.flatten(0, 1), params).view_as(logits_RTV)
                logprobs_RT = log_q.gather(-1, wanted_RT1)[..., 0]
            spans.append(logprobs_RT.cpu().numpy())
        logprobs = np.concatenate(spans, axis=1)
        return [logprobs[row, : len(ids)].copy() for row, ids in enumerate(targets)]

    def _prefill(self, prompts: list[Ids]) -> Prefixes:
        """Keys and values of all but the last token of each prompt."""
        nothing = Prefixes.nothing(len(prompts), self.device)
        lengths = np.array([len(prompt) - 1 for prompt in prompts])
        if not lengths.any():
            return nothing
        ids = np.zeros((len(prompts), lengths.max()), dtype=np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, : lengths[row]] = prompt[:-1]
        cache = DynamicCache()
        self._forward(torch.tensor(ids, device=self.device), nothing, cache, logits_to_keep=1)
        return Prefixes.computed(cache, torch.tensor(lengths, device=self.device))

    def _forward(
        self,
        ids: torch.Tensor,
        prefixes: Prefixes,
        cache: DynamicCache | None = None,
        logits_to_keep: int = 0,
    ) -> torch.Tensor:
        """Logits of the rows `ids` [R, T] int64, which go on from their prefixes and what `cache` holds:
        [R, T, V] in the model's dtype, or of the last `logits_to_keep` positions alone."""
        steps = torch.arange(ids.shape[1], device=self.device)
        positions = prefixes.lengths[prefixes.owners, None] + (cache.get_seq_length() if cache else 0) + steps
        return self.model(
            input_ids=ids,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=logits_to_keep,
            prefixes=prefixes,
        ).logits


def _groups(rows: Sequence[int], widths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices batched by width, longest first, each batch within `batch_tokens` padded tokens."""
    group: list[int] = []
    num_rows = 0
    for index in sorted((i for i in range(len(rows)) if rows[i]), key=lambda i: (-widths[i], i)):
        if group and (num_rows + rows[index]) * widths[group[0]] > batch_tokens:
            yield group
            group, num_rows = [], 0
        group.append(index)
        num_rows += rows[index]
    if group:
        yield group


def _completions(
    ids: np.ndarray, logprobs: np.ndarray, lengths: list[int], finished: list[bool], counts: list[int]
) -> list[list[Completion]]:
    results, row = [], 0
    for count in counts:
        results.append(
            [
                Completion(ids[r, : lengths[r]].copy(), logprobs[r, : lengths[r]].copy(), finished[r])
                for r in range(row, row + count)
            ]
        )
        row += count
    return results


def load(config: Config, model_path: Path, dtype: str) -> TorchEngine:
    """The engine as configured."""
    return TorchEngine(model_path, dtype, config.sample.batch_tokens, config.model.trust_remote_code)
