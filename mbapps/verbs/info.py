"""`mbapps info`: layers, parameters and mult-adds, of a configured network or of a model folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mbapps.report import print_columns, print_table, run_context, write_results

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mbapps.models.network import Network

# What the paper prints: task, classes, alpha, image size -> mult-adds and parameters in millions, and the table.
PAPER = {
    ("detection", 90, 1.0, 300): (1200, 6.8, "Table 13"),
    ("fine_grained", 120, 1.0, 224): (569, 3.3, "Table 10"),
    ("fine_grained", 120, 0.75, 224): (325, 1.9, "Table 10"),
    ("fine_grained", 120, 1.0, 192): (418, 3.3, "Table 10"),
    ("fine_grained", 120, 0.75, 192): (239, 1.9, "Table 10"),
    ("fine_grained", 1000, 1.0, 224): (569, 4.2, "Table 6"),
    ("fine_grained", 1000, 0.75, 224): (325, 2.6, "Table 6"),
    ("fine_grained", 1000, 0.5, 224): (149, 1.3, "Table 6"),
    ("fine_grained", 1000, 0.25, 224): (41, 0.5, "Table 6"),
    ("fine_grained", 1000, 1.0, 192): (418, 4.2, "Table 7"),
    ("fine_grained", 1000, 1.0, 160): (290, 4.2, "Table 7"),
    ("fine_grained", 1000, 1.0, 128): (186, 4.2, "Table 7"),
    ("fine_grained", 1000, 0.5, 160): (76, 1.32, "Table 9"),
    ("face_attr", 40, 1.0, 224): (568, 3.2, "Table 12"),
    ("face_attr", 40, 0.5, 224): (149, 0.8, "Table 12"),
    ("face_attr", 40, 0.25, 224): (45, 0.2, "Table 12"),
    ("face_attr", 40, 1.0, 128): (185, 3.2, "Table 12"),
    ("face_attr", 40, 0.5, 128): (48, 0.8, "Table 12"),
    ("face_attr", 40, 0.25, 128): (15, 0.2, "Table 12"),
    ("geo", 9766, 1.0, 224): (580, 13, "section 4.4"),
    ("face_embed", 0, 1.0, 160): (286, 4.9, "Table 14"),
    ("face_embed", 0, 1.0, 128): (185, 5.5, "Table 14"),
    ("face_embed", 0, 0.75, 160): (166, 3.4, "Table 14"),
    ("face_embed", 0, 0.75, 128): (108, 3.8, "Table 14"),
}
ERRATA = {  # what the paper prints and cannot be
    ("geo", 9766, 1.0, 224): ": printed as 0.58 M mult-adds; of its cells it tells the parameters alone",
    ("face_attr", 40, 0.25, 224): ": a misprint, its layers have 40.8 M",
    ("face_attr", 40, 0.25, 128): ": a misprint, its layers have 13.3 M",
    ("face_embed", 0, 0.75, 160): ": printed as 0.75 at 128 px",
}


def run(cfg: DictConfig) -> None:
    """Print the layer table, write results.json. It reads no data: `data.num_classes=` says how many classes."""
    from mbapps import app
    from mbapps.deploy.passes import passes
    from mbapps.deploy.saving import describe
    from mbapps.models.complexity import count
    from mbapps.starting import build_network

    folder = app.run_folder(cfg)
    if cfg.model:
        network = app.open_bundle(cfg).network
    else:
        classes = {}
        for name, view in app.heads(cfg).items():
            with app.of_head(cfg, name):
                classes[name] = [f"class {index}" for index in range(num_classes(view))]
        network, _ = build_network(cfg, classes)
    facts = describe(network, {})
    numbers = {"params": facts["params"], "macs": facts["macs"]}
    numbers |= {key: facts[key] for key in ("passes", "face_passes") if key in facts}
    for names in passes(facts, list(network.heads)) if cfg.layers else ():
        size = network.head(names[0]).image_size
        print_columns(
            f"{', '.join(names)}, image size {size}",
            ("layer", "kind", "output", "parameters", "mult-adds"),
            [
                (row.name, row.kind, "x".join(map(str, row.shape)), f"{row.params:,}", f"{row.macs:,}")
                for row in count(network.only(names), size).layers
            ],
        )
    for name in network.heads:
        if hasattr(network.head(name), "anchors"):
            numbers["anchors"] = len(network.head(name).anchors)
    shown: dict[str, object] = dict(numbers)
    if len(network.heads) == 1:
        shown |= _beside_the_paper(network)
    path = write_results(folder, numbers, run_context())
    print_table("info", shown, paths=[path])


def num_classes(cfg: DictConfig) -> int:
    """How many classes a head that is counted without data has.

    Raises:
        ValueError: nobody tells, or it has none.
    """
    from mbapps import app

    if getattr(app.head_class(cfg), "OPEN_SET", False):
        return 0
    count = cfg.data.num_classes
    if count is None:
        where = f"heads.{cfg.head}." if cfg.get("head") else ""
        raise ValueError(f"info needs {where}data.num_classes=, or a model folder by model=")
    if count < 1:
        raise ValueError(f"data.num_classes must be >= 1, got {count}")
    return int(count)


def _beside_the_paper(network: Network) -> dict[str, str]:
    """What the paper prints of such a network, if it does."""
    (name,) = network.heads
    head = network.head(name)
    row = name, len(head.class_names), getattr(network.body, "alpha", 0.0), head.image_size
    paper = PAPER.get(row)
    if paper and network.body.settings["separable"] and not network.body.settings["shallow"]:
        macs, params, table = paper
        return {f"the paper's {table}": f"{params} M parameters, {macs} M mult-adds{ERRATA.get(row, '')}"}
    return {}
