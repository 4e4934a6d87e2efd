"""The command line: `python -m mbapps [verb] key=value …`, handed to Hydra."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

# Keys whose values are paths: taken literally, so that `IMG (1).jpg` and `a,b.jpg` need no quoting for Hydra.
PATH_KEYS = frozenset({
    "out", "resume", "model", "runtime_file", "calibration", "predictions", "source", "gallery", "faces", "class_names",
    "backbone.weights",
    "data.root", "data.annotations", "data.images", "data.train", "data.val", "data.test", "data.test_ids",
    "data.class_map", "data.pairs", "data.train_people", "data.test_people", "data.landmarks", "data.places",
    "data.partition", "distill.teacher", "distill.weights", "distill.images",
})  # fmt: skip
LIST_KEYS = frozenset(
    {"data.train", "data.val", "data.test", "data.classes", "data.attributes", "task.metric.groups", "remove"}
)  # [a, b] is a list of such values
SWEEP_FLAGS = ("-m", "--multirun")


def rewrite(argv: Sequence[str]) -> list[str]:
    """Turn what a user types into what Hydra reads.

    The first word, if it is bare, is the verb. `resume=R` puts the overrides stored in R first and goes on in R.
    `model=M` chooses the task of that model folder. Values of path keys, and of a list of them, are quoted,
    except in a sweep, where a comma separates jobs. Under torchrun or SLURM the run folder is named after the
    job, not after the time.

    Raises:
        FileNotFoundError: `resume=` names no run folder, or `model=` no model folder.
        ValueError: `task=` or `heads=` contradicts the model folder, or `heads=` itself.

    >>> rewrite(["predict", "source=IMG (1).jpg"])
    ['verb=predict', "source='IMG (1).jpg'"]
    >>> rewrite(["--cfg", "job"])
    ['--cfg', 'job']
    """
    words = list(argv)
    if words and not words[0].startswith("-") and "=" not in words[0]:
        words[0] = f"verb={words[0]}"
    given = {key: _unquote(value) for key, _, value in (word.partition("=") for word in words)}
    verb = given.get("verb", "train")
    if given.get("resume") and verb == "train":
        words = [*_stored(Path(given["resume"]).expanduser()), *words, f"out={given['resume']}"]
    sweep = bool(set(words) & set(SWEEP_FLAGS))
    if given.get("heads"):
        _check_names(given["heads"])
    if given.get("model") and given["model"] != "null":
        model = given["model"].split(",")[0] if sweep else given["model"]
        words += _task_of(Path(model).expanduser(), given, verb)
    elif given.get("heads") and not {"task", "experiment", "resume"} & given.keys():
        words.append("task=multi")
    if sweep:  # the flag first: Hydra's parser takes no overrides on both sides of one
        return ["-m", *(word for word in words if word not in SWEEP_FLAGS)]
    words = [_quoted(word) for word in words]
    job = _launched_job()
    if job and "out" not in given and not given.get("resume"):
        words.append(f"out=runs/${{hydra:runtime.choices.task}}/{job}")
    return words


def _launched_job() -> str | None:
    """Name that all processes of a torchrun or SLURM job share: each would read another time off its clock."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env and int(env.get("WORLD_SIZE", 1)) > 1:
        return f"torchrun_{env['TORCHELASTIC_RUN_ID']}_{env.get('MASTER_PORT', '0')}"
    if int(env.get("SLURM_NTASKS", 1)) > 1 and "SLURM_PROCID" in env:
        return f"slurm_{env['SLURM_JOB_ID']}_{env.get('SLURM_STEP_ID', '0')}"
    return None


def _stored(run: Path) -> list[str]:
    path = run / "overrides.txt"
    if not path.is_file():
        raise FileNotFoundError(f"no run folder at resume={run}: it has no overrides.txt")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("out=")]


def _lists(value: str) -> list[list[str]]:
    """What a list such as "[detection, geo]" names, or each of several that a sweep has: "[detection],[geo]"."""
    return [
        [name.strip() for name in part.split(",") if name.strip()]
        for part in re.findall(r"\[([^\]]*)\]", value) or [value]
    ]


