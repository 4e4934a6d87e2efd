from __future__ import annotations

import json
from pathlib import Path

import pytest

from mbapps.__main__ import rewrite


def model_folder(folder: Path, *heads: str) -> Path:
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps({"format": 1, "body": {}, "heads": dict.fromkeys(heads)}))
    return folder


def test_the_first_bare_word_is_the_verb() -> None:
    assert rewrite(["eval", "task=detection"]) == ["verb=eval", "task=detection"]
    assert rewrite(["task=detection", "backbone.alpha=0.5"]) == ["task=detection", "backbone.alpha=0.5"]
    assert rewrite([]) == []


def test_only_the_first_word_is_looked_at() -> None:
    assert rewrite(["--cfg", "job"]) == ["--cfg", "job"]
    assert rewrite(["--config-dir", "conf", "task=mine"]) == ["--config-dir", "conf", "task=mine"]


@pytest.mark.parametrize(
    "path", ["IMG (1).jpg", "a,b.jpg", "x=y.jpg", "Günter's/${home}.png", "back\\slash", "{a}[b]"]
)
def test_paths_come_through_hydra_as_typed(path: str) -> None:
    from hydra import compose, initialize_config_module

    words = rewrite(["predict", f"source={path}", "verb.trust=null"])[1:2]
    with initialize_config_module("mbapps.conf", version_base="1.3"):
        cfg = compose("config", overrides=["verb=predict", *words])
    assert cfg.source == path


def test_lists_come_through_hydra_as_typed() -> None:
    from hydra import compose, initialize_config_module

    words = ["data.train=[train2014, my (1).json,Günter's/b.json]", "data.classes=[traffic light,no,1,null]"]
    with initialize_config_module("mbapps.conf", version_base="1.3"):
        cfg = compose("config", overrides=rewrite([*words, "data.val=a[1].json", "data.test=['a,b.json']"]))
    assert cfg.data.train == ["train2014", "my (1).json", "Günter's/b.json"]
    assert cfg.data.classes == ["traffic light", "no", "1", "null"]
    words = ["task=face_attr", "data.attributes=[male,age>=30,age < 60]", "task.metric.groups=[male, age<30]"]
    with initialize_config_module("mbapps.conf", version_base="1.3"):
        faces = compose("config", overrides=rewrite(words))
    assert faces.data.attributes == ["male", "age>=30", "age < 60"]
    assert faces.task.metric.groups == ["male", "age<30"]
    assert (cfg.data.val, cfg.data.test) == ("a[1].json", ["a,b.json"])


def test_quoted_and_empty_values_stay() -> None:
    words = ["data.root=null", "out=", "source='a b'", 'model.x="y"', "+data.root=a b"]
    assert rewrite(words) == [*words[:4], "+data.root='a b'"]


def test_sweeps_keep_their_commas() -> None:
    assert rewrite(["-m", "backbone.weights=a,b"]) == ["-m", "backbone.weights=a,b"]
    assert rewrite(["info", "--multirun", "seed=1,2"]) == ["-m", "verb=info", "seed=1,2"]


