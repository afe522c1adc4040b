"""lt-hpc doctor as a user types it, where no Slurm is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lt_hpc.doctor import surroundings
from lt_hpc.doctor.__main__ import main


def doctor(capsys: Any, *arguments: str) -> tuple[int, list[dict[str, str]]]:
    """Exit code and rows."""
    code = main(["--cluster", "local", "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


def test_on_one_machine_it_looks_at_what_is_there_and_creates_nothing(tmp_path: Path, capsys: Any) -> None:
    code, rows = doctor(capsys, "--run-dir", str(tmp_path / "run"))
    assert code == 0 and {row["group"] for row in rows} >= {"environment", "files", "hub"}
    assert list(tmp_path.iterdir()) == []


def test_what_launch_would_refuse_is_a_row_and_the_exit_code(tmp_path: Path, capsys: Any) -> None:
    code, rows = doctor(capsys, "--run-dir", str(tmp_path / "run"), "model.path=nowhere")
    (row,) = [row for row in rows if row["verdict"] == "refused"]
    assert code == 2 and "no such folder" in row["found"]


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, capsys: Any) -> None:
    run = tmp_path / "run"
    run.mkdir()
    run.chmod(0o777)
    code, rows = doctor(capsys, "--run-dir", str(run))
    (row,) = [row for row in rows if row["verdict"] == "refused"]
    assert code == 2 and "everybody can write" in row["found"] and "chmod" in row["change"]


def test_a_key_that_is_missing_is_refused(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    teacher = ("teacher.kind=openai", "teacher.model=some")
    code, rows = doctor(capsys, "--run-dir", str(tmp_path / "run"), *teacher)
    assert code == 2
    assert any("OPENAI_API_KEY" in row["found"] for row in rows if row["verdict"] == "refused")


def test_names_of_the_hub_are_looked_for_in_its_cache(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    arguments = ("--run-dir", str(tmp_path / "run"), "model.path=someone/model")

    def verdict(*more: str) -> tuple[str, str]:
        (row,) = [row for row in doctor(capsys, *arguments, *more)[1] if row["what"] == "model.path"]
        return row["verdict"], row["change"].partition(",")[0]

    assert verdict() == ("warning", "lt-hpc prefetch")
    offline = "slurm.setup=[export HF_HUB_OFFLINE=1]"
    assert verdict(offline) == ("refused", "lt-hpc prefetch")
    (tmp_path / "models--someone--model" / "snapshots" / "abc").mkdir(parents=True)
    assert verdict(offline) == ("ok", "")


def test_a_hub_data_set_is_refused_where_jobs_are_offline(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sentences = ("chunking.mode=sentences", "corpus.num_documents=10", "corpus.source=someone/texts")
    code, rows = doctor(capsys, "--run-dir", str(tmp_path / "run"), *sentences)
    (row,) = [row for row in rows if row["what"] == "corpus.source" and row["verdict"] == "refused"]
    assert code == 2 and row["change"].startswith("corpus.source=")


def test_gpus_are_refused_with_a_torch_for_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    from lt_hpc.config.load import demo_file, load_config

    config = load_config(demo_file(), ["slurm.train.gpus_per_node=1", "slurm.train.tasks_per_node=1"])

    def cuda(version: str | None) -> str:
        monkeypatch.setattr(surroundings, "built_for", lambda: version)
        (row,) = [row for row in surroundings.rows(config, on_slurm=True) if row.what == "CUDA"]
        return row.verdict

    assert cuda(None) == "refused"
    assert cuda("12.8") == "ok"


def test_a_version_that_was_not_tested_or_does_not_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from lt_hpc.config.load import demo_file, load_config

    versions = {"torch": "2.13.0", "transformers": "5.17.0", "deepspeed": "0.18.0", "submitit": "1.5.4"}
    monkeypatch.setattr(surroundings, "installed_version", versions.get)
    rows = {row.what: row for row in surroundings.rows(load_config(demo_file(), []), on_slurm=False)}
    assert rows["transformers"].verdict == "warning" and "tested with" in rows["transformers"].found
    assert rows["deepspeed"].verdict == "refused" and "0.18.0" in rows["deepspeed"].found
    assert "torch 2.13.0" in rows["packages"].found
