"""What benchmarks say, as lines of a table and in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lt_hpc.report.columns import Shown
from lt_hpc.report.rows import Benchmarked
from lt_hpc.store.figures import Score

TITLES = ("iteration", "task", "figure", "few-shot", "items", "mean of trials", "over trials")
MEANING = (
    "Benchmarks, as lm-evaluation-harness says: in brackets 95% intervals over items and, where there are "
    "several trials, over trials. They show nothing of other training seeds, prompts and examples, nor "
    "whether a model has seen the items in training."
)


def lines(benchmarks: Sequence[Benchmarked]) -> Iterator[list[str | Shown | None]]:
    """Cells below TITLES."""
    for one in benchmarks:
        for score in one.scores:
            figure = score.metric if score.filter == "none" else f"{score.metric}, {score.filter}"
            trials = Shown(score.value, score.trials_interval) if len(score.trials) > 1 else None
            yield [
                str(one.number),
                score.task,
                figure,
                None if score.few_shot is None else str(score.few_shot),
                None if score.items is None else str(score.items),
                Shown(score.value, score.interval),
                trials,
            ]


def score(one: Benchmarked, name: str) -> Score | None:
    """The figure TASK.METRIC or TASK.METRIC.FILTER; None where there is none, or a task has several filters
    and the name none of them."""
    found = [score for score in one.scores if name in _names(score)]
    return found[0] if len(found) == 1 else None


def without_score(one: Benchmarked, name: str) -> str | None:
    """Why there is no such figure, with those of its task; None where there is."""
    if score(one, name) is not None:
        return None
    of_task = [_names(score)[-1] for score in one.scores if name.startswith(f"{score.task}.")]
    return f"{name}: no such figure, or more than one; there are {', '.join(of_task) or 'none of this task'}"


def _names(score: Score) -> tuple[str, str]:
    short = f"{score.task}.{score.metric}"
    return short, f"{short}.{score.filter}"


def cuts(benchmarks: Sequence[Benchmarked]) -> Iterator[str]:
    """Sentences on what did not fit."""
    for one in benchmarks:
        found = [
            f"{_share(one.counts, *names)} {words}"
            for names, words in (
                (("cut_prompts", "prompts"), "prompts lost their oldest tokens (model.context_length)"),
                (("cut_thoughts", "thoughts"), "thoughts were cut (benchmark.max_thought_tokens)"),
                (("cut_answers", "generated"), "answers reached their limit (benchmark.max_answer_tokens)"),
            )
            if one.counts.get(names[0])
        ]
        if found:
            yield f"Benchmarks of iteration {one.number}: {'; '.join(found)}."


def _share(counts: Mapping[str, int], part: str, whole: str) -> str:
    return f"{counts[part]} of {counts[whole]}"