def _check_names(heads: str) -> None:
    for names in _lists(heads):
        if not names:
            raise ValueError(f"heads={heads} names no head; such as heads=[detection,geo]")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"heads={heads} names {twice} twice; each head has a name of its own")


def _task_of(folder: Path, given: Mapping[str, str], verb: str) -> list[str]:
    """Words that choose the task, and of several the heads, of a model folder."""
    task, wanted_heads = given.get("task"), given.get("heads")
    path = folder / "model.json"
    if not path.is_file():
        raise FileNotFoundError(f"no model folder at model={folder}: it has no model.json")
    try:
        heads = list(json.loads(path.read_text(encoding="utf-8"))["heads"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no model description: {error!r}") from None
    if verb == "train":  # heads are added to those that it has
        if task != "multi" and "experiment" not in given:
            raise ValueError(
                f"model={folder} is what task=multi mode=frozen adds heads to; to start from it give "
                f"backbone.weights={folder}"
            )
        return []
    if verb == "album" and not task and not wanted_heads:
        return []  # all heads; what their trainings are set to is not asked, and takes time to compose
    if wanted_heads:
        if missing := [name for names in _lists(wanted_heads) for name in names if name not in heads]:
            raise ValueError(
                f"heads={wanted_heads}: model={folder} has no {' and no '.join(missing)} head, only {', '.join(heads)}"
            )
        return [] if task else ["task=multi"]
    if task and task not in (*heads, "multi"):
        raise ValueError(
            f"task={task} contradicts model={folder}, which holds {', '.join(heads)}; leave task= out"
        )
    chosen = task or (heads[0] if len(heads) == 1 else "multi")
    words = [] if task else [f"task={chosen}"]
    return [*words, f"heads=[{','.join(heads)}]"] if chosen == "multi" else words


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        quote = value[0]
        return value[1:-1].replace(f"\\{quote}", quote)
    return value


def _quoted(word: str) -> str:
    key, equals, value = word.partition("=")
    name = re.sub(r"^heads\.[^.]+\.", "", key.lstrip("+"))  # a head's data have the keys of all data
    if not equals or value in ("", "null", "???") or value[0] in "'\"":
        return word
    if name in LIST_KEYS and value[0] == "[" and value[-1] == "]":
        items = [item.strip() for item in value[1:-1].split(",")]
        if any(item.startswith(("'", '"')) for item in items):
            return word  # quoted by the user
        return f"{key}=[{','.join(_literal(item) for item in items if item)}]"
    return f"{key}={_literal(value)}" if name in PATH_KEYS | LIST_KEYS else word


def _literal(value: str) -> str:
    """Quote for Hydra a value that means just what it says."""
    value = os.path.expanduser(value)  # a shell leaves ~ alone behind a key with a dot
    value = value.replace("\\'", "\\\\'").replace("'", "\\'").replace("${", "\\${")
    return f"'{value}'"


def run(cfg: object) -> None:
    """Call the verb; Hydra has composed the configuration and opened the run folder."""
    import importlib

    verb = importlib.import_module(f"mbapps.verbs.{cfg.verb}")  # type: ignore[attr-defined]
    try:
        verb.run(cfg)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") or set(sys.argv) & set(SWEEP_FLAGS):
            raise  # of a sweep's jobs the others go on; Hydra tells of this one
        _stop(error)


def _stop(error: Exception) -> None:
    print(f"error: {error}", file=sys.stderr)
    if not isinstance(error, FileNotFoundError):
        print("(HYDRA_FULL_ERROR=1 shows where)", file=sys.stderr)
    sys.exit(1)


def main() -> None:
    """Entry of `python -m mbapps` and of the installed `mbapps`."""
    import hydra

    try:
        sys.argv[1:] = rewrite(sys.argv[1:])
    except (ValueError, OSError) as error:
        _stop(error)
    hydra.main(version_base="1.3", config_path="pkg://mbapps.conf", config_name="config")(run)()


if __name__ == "__main__":
    main()
