"""Checkpoints that survive a full disk, a kill and a move of the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from mbapps.files import replacing


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints by rename: a full disk or a kill leaves the last one whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        try:
            with replacing(path) as temporary:
                super().save_checkpoint(checkpoint, temporary, storage_options)
        except OSError as error:
            raise OSError(
                error.errno,
                f"could not save {path}: {error.strerror or error}; the checkpoint before it is whole: "
                f"make room and go on with resume={Path(path).parent.parent}",
            ) from error


class Checkpoints(ModelCheckpoint):
    """Lightning's, made to survive that the run folder was moved: paths are kept by name, not by place."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        folder = Path(str(self.dirpath))
        moved = dict(state_dict, dirpath=self.dirpath)
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            if moved.get(key):
                moved[key] = str(folder / Path(moved[key]).name)
        moved["best_k_models"] = {
            str(folder / Path(path).name): score for path, score in moved["best_k_models"].items()
        }
        super().load_state_dict(moved)
