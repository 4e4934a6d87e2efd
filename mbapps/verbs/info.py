"""`mbapps info`: layers, parameters and mult-adds, of a configured network or of a model folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mbapps.report import print_table, run_context, write_results

if TYPE_CHECKING:
    from omegaconf import DictConfig

# What the paper prints: (task, alpha, image size) -> millions of mult-adds and of parameters, and the table.
PAPER = {
    ("detection", 1.0, 300): (1200.0, 6.8, "Table 13"),
}


def run(cfg: DictConfig) -> None:
    """Print the layer table, write results.json. It reads no data: `data.num_classes=` says how many classes."""
    from mbapps import app
    from mbapps.models.complexity import count

    folder = app.run_folder(cfg)
    if cfg.model:
        network = app.open_bundle(cfg.model).network
    else:
        num_classes = cfg.data.num_classes
        if num_classes is None:
            raise ValueError("info needs data.num_classes=, or a model folder by model=")
        if num_classes < 1:
            raise ValueError(f"data.num_classes must be >= 1, got {num_classes}")
        network, _ = app.build_network(cfg, [f"class {index}" for index in range(num_classes)])
    (name,) = network.heads
    head = network.head(name)
    complexity = count(network, head.image_size)
    numbers = {"params": complexity.params, "macs": complexity.macs}
    if hasattr(head, "anchors"):
        numbers["anchors"] = len(head.anchors)
    if cfg.layers:
        rows = {
            row.name: f"{row.kind:<12} {'x'.join(map(str, row.shape)):>14} {row.params:>10,} {row.macs:>13,}"
            for row in complexity.layers
        }
        print_table(f"{name}, image size {head.image_size}: layer, output, parameters, mult-adds", rows)
    shown: dict[str, object] = dict(numbers)
    paper = PAPER.get((name, network.body.alpha, head.image_size))
    if paper and network.body.settings["separable"] and not network.body.settings["shallow"]:
        macs, params, table = paper
        shown[f"the paper's {table}"] = f"{params} M parameters, {macs / 1000:g} G mult-adds"
    path = write_results(folder, numbers, run_context())
    print_table("info", shown, paths=[path])
