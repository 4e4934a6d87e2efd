"""CARD.md of a model folder: what it is, how good it is, where it comes from, what it is not for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mbapps.files import replacing
from mbapps.place_card import places_section
from mbapps.sections import format_value

MAX_CLASSES = 30  # listed in full; the rest is counted and stands in model.json

ANSWERS = {
    "detection": "boxes (xyxy, in pixels of the image as given), each with a class and a score",
    "fine_grained": "the most probable classes with their probabilities",
    "face_attr": "the attributes of a cropped face with their probabilities",
    "geo": "latitude and longitude in degrees with a probability, a radius in km and the likeliest cells",
    "face_embed": "a vector per cropped face; close vectors mean like faces",
}

LIMITS = {
    "detection": (
        "For finding objects of the classes above in photographs like those it was trained on. It knows no "
        "other classes, and gives the nearest of its own or nothing for them. Small objects are its weak "
        "side: at the input size above, a few pixels are all that is left of them. Thresholds were chosen "
        "on validation images, or are a plain 0.5 in a converted model; other cameras, light or places need "
        "their own. Where a missed or invented "
        "box can harm somebody, as in traffic, medicine or surveillance, do not use it without a "
        "validation of your own."
    ),
    "fine_grained": (
        "For telling apart the classes above in pictures that show one of them, large and clear. It always "
        "answers with one of its classes, also for a picture of something else, and its probabilities are "
        "not calibrated for such pictures. Classes that look alike to people are mixed up more often than "
        "the mean tells. Where a mistake can harm, as in judging what is edible or poisonous, do not use "
        "it without a validation of your own."
    ),
    "face_attr": (
        "For sorting and describing photographs whose subjects agreed to it. Attributes are guesses about "
        "how a face looks in one picture, made by the habits of those who labelled the training data; they "
        "say nothing about who a person is. **Do not use it to decide about people**: not for hiring, "
        "credit, policing, border control, access or pricing, and not to infer gender identity, origin, "
        "health, character or emotion. Accuracy differs between groups of people, light and poses: where "
        "groups were named in training, `model.json` has the numbers of each; measure it on the people "
        "concerned before any use. Thresholds were chosen for the best F1 on validation images, or are a plain "
        "0.5; other cameras and other people need their own. In many countries faces are protected biometric data "
        "and consent is required by law."
    ),
    "geo": (
        "The task exists for organising one's own photographs, for research on how much a photograph gives away, and "
        "as one hint among others where a picture's origin is checked. The answer is a guess: most errors are of "
        "tens to thousands of kilometres, places that few people photograph are the worst, and pictures taken "
        "indoors or of nowhere get an answer all the same. **Do not use it to find, follow or expose people**, nor "
        "as evidence of where somebody was, nor as the only ground of any decision. A photograph's location can be "
        "private even where the photograph is public: ask those whom it shows."
    ),
    "face_embed": (
        "For grouping and searching photographs whose subjects agreed to it. The vectors are biometric "
        "data of the people shown: store them as carefully as passwords, and delete them on request. **Do "
        "not use it to identify or follow people without their consent**, for mass surveillance, or as the "
        "only ground of any decision about a person. False matches are certain in large galleries, and "
        "their rate differs between groups of people; choose the threshold on the people concerned. In "
        "many countries the law forbids or restricts such use."
    ),
}  # fmt: skip
OTHER_LIMITS = (
    "For images and classes like those it was trained on, and for nothing that can harm somebody without a "
    "validation of your own."
)


def write_card(path: str | Path, model: Mapping[str, Any]) -> Path:
    """Write the card of a model from the facts that stand in its model.json."""
    heads: Mapping[str, Mapping[str, Any]] = model["heads"]
    parts = [_opening(model, heads)]
    for name, head in heads.items():
        mark = f" ({name})" if len(heads) > 1 else ""
        parts += [_numbers(head, mark), _decision(head, mark)]
        if head.get("class") == "GeoHead":
            parts.append(places_section(head, model.get("lineage") or {}, mark))
        else:
            parts.append(_classes(head, mark))
    parts += [_input(heads), _exports(model), _origin(model), _limits(heads), _usage()]
    path = Path(path)
    with replacing(path) as temporary:
        temporary.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return path


def _opening(model: Mapping[str, Any], heads: Mapping[str, Mapping[str, Any]]) -> str:
    names = ", ".join(heads)
    body = model["body"]
    alpha = body.get("alpha", "unknown")
    title, kind = f"MobileNet {alpha}", f"A MobileNet V1 body of width {alpha}"
    if "architecture" in body:
        title, kind = (
            _text(body["architecture"]),
            f"A teacher: {_text(body['architecture'])}, without its classifier,",
        )
    params, macs = (format_value(key, model.get(key)) for key in ("params", "macs"))
    count = "a head" if len(heads) == 1 else f"{len(heads)} heads"
    passes = ""
    if "passes" in model:
        norms = ", each head with norms of its own in it" if model.get("norm") == "per_task" else ""
        times = "once" if model["passes"] == 1 else f"{model['passes']} times"
        passes = f" An image runs through the body {times} for all heads{norms}."
        if again := model.get("face_passes"):
            passes = (
                f" A photo runs through the body {times}{norms}, and each face in it "
                f"{'once' if again == 1 else f'{again} times'}; the mult-adds are those of a photo with one face."
            )
    return (
        f"# {title}: {_text(names)}\n\n"
        f"{kind} with {count} for {_text(names)}: {params} parameters, {macs} "
        f"mult-adds.{passes} Written by mbapps {_text(model.get('version', 'unknown'))}; `model.json` says the same "
        "to programs."
    )


def _numbers(head: Mapping[str, Any], mark: str) -> str:
    metrics = {name: value for name, value in head.get("metrics", {}).items() if "/" not in name}
    if not metrics:
        return f"## Numbers{mark}\n\nNone were measured."
    names = dict.fromkeys(name.removeprefix("val_") for name in metrics)
    rows = [(name, *(_number(metrics, prefix + name) for prefix in ("", "val_"))) for name in names]
    return f"## Numbers{mark}\n\n" + _table(("", "test", "validation"), rows)


def _number(metrics: Mapping[str, Any], name: str) -> str:
    return format_value(name.removeprefix("val_"), metrics.get(name))


def _decision(head: Mapping[str, Any], mark: str) -> str:
    """From which similarity on two faces count as one person's, and who says so."""
    chosen = head.get("verification")
    if not chosen:
        return ""
    number = {
        key: format_value("", chosen.get(key)) for key in ("similarity", "similarity_low", "similarity_high")
    }
    spread = ""
    if "similarity_low" in chosen:
        spread = (
            f" (95 % of samples of the people: {number['similarity_low']} to {number['similarity_high']})"
        )
    about = head.get("calibration") or {}
    place = f" on {_text(about['data'])}" if about else ""
    return (
        f"## Threshold{mark}\n\nTwo faces count as one person's from a similarity of {number['similarity']}{spread} "
        f"on: {_text(chosen.get('chosen', 'unknown'))}{place}. On other pictures and other people choose one by "
        "`mbapps calibrate`."
    )


