"""The processes that share one run: this one alone, or one per GPU under `accelerate launch`.

    accelerate launch --multi_gpu --num_processes 4 -m training train --config ... --work ...

Each takes its share of every batch's rows and keeps a whole copy of the network; gradients are
averaged, so the run is the one that a single process would have made. Knows nothing of learning.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

from training.errors import ConfigError


class Processes:
    """What the processes of a run have to agree on."""

    def __init__(self) -> None:
        """Join the others, if a launcher started several processes."""
        self._accelerator: Any = None
        self.count, self.rank = 1, 0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            # Takes a second to import, which a single process need not pay.
            from accelerate import Accelerator

            self._accelerator = Accelerator()
            self.count = self._accelerator.num_processes
            self.rank = self._accelerator.process_index
            self.device = self._accelerator.device

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes logs and checkpoints."""
        return self.rank == 0

    def share(self, n_rows: int) -> tuple[int, int]:
        """Return the first row of a batch that is ours, and how many are.

        Raises:
            ConfigError: the rows can't be shared out evenly.
        """
        if n_rows % self.count:
            raise ConfigError(
                f"{n_rows} rows a batch can't be shared out evenly among {self.count} processes; "
                "change n_rows of the config's stages"
            )
        n_own = n_rows // self.count
        return self.rank * n_own, n_own

    def spread(self, model: nn.Module) -> nn.Module:
        """Return the network with gradients that are averaged over all processes."""
        if self._accelerator is None:
            return model
        spread: nn.Module = self._accelerator.prepare_model(model)
        return spread

    def mean(self, value: float) -> float:
        """Return the mean of all processes' values."""
        if self._accelerator is None:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        return float(self._accelerator.reduce(tensor, reduction="mean"))

    def said_by_main(self, value: float) -> float:
        """Return the main process's value: what depends on a clock or a signal is its decision."""
        if self._accelerator is None:
            return value
        from accelerate.utils import broadcast

        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        return float(broadcast(tensor, from_process=0))

    def leave(self) -> None:
        """End what joining began; a process that is alone has nothing to end."""
        if self._accelerator is not None:
            self._accelerator.end_training()
