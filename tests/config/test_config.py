"""A mistake in the settings is one message that names the field and what would be valid."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_type_hints

import pytest

from lt_hpc.config.checks import missing_engine
from lt_hpc.config.fields import declared, section_of
from lt_hpc.config.identity import identity_of
from lt_hpc.config.load import config_from_dict, config_to_yaml, demo_file, load_config
from lt_hpc.config.schema import Config
from lt_hpc.errors import ConfigError


def refused(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(demo_file(), list(overrides))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("override", "named"),
    [
        # no such field: the fields that there are
        ("sample.kk=3", ["'sample.kk'", "num_samples", "temperature", "batch_tokens"]),
        ("slurm.train.node=2", ["'slurm.train.node'", "nodes", "gpus_per_node"]),
        ("samples.k=3", ["'samples'", "sample", "train", "evaluate"]),
        ("sed=1", ["'sed'", "seed", "objective"]),
        ("sample=3", ["sample='3'", "mapping", "num_samples"]),
        # not a value at all
        ("sample.num_samples=[1", ["sample.num_samples=[1", "not YAML"]),
        ("seed=???", ["seed", "Missing mandatory value"]),
        ("sample.temperature=nan", ["sample.temperature", "finite"]),
        ("train.epochs=inf", ["train.epochs", "finite"]),
        ("train.beta2=1", ["train.beta2=1", "at most"]),
        ("corpus.num_documents=0", ["corpus.num_documents=0", "at least 1"]),
        # another type
        ("sample.num_samples=many", ["sample.num_samples", "'many'", "integer"]),
        ("sample.num_samples=1.5", ["sample.num_samples", "1.5", "integer"]),
        ("sample.num_samples=null", ["sample.num_samples=null", "integer"]),
        ("model.resize_embeddings=maybe", ["model.resize_embeddings", "maybe", "true or false"]),
        ("train.learning_rate=high", ["train.learning_rate", "high", "number"]),
        # out of range
        ("sample.num_samples=0", ["sample.num_samples=0", "at least 1"]),
        ("evaluate.num_samples=-1", ["evaluate.num_samples=-1", "at least 1"]),
        ("sample.temperature=0", ["sample.temperature=0", "at least 0.01"]),
        ("sample.temperature=1e-300", ["sample.temperature=1e-300", "at least 0.01"]),
        ("seed=-1", ["seed=-1", "at least 0"]),
        ("heldout.seed=-1", ["heldout.seed=-1", "at least 0"]),
        ("sample.num_samples=1000000000", ["sample.num_samples=1000000000", "at most"]),
        ("merge.num_selected=1000000000", ["merge.num_selected", "at most"]),
        ("local.train_ranks=100000", ["local.train_ranks=100000", "at most"]),
        ("train.steps=" + "1" * 400, ["train.steps=", "..."]),
        ("seed=010", ["seed='010'", "integer, in decimal digits"]),
        ("train.steps=2:00", ["train.steps='2:00'", "integer"]),
        ("model.resize_embeddings=on", ["model.resize_embeddings='on'", "true or false"]),
        # junk where text belongs
        ("slurm.options={a: {b: 1}}", ["slurm.options.a", "must be text"]),
        ("slurm.options={gres={gpu:4}}", ["not YAML"]),
        ("slurm.options=[a]", ["slurm.options", "mapping"]),
        ("slurm.setup={a: 1}", ["slurm.setup", "list"]),
        ("slurm.setup=[[a]]", ["slurm.setup[0]", "must be text"]),
        ("slurm.setup[0]=1", ["slurm.setup[0]", "setup"]),
        ("slurm.setup=module load cuda", ["slurm.setup", "list"]),
        ("train.trackers={a: b}", ["train.trackers", "list"]),
        ("warm_start.trackers=[[x]]", ["warm_start.trackers[0]", "choose one of"]),
        ("name=null", ["name=null", "quotes"]),
        ("name=a\nb", ["name='a\\nb'", "line breaks"]),
        ("name=caf\udce9", ["name=", "UTF-8"]),
        ("corpus.source=" + "x" * 5000, ["corpus.source", "at most 4096 characters"]),
        # a run's folder is runs/NAME
        ("name=", ["name=''", "folder"]),
        ("name=../../x", ["name='../../x'", "folder"]),
        ("name=/root/x", ["name='/root/x'", "folder"]),
        ("name=" + "x" * 300, ["name=", "folder"]),
        ("slurm.options={job_name: mine}", ["slurm.options.job_name", "launch sets this itself"]),
        ("slurm.train.options={array: 0-9}", ["slurm.train.options.array", "launch sets this itself"]),
        ("slurm.options={time: 5}", ["slurm.options.time", "use the field minutes"]),
        ("slurm.options={signal: 'B:TERM@10'}", ["slurm.options.signal", "slurm.signal_seconds"]),
        ("sample.top_p=1.01", ["sample.top_p=1.01", "greater than 0 and at most 1"]),
        ("sample.top_p=0", ["sample.top_p=0", "greater than 0"]),
        ("sample.top_k=-1", ["sample.top_k=-1", "at least 0"]),
        ("train.zero_stage=4", ["train.zero_stage=4", "at most 3"]),
        ("train.epochs=0", ["train.epochs=0", "greater than 0"]),
        ("warm_start.steps=0", ["warm_start.steps=0", "at least 1"]),
        ("corpus.num_documents=-1", ["corpus.num_documents=-1", "at least 1"]),
        ("slurm.train.nodes=0", ["slurm.train.nodes=0", "at least 1"]),
        # a closed set
        ("objective=vae", ["objective='vae'", "em, raw, warm"]),
        ("chunking.mode=words", ["chunking.mode='words'", "sentences, given"]),
        ("merge.method=best", ["merge.method='best'", "multinomial, systematic, argmax"]),
        ("merge.unfinished=keep", ["merge.unfinished='keep'", "raw, drop"]),
        ("train.schedule=linear", ["train.schedule='linear'", "cosine, wsd"]),
        ("train.dtype=float16", ["train.dtype='float16'", "float32, bfloat16"]),
        ("sample.dtype=float64", ["sample.dtype='float64'", "float32, bfloat16, float16"]),
        ("train.start=last", ["train.start='last'", "base, previous"]),
        ("warm_start.start=previous", ["warm_start.start='previous'", "base"]),
        ("train.trackers=[mlflow]", ["train.trackers", "mlflow", "tensorboard, wandb"]),
        ("heldout.fresh=true", ["heldout.fresh=true", "corpus"]),
        ("train.log_steps=0", ["train.log_steps=0", "at least 1"]),
        # the form of an override
        ("seed", ["'seed'", "key=value"]),
        ("=3", ["'=3'", "key=value"]),
        ("name=${nothing}", ["nothing"]),
    ],
)
def test_a_wrong_value_is_named_with_its_field_and_what_is_valid(override: str, named: list[str]) -> None:
    message = refused(override)
    for word in named:
        assert word in message


def test_values_that_do_not_fit_together_are_both_named() -> None:
    message = refused("chunking.min_sentences=9", "chunking.max_sentences=3")
    assert "chunking.min_sentences=9" in message and "chunking.max_sentences=3" in message
    assert "at least model.context_length=128" in refused("train.row_tokens=64")
    assert "multiple of train.row_tokens=300" in refused("train.row_tokens=300")
    message = refused("train.raw_loss_weight=0.5")
    assert "train.raw_loss_weight=0.5" in message and "train.prefixes=shared" in message
    raw = ["train.raw_loss_weight=0.5", "train.prefixes=shared", "objective=raw"]
    assert "train.raw_loss_weight=0.5: objective=raw" in refused(*raw)
    message = refused("chunking.prefix_chunks=2", "chunking.prefix_stride=4")
    assert "chunking.prefix_stride=4" in message and "chunking.prefix_chunks + 1 = 3" in message
    message = refused("train.batch_tokens=1000")
    assert "train.batch_tokens=1000" in message and "model.context_length=128" in message
    assert "warm_start.batch_tokens=64" in refused("warm_start.batch_tokens=64")


def test_an_allocation_that_could_share_out_nothing_is_refused() -> None:
    message = refused("sample.allocation=ess", "corpus.fresh=true")
    assert "sample.allocation=ess" in message and "corpus.fresh=true" in message
    assert "sample.num_samples=1" in refused("sample.allocation=ess", "sample.num_samples=1")


@pytest.mark.parametrize("other", ["corpus.fresh=true", "sample.engine=vllm", "sample.prior_share=0"])
def test_reuse_is_refused_where_it_can_not_be_exact(other: str) -> None:
    message = refused("sample.reuse=1", other if not other.endswith("=0") else "sample.prior_share=0.5")
    assert "sample.reuse=1" in message and other in message


def test_the_longest_chunk_and_thought_must_fit_the_context() -> None:
    # 128 - 24 - 5 markers
    assert load_config(demo_file(), ["chunking.max_chunk_tokens=99"]).chunking.max_chunk_tokens == 99
    message = refused("chunking.max_chunk_tokens=100")
    for word in (
        "chunking.max_chunk_tokens=100", "sample.max_thought_tokens=24", "at most 99", "context_length=128",
    ):  # fmt: skip
        assert word in message


def test_without_zero_gradients_are_not_added_up_in_16_bits() -> None:
    message = refused("train.zero_stage=0", "train.dtype=bfloat16")
    assert "train.zero_stage=0" in message and "1, 2 or 3" in message
    assert load_config(demo_file(), ["train.zero_stage=0"]).train.zero_stage == 0


def test_fresh_documents_need_their_number() -> None:
    assert "corpus.num_documents" in refused("corpus.fresh=true", "corpus.num_documents=null")


def test_a_tracker_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = refused("train.trackers=[wandb]")
    assert "train.trackers" in message and "pip install wandb" in message


@pytest.mark.parametrize("section", ["corpus", "warm", "heldout"])
def test_questions_and_answers_need_their_columns(section: str) -> None:
    assert f"{section}.question_column" in refused(f"{section}.source=texts.jsonl")
    message = refused(f"{section}.source=texts.jsonl", f"{section}.question_column=q")
    assert f"{section}.answer_column" in message and "chunking.mode=given" in message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sample: [1\nseed: 2\n", ["not YAML"]),
        ("seed: 1\nseed: 2\n", ["not YAML"]),
        ("- seed\n", ["mapping"]),
        ("sample: {kk: 3}\n", ["'sample.kk'", "num_samples"]),
        ("sample: {num_samples: many}\n", ["sample.num_samples", "many"]),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, named: list[str]) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    for wrong in ({"file": file}, {"file": demo_file(), "profile": file}):
        with pytest.raises(ConfigError) as caught:
            load_config(**wrong)
        message = str(caught.value)
        assert "\n" not in message
        for word in [*named, "wrong.yaml"]:
            assert word in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for missing in (tmp_path / "nowhere.yaml", tmp_path):
        with pytest.raises(ConfigError, match=r"no such file"):
            load_config(missing)
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
        load_config(demo_file(), profile=tmp_path / "nowhere.yaml")


def test_an_override_wins_over_the_profile_and_the_profile_over_the_file(tmp_path: Path) -> None:
    profile = tmp_path / "site.yaml"
    profile.write_text("slurm: {partition: long}\nseed: 5\nsample: {num_shards: 77}\n")
    config = load_config(demo_file(), ["seed=6", "slurm.train.nodes=4"], profile)
    assert (config.slurm.partition, config.seed, config.sample.num_shards) == ("long", 6, 77)
    assert (config.slurm.train.nodes, config.sample.num_samples) == (4, 16)


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")), ids=lambda p: p.name
)
def test_the_shipped_files_are_valid_and_read_back_the_same(tmp_path: Path, file: Path) -> None:
    config = load_config(
        file, ["slurm.options={reservation: 'a: b'}", "name='1e3'", "slurm.setup=['module x # y']"]
    )
    assert config.name == "1e3" and config.slurm.options == {"reservation": "a: b"}
    (tmp_path / "again.yaml").write_text(config_to_yaml(config))
    assert load_config(tmp_path / "again.yaml") == config
    assert config_from_dict(dataclasses.asdict(config)) == config


def test_identity_is_all_but_what_says_how_it_runs() -> None:
    config = load_config(demo_file())
    train = identity_of(config.train)
    every = {field.name for field in dataclasses.fields(config.train)}
    assert every - set(train) == {
        "zero_stage", "micro_batch_rows", "checkpoint_seconds", "checkpoint_steps", "keep_checkpoints",
        "activation_checkpointing", "float32_reduction", "log_steps", "trackers", "raw_share", "prefixes",
        "raw_loss_weight", "row_tokens",
    }  # fmt: skip
    assert set(identity_of(config.local)) == set()
    assert "num_shards" not in identity_of(config.sample)
    assert identity_of(config.sample)["num_samples"] == 16
    assert "name" not in identity_of(config)
    assert identity_of(config)["train"] == train


def unbounded(section: type, parent: str = "") -> set[str]:
    """The numbers below a section that may have every value."""
    found: set[str] = set()
    hints = get_type_hints(section)
    for item in dataclasses.fields(section):
        if section_of(item):
            found |= unbounded(section_of(item), f"{parent}{item.name}.")
        elif hints[item.name] in (int, float, int | None, float | None) and not declared(item).bound:
            found.add(f"{parent}{item.name}")
    return found


def test_every_number_has_bounds() -> None:
    assert unbounded(Config) == set()


def test_a_closed_set_is_named_the_same_wherever_the_value_stands(tmp_path: Path) -> None:
    expected = "merge.method='best': choose one of multinomial, systematic, argmax, uniform"
    assert refused("merge.method=best") == expected
    file = tmp_path / "wrong.yaml"
    file.write_text("merge: {method: best}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert str(caught.value) == f"{file}: {expected}"
    values = dataclasses.asdict(Config())
    values["merge"]["method"] = "best"
    with pytest.raises(ConfigError) as caught:
        config_from_dict(values)
    assert str(caught.value) == expected and caught.value.exit_code == 2


def test_an_engine_takes_as_many_gpus_as_it_is_parallel() -> None:
    for engine, expected in (("torch", 1), ("vllm", 4)):
        overrides = [f"sample.engine={engine}", "sample.vllm.tensor_parallel_size=4"]
        assert load_config(demo_file(), overrides).sample.devices_per_engine == expected


def test_an_engine_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    torch, vllm = (load_config(demo_file(), [f"sample.engine={name}"]) for name in ("torch", "vllm"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert missing_engine(torch) is None
    message = missing_engine(vllm)
    assert message and "sample.engine=vllm" in message and "tools/setup.sh vllm" in message
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert missing_engine(vllm) is None


@pytest.mark.parametrize("content", [b"7", b"\xff\xfename: x"])
def test_a_file_that_is_no_settings_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "settings.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"settings\.yaml"):
        load_config(file)


def test_a_plan_of_another_version_is_refused_by_its_field() -> None:
    values = dataclasses.asdict(load_config(demo_file()))
    values["sample"]["a_later_field"] = 1
    with pytest.raises(ConfigError, match=r"sample\.a_later_field"):
        config_from_dict(values)


AS_TYPED = [
    "0012345", "30:00", "12:00:00", "on", "no", "1e3", "007", "2024_01", "12e4567", "0123456", "a #b", "0x1F",
    "1_000", "2024-01-01", ".inf", "True", "a: b", "x=y", "B:USR1@60", "100%", "*.py", "@node", "-5", "a\\b",
]  # fmt: skip


@pytest.mark.parametrize("text", AS_TYPED)
def test_text_stays_what_was_typed(tmp_path: Path, text: str) -> None:
    """In overrides, in files, in profiles, and read back from what a run keeps."""
    overrides = [f"slurm.account={text}", f"slurm.options.begin={text}", f"corpus.text_column={text}"]
    written = f"'{text}'" if text in {"a #b", "a: b", "*.py", "@node"} else text  # YAML's own marks
    file = tmp_path / "site.yaml"
    file.write_text(
        f"slurm:\n  account: {written}\n  options:\n    begin: {written}\ncorpus:\n  text_column: {written}\n"
    )
    for config in (load_config(demo_file(), overrides), load_config(demo_file(), profile=file)):
        assert config.slurm.account == config.slurm.options["begin"] == config.corpus.text_column == text
        (tmp_path / "again.yaml").write_text(config_to_yaml(config))
        assert load_config(tmp_path / "again.yaml") == config_from_dict(dataclasses.asdict(config)) == config


def test_nothing_and_null_are_null_where_there_may_be_none() -> None:
    for word in ("null", "~", "", "Null"):
        assert load_config(demo_file(), [f"slurm.partition={word}"]).slurm.partition is None
    assert load_config(demo_file(), ["slurm.partition='null'"]).slurm.partition == "null"


def test_interpolations_are_omegaconfs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LT_ACCOUNT", "0042")
    config = load_config(
        demo_file(),
        [
            "slurm.account=${oc.env:LT_ACCOUNT}", "slurm.qos=${oc.env:LT_NONE,null}", "corpus.seed=${seed}",
            "slurm.setup=['export A=\\${HOME}/$USER']", "seed=5", "slurm.partition=x-${model.context_length}",
        ],
    )  # fmt: skip
    assert (config.slurm.account, config.slurm.qos, config.corpus.seed) == ("0042", None, 5)
    assert config.slurm.partition == "x-128" and config.slurm.setup == ["export A=${HOME}/$USER"]
    (tmp_path / "again.yaml").write_text(config_to_yaml(config))
    assert load_config(tmp_path / "again.yaml") == config_from_dict(dataclasses.asdict(config)) == config
    assert "slurm.setup" in refused("slurm.setup=['export A=${HOME}']")


def test_a_file_of_aliases_of_aliases_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (tmp_path / "many.yaml").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"many\.yaml: more than"):
        load_config(tmp_path / "many.yaml")
    (tmp_path / "itself.yaml").write_text("slurm: &s {options: *s}")
    with pytest.raises(ConfigError, match=r"itself\.yaml"):
        load_config(tmp_path / "itself.yaml")


SECRETS = [
    "export HF_TOKEN=abcdefgh12345678", "hf_abcdefghijklmnopqrstuvwxyz",
    "export WANDB_API_KEY=0123456789abcdef", "ghp_abcdefghijklmnopqrstuvwxyz012345",
    "https://me:geheim123@example.org/x", "sk-proj-abcdefghijklmnop0123",
    "--password hunter2hunter2hunter2", "AKIAABCDEFGHIJKLMNOP",
]  # fmt: skip
FREE_TEXT = [
    "slurm.setup=['{}']", "slurm.srun_options=['{}']", "slurm.options={{comment: '{}'}}", "corpus.source={}",
    "slurm.account={}", "model.path={}", "slurm.train.options={{a: '{}'}}",
]  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_refused_in_every_text_and_not_repeated(secret: str) -> None:
    for override in FREE_TEXT:
        assert "looks like a secret" in refused(override.format(secret))
    words = [word for word in secret.replace("=", " ").replace(":", " ").split() if len(word) > 15]
    for wrong in (f"seed={secret}", f"sed={secret}", f"objective={secret}", secret):
        message = refused(wrong)
        assert not any(word in message for word in words)


@pytest.mark.parametrize(
    "text",
    [
        "export HF_TOKEN=$HF_TOKEN", "export HF_TOKEN=$(cat ~/.hf)", "source ~/.secrets",
        "export HF_TOKEN_PATH=/a/b", "export TOKENIZERS_PARALLELISM=false", "export API_KEY_FILE=key.txt",
    ],
)  # fmt: skip
def test_where_a_secret_is_may_be_said(text: str) -> None:
    assert load_config(demo_file(), [f"slurm.setup=['{text}']"]).slurm.setup == [text]