def _classes(head: Mapping[str, Any], mark: str) -> str:
    names: Sequence[str] = head.get("class_names") or ()
    if not names:
        return ""
    thresholds = head.get("thresholds")
    metrics = head.get("metrics", {})
    columns: dict[str, list[Any]] = {}
    if thresholds is not None:
        columns["threshold"] = list(thresholds)
    for title, prefix in (("AP (test)", "AP/"), ("AP (validation)", "val_AP/")):
        if any(prefix + name in metrics for name in names):
            columns[title] = [metrics.get(prefix + name) for name in names]
    rows = [
        (name, *(format_value("", values[row]) for values in columns.values()))
        for row, name in enumerate(names[:MAX_CLASSES])
    ]
    more = (
        f"\n\nand {len(names) - MAX_CLASSES:,} more, listed in `model.json`."
        if len(names) > MAX_CLASSES
        else ""
    )
    listed = _table(("class", *columns), rows) if columns else "; ".join(map(_text, names[:MAX_CLASSES]))
    return f"## Classes{mark}: {len(names):,}\n\n{listed}{more}"


def _input(heads: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        f"- {_text(name)}: {_view(head)}resized to {head['image_size']}x{head['image_size']} pixels; "
        f"gives {ANSWERS.get(name, 'what its head says')}."
        for name, head in heads.items()
    ]
    return (
        "## Input and output\n\nRGB images of any size, uint8, upright. Sides are scaled independently, with "
        "antialiasing; mean and standard deviation are applied inside the network.\n\n" + "\n".join(lines)
    )


def _view(head: Mapping[str, Any]) -> str:
    crop = (head.get("settings") or {}).get("central_crop", head.get("face_crop", 1.0))
    if head.get("landmarks"):
        return "the face is turned upright by five points, which you have to give, and "
    return "" if crop == 1 else f"the middle {crop:.1%} of each side is cut out and "