def test_model_chooses_the_task(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", "detection")
    assert rewrite(["eval", f"model={folder}"]) == ["verb=eval", f"model='{folder}'", "task=detection"]
    assert rewrite(["eval", f"model='{folder}'", "task=detection"])[-1] == "task=detection"
    several = model_folder(tmp_path / "several", "detection", "geo")
    assert rewrite(["eval", f"model={several}"])[-2:] == ["task=multi", "heads=[detection,geo]"]
    assert rewrite(["eval", f"model={several}", "heads=[geo]"])[-2:] == ["heads=[geo]", "task=multi"]
    assert rewrite(["eval", f"model={several}", "task=geo"])[-1] == "task=geo"
    assert rewrite(["train", "task=multi", "mode=frozen", f"model={folder}"])[-1] == f"model='{folder}'"
    assert rewrite(["album", f"model={several}"]) == ["verb=album", f"model='{several}'"]  # all heads
    assert rewrite(["album", f"model={several}", "heads=[geo]"])[-2:] == ["heads=[geo]", "task=multi"]


def test_a_head_that_the_model_lacks(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", "detection", "geo")
    with pytest.raises(
        ValueError, match=r"heads=\[geo,face_attr\]: model=.* has no face_attr head, only detection, geo"
    ):
        rewrite(["predict", f"model={folder}", "heads=[geo,face_attr]"])


def test_one_head_does_not_start_from_a_model(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", "detection")
    with pytest.raises(
        ValueError, match=r"is what task=multi mode=frozen adds heads to; .*give backbone\.weights="
    ):
        rewrite(["train", "task=geo", f"model={folder}"])


def test_two_heads_of_one_name() -> None:
    with pytest.raises(
        ValueError, match=r"heads=\[geo, geo\] names geo twice; each head has a name of its own"
    ):
        rewrite(["train", "task=multi", "heads=[geo, geo]"])


def test_no_head_at_all() -> None:
    with pytest.raises(ValueError, match=r"heads=\[\] names no head; such as heads=\[detection,geo\]"):
        rewrite(["train", "task=multi", "heads=[]"])


def test_paths_of_a_head_are_quoted() -> None:
    assert rewrite(["heads.geo.data.root=IMG (1)"]) == ["heads.geo.data.root='IMG (1)'"]


def test_a_contradicting_task(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", "detection")
    with pytest.raises(ValueError, match="task=geo contradicts model=.*which holds detection"):
        rewrite(["eval", f"model={folder}", "task=geo"])


def test_no_model_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no model folder at model=.*: it has no model\.json"):
        rewrite(["eval", f"model={tmp_path}"])
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(ValueError, match="is no model description"):
        rewrite(["eval", f"model={tmp_path}"])


def test_resume_puts_the_stored_overrides_first(tmp_path: Path) -> None:
    (tmp_path / "overrides.txt").write_text("task=detection\nout=elsewhere\nbackbone.alpha=0.5\n")
    words = rewrite([f"resume={tmp_path}", "trainer.max_epochs=9"])
    run = f"'{tmp_path}'"
    assert words == [
        "task=detection", "backbone.alpha=0.5", f"resume={run}", "trainer.max_epochs=9", f"out={run}",
    ]  # fmt: skip


def test_resume_of_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run folder at resume=.*: it has no overrides\.txt"):
        rewrite([f"resume={tmp_path}"])


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ({"TORCHELASTIC_RUN_ID": "r1", "WORLD_SIZE": "2", "MASTER_PORT": "29511"}, "torchrun_r1_29511"),
        (
            {"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "1"},
            "slurm_77_1",
        ),
    ],
)
def test_processes_of_a_launcher_name_one_run_folder(
    env: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    assert rewrite(["train", "task=detection"])[-1] == f"out=runs/${{hydra:runtime.choices.task}}/{name}"
    assert rewrite(["train", "out=mine"]) == ["verb=train", "out='mine'"]


def test_one_process_of_a_launcher_is_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert rewrite(["task=detection"]) == ["task=detection"]


def test_heads_choose_the_task_of_several() -> None:
    assert rewrite(["heads=[geo,face_attr]"]) == ["heads=[geo,face_attr]", "task=multi"]
    assert rewrite(["experiment=five", "heads=[geo]"]) == ["experiment=five", "heads=[geo]"]


def test_a_sweep_over_heads_is_checked_list_by_list(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text('{"heads": {"geo": {}, "face_attr": {}}}')
    words = rewrite(["eval", "-m", f"model={tmp_path}", "heads=[geo],[face_attr]"])
    assert "heads=[geo],[face_attr]" in words
    assert "task=multi" in words
    with pytest.raises(ValueError, match="has no detection head, only geo, face_attr"):
        rewrite(["eval", "-m", f"model={tmp_path}", "heads=[geo],[detection]"])
