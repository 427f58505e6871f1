"""Several processes make the run that one would have made; real ones, under accelerate."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch

from training.checkpoint import latest_step, load_model
from training.cli import main
from training.config import CONFIG_FOLDER
from training.errors import ConfigError
from training.plots import read_log
from training.processes import Processes
from training.run_log import LOG

TINY = ["--config", str(CONFIG_FOLDER / "tiny.toml"), "--work"]
LAUNCH = (
    *(sys.executable, "-m", "accelerate.commands.launch", "--cpu"),
    *("--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"),
    *("--mixed_precision", "no", "--dynamo_backend", "no"),
)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    assert main(["corpus", *TINY, str(tmp_path), "--processes", "1"]) == 0
    assert main(["tokenizer", *TINY, str(tmp_path)]) == 0
    train = ["train", *TINY, str(tmp_path), "--steps", "40"]
    assert main([*train, "--output", str(tmp_path / "one")]) == 0
    subprocess.run(
        [*LAUNCH, "-m", "training", *train, "--output", str(tmp_path / "two")],
        check=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    one, two = tmp_path / "one", tmp_path / "two"
    for ours, theirs in zip(read_log(one / LOG), read_log(two / LOG), strict=True):
        assert ours.keys() == theirs.keys()
        for figure in {"step", "tokens", "loss", "dev_bits"} & ours.keys():
            assert ours[figure] == pytest.approx(theirs[figure], rel=1e-3)
    steps = [latest_step(run) for run in (one, two)]
    models = [load_model(step)[0] for step in steps if step is not None]
    apart = [torch.nn.utils.parameters_to_vector(m.parameters()) for m in models]
    assert torch.nn.functional.cosine_similarity(*apart, dim=0).item() > 0.999


def test_rows_that_can_t_be_shared_out_are_refused() -> None:
    alone = Processes()
    assert alone.share(6) == (0, 6)
    with mock.patch.object(alone, "count", 4), pytest.raises(ConfigError, match="6 rows a batch"):
        alone.share(6)


def test_a_process_alone_decides_for_itself() -> None:
    alone = Processes()
    network = torch.nn.Linear(1, 1)
    assert alone.is_main
    assert alone.spread(network) is network
    assert (alone.mean(2.5), alone.said_by_main(3.5)) == (2.5, 3.5)
    alone.leave()
