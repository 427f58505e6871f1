"""Engines without a model, made plugins of a server that is measured."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from server.completion.engine import CompletionEngine, EngineInfo, OnProgress, untold
from server.options import Options


class EngineWithoutModel(CompletionEngine):
    """Loads nothing; what it says is its subclass's."""

    name: ClassVar[str]
    """That `--engine` knows it by, once it is installed."""

    @classmethod
    def load(cls, options: Options, on_progress: OnProgress = untold) -> Self:
        """Nothing is loaded."""
        return cls()

    @property
    def info(self) -> EngineInfo:
        """A name for the status."""
        return EngineInfo(engine=self.name, model="none")

    @classmethod
    def install(cls, folder: Path) -> None:
        """Write what makes the engine a plugin of a server that has `folder` on its path."""
        info = folder / f"{cls.name}_engine-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {cls.name}-engine\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(
            f"[foretype.engines]\n{cls.name} = {cls.__module__}:{cls.__name__}\n"
        )
