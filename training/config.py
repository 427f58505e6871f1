"""The settings of one experiment, read from a TOML file; every default stands here, once.

Knows names, units and ranges; what a setting does is told where it is used.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from server.errors import nearest_name
from training.errors import ConfigError

ModelKind = Literal["gpt2", "lstm", "rnn"]
ScheduleKind = Literal["constant", "linear", "cosine", "step", "wsd"]
OptimizerKind = Literal["muon", "adamw"]
Precision = Literal["auto", "fp32", "bf16"]

T = TypeVar("T")

CONFIG_FOLDER = Path(__file__).parent / "configs"


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusConfig:
    """Which manifest lists the sources; relative to the config's own folder."""

    manifest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerConfig:
    """Size of the vocabulary, special tokens included, and how much text it is learned from."""

    n_vocab: int = 8192
    sample_bytes: int = 40_000_000
    min_frequency: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The network: GPT-2, or a recurrent baseline with as many parameters as its width gives."""

    kind: ModelKind = "gpt2"
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 256
    n_ctx: int = 512
    dropout: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FimConfig:
    """How often and how text is cut into prefix, middle and suffix."""

    rate: float = 0.5
    spm_share: float = 0.5
    # What the middle is: the rest of a line, some characters, the rest of an indented block.
    line_share: float = 0.5
    span_share: float = 0.25
    # Longest suffix as a share of the window; the server keeps to the same.
    suffix_share: float = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """From this step on, batches of `n_rows` windows of `n_ctx` tokens."""

    from_step: int
    n_rows: int
    n_ctx: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """Muon for the matrices of the blocks and AdamW for the rest, or AdamW for all."""

    kind: OptimizerKind = "muon"
    lr: float = 3e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    muon_lr: float = 0.02
    muon_momentum: float = 0.95
    muon_weight_decay: float = 0.05
    grad_clip: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate moves; `progress` runs from 0 to 1 over the run."""

    kind: ScheduleKind = "wsd"
    warmup_steps: int = 100
    # Share of the run over which `wsd` falls to zero.
    cooldown_share: float = 0.3
    # `linear` and `cosine` end at this share of the peak.
    final_share: float = 0.0
    # `step` multiplies by `step_factor` every `step_every` of the run.
    step_every: float = 0.25
    step_factor: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Length, arithmetic and bookkeeping of a run."""

    n_steps: int = 1000
    seed: int = 1
    # 0 follows the machine's load: all cores while they are free, else one. Threads that wait for a
    # sibling whose core is taken are slower than no sibling (measured: 300 instead of 1,700 tok/s).
    n_threads: int = 2
    precision: Precision = "fp32"
    compiles: bool = False
    log_every_steps: int = 10
    checkpoint_every_s: float = 300.0
    eval_every_steps: int = 250
    n_eval_windows: int = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One experiment."""

    name: str
    folder: Path
    corpus: CorpusConfig
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    fim: FimConfig = field(default_factory=FimConfig)
    stages: tuple[Stage, ...] = (Stage(from_step=0, n_rows=8, n_ctx=256),)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def stage_at(self, step: int) -> Stage:
        """Return the stage that a step belongs to."""
        return next(s for s in reversed(self.stages) if s.from_step <= step)

    def manifest_path(self) -> Path:
        """Return where the manifest lies."""
        return self.folder / self.corpus.manifest


_SECTIONS = {
    "corpus": CorpusConfig,
    "tokenizer": TokenizerConfig,
    "model": ModelConfig,
    "fim": FimConfig,
    "optimizer": OptimizerConfig,
    "schedule": ScheduleConfig,
    "run": RunConfig,
}


def load_config(path: Path) -> Config:
    """Read and check a config.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value is out of range.
    """
    table = read_toml(path)
    sections = {}
    for key, value in table.items():
        if key == "stages":
            sections[key] = tuple(build(Stage, row, f"{path}: stages") for row in value)
        elif key in _SECTIONS:
            sections[key] = build(_SECTIONS[key], value, f"{path}: [{key}]")
        elif key != "name":
            raise ConfigError(f"{path}: unknown section {key!r}{nearest_name(key, _SECTIONS)}")
    if "corpus" not in sections:
        raise ConfigError(f"{path}: [corpus] is missing; it names the manifest")
    config = Config(name=table.get("name", path.stem), folder=path.parent, **sections)
    _check(config, path)
    return config


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: it cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{path}: {exc}") from exc


def build(kind: type[T], table: dict[str, Any], where: str) -> T:
    """Make a settings dataclass from a TOML table.

    Raises:
        ConfigError: a key is unknown or missing, or a value has another type.
    """
    known = get_type_hints(kind)
    values = {}
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}{nearest_name(key, known)}")
        values[key] = _checked(value, known[key], f"{where}: {key}")
    try:
        return kind(**values)
    except TypeError as exc:
        raise ConfigError(f"{where}: {exc}") from exc


def _checked(value: Any, kind: Any, where: str) -> Any:
    if getattr(kind, "__origin__", None) is Literal:
        if value not in get_args(kind):
            raise ConfigError(f"{where} is {value!r}; it may be {', '.join(get_args(kind))}")
        return value
    if isinstance(value, list):
        return tuple(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in (int, float, str, bool) and type(value) is not kind:
        raise ConfigError(f"{where} is {value!r}, which is no {kind.__name__}")
    return value


def _check(config: Config, path: Path) -> None:
    model, stages = config.model, config.stages
    positive = (model.n_layer, model.n_head, model.n_embd, model.n_ctx, config.run.n_steps)
    if min(positive) < 1:
        raise ConfigError(f"{path}: sizes and steps must be at least 1")
    if model.n_embd % model.n_head:
        raise ConfigError(f"{path}: n_embd {model.n_embd} is no multiple of n_head {model.n_head}")
    if not stages or stages[0].from_step != 0:
        raise ConfigError(f"{path}: the first of [[stages]] must have from_step = 0")
    for stage in stages:
        if stage.n_ctx < 32 or model.n_ctx % stage.n_ctx:
            raise ConfigError(
                f"{path}: a stage's n_ctx must be at least 32 and divide the model's "
                f"{model.n_ctx}, but is {stage.n_ctx}"
            )
    if not 0 <= config.fim.rate <= 1:
        raise ConfigError(f"{path}: fim.rate is {config.fim.rate}, not within 0 and 1")


def as_table(config: Config) -> dict[str, Any]:
    """Return the config as plain values, for records."""
    table = dataclasses.asdict(config)
    table["folder"] = config.folder.name
    return table