def _exports(model: Mapping[str, Any]) -> str:
    """Files for other runtimes, and how far their answers were from the model's own."""
    rows = [
        (
            runtime, file.get("file", "unknown"), f"{file.get('bytes', 0) / 1e6:.2f}",
            format_value("", file.get("images")), _error(file),
            _share(file.get("agreement")), _pairs(file.get("metrics") or {}),
            {True: "yes", False: "NO"}.get(file.get("passed"), "not run"),
        )
        for runtime, file in (model.get("exports") or {}).items()
    ]  # fmt: skip
    if not rows:
        return ""
    notes = [_in_8_bits(name, file["int8"]) for name, file in model["exports"].items() if file.get("int8")]
    head = ("runtime", "file", "MB", "images compared", "difference", "answers alike", "number", "passed")
    return (
        "## Files for other runtimes\n\n"
        + _table(head, rows)
        + "\n\nThe difference is the greatest of a raw output, as a share of its range; in 8 bits the signal over the "
        "noise. The number is the task's own, of the model and of the file. A file that did "
        "not pass is not opened by `runtime=`; one of an earlier export is, if any." + "".join(notes)
    )


def _error(file: Mapping[str, Any]) -> str:
    """How far a file's outputs are from the model's."""
    signal = file.get("signal_db")
    return (
        f"{signal:.0f} dB" if file.get("int8") and signal is not None else _share(file.get("relative_error"))
    )


def _pairs(metrics: Mapping[str, Any]) -> str:
    """Tasks' numbers of the model and of a file."""
    pairs = [
        f"{name} {format_value(name, one['original'])} -> {format_value(name, one['file'])}"
        for name, one in metrics.items()
    ]
    return ", ".join(pairs) or "–"


def _in_8_bits(name: str, about: Mapping[str, Any]) -> str:
    """What quantisation did to a file."""
    text = (
        f"\n\n{_text(name)}: {about['int8']} of {about['layers']} layers in 8 bits, ranges from "
        f"{about['calibration_images']} images."
    )
    for key, words in (("kept", "Left in float"), ("guilty", "Most of the error comes from")):
        if names := about.get(key):
            text += f" {words}: {', '.join(_text(layer) for layer in names)}."
    if channels := about.get("equalized_channels"):
        text += f" {channels} channels were equalised."
    if about.get("warning"):
        text += f" {_text(about['warning'])}."
    return text


def _share(value: Any) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def _origin(model: Mapping[str, Any]) -> str:
    lineage = model.get("lineage") or {}
    sets: Sequence[Mapping[str, Any]] = lineage.get("data") or ()
    lines = ["## Where it comes from", ""]
    if sets:
        keys = ("name", "licence", "images", "fingerprint")
        lines += [_table(("data", *keys[1:]), [[_fact(data.get(key)) for key in keys] for data in sets]), ""]
    else:
        lines += ["What it was trained on is unknown.", ""]
    unclear = [str(data.get("name")) for data in sets if _fact(data.get("licence")) == "unknown"]
    if unclear:
        lines += [
            f"The licence of {_text(', '.join(unclear))} is unknown: find out before you pass this model on.",
            "",
        ]
    for label, key in (("Weights it started from", "weights"), ("Teacher", "teacher")):
        lines.append(f"- {label}: {_text(lineage.get(key, 'unknown') or 'none')}")
    if model.get("command"):
        lines.append(f"- Command: `{str(model['command']).replace('`', ' ')}`")
    return "\n".join(lines)


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {format_value(name, count)}" for name, count in value.items())
    return "unknown" if value in (None, "") else format_value("", value)


def _limits(heads: Iterable[str]) -> str:
    texts = [f"**{_text(name)}.** {LIMITS.get(name, OTHER_LIMITS)}" for name in heads]
    return "## Intended use and limits\n\n" + "\n\n".join(texts)


def _usage() -> str:
    return (
        "## How to use it\n\n```\nmbapps predict model=path/to/this/folder source=photos/\n```\n\n```python\n"
        'import mbapps\n\nprint(mbapps.load("path/to/this/folder").predict("photo.jpg")[0].to_json())\n```'
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(_text, line)) + " |" for line in lines)


def _text(value: Any) -> str:
    """Text that no Markdown reader takes for a column, a tag, emphasis or a new line."""
    text = " ".join(str(value).split()).replace("\\", "\\\\").replace("<", "&lt;")
    for mark in "|*`[]":
        text = text.replace(mark, f"\\{mark}")
    return text
