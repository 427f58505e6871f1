"""The local engine's memory of the workspace: texts come in, what they say of token ids goes out.

A door between the rooms, as the engine itself. Any thread may let it learn and forget; answers are
made on the engine's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from server.bundle import Bundle
from server.completion.engine import (
    CancelToken,
    CopySource,
    EngineRequest,
    MemoryInfo,
    WorkspaceFile,
)
from server.completion.imports import HEAD_CHARS, imported_modules
from server.completion.licence_header import licence_named
from server.decoding.memory.answer import AnswerMemory
from server.decoding.memory.coefficients import Coefficients, read_coefficients
from server.decoding.memory.copies import Copy
from server.decoding.memory.drafts import Pace
from server.decoding.memory.index import LearnedText, Snapshot, WorkspaceIndex
from server.decoding.memory.recall import DocumentText, Recall
from server.decoding.memory.stream import TokenWidth
from server.decoding.sampling import IdArray
from server.decoding.tokenizer import Tokenizer
from server.errors import BundleError

NOTHING = Snapshot()


class LocalMemory:
    """What the local engine knows of the workspace, and how drafts fare."""

    def __init__(self, bundle: Bundle, tokenizer: Tokenizer, max_bytes: int) -> None:
        """Start empty.

        Raises:
            BundleError: the bundle's coefficients can't be read.
        """
        self._tokenizer = tokenizer
        self._width = TokenWidth(bundle.manifest.spec.n_vocab)
        self._index = WorkspaceIndex(self._width, max_bytes)
        self._coefficients = _coefficients_of(bundle)
        self._seen: set[str] = set()
        self._licences: dict[str, str] = {}
        """By path, of the texts whose header names one."""
        token_bytes = tokenizer.token_bytes
        self._newlines = np.array([spelling.count(b"\n") for spelling in token_bytes])
        self._n_answers = 0
        self._n_helped = 0
        self.pace = Pace(self._coefficients)

    @classmethod
    def of(cls, bundle: Bundle, max_bytes: int) -> LocalMemory:
        """Return a bundle's memory by itself, without a network.

        Raises:
            BundleError: its tokenizer or its coefficients can't be read.
        """
        special = bundle.manifest.special_tokens
        ids = {special.end, *special.fim_ids}
        n_vocab = bundle.manifest.spec.n_vocab
        return cls(bundle, Tokenizer.from_file(bundle.tokenizer_path, n_vocab, ids), max_bytes)

    @property
    def info(self) -> MemoryInfo:
        """How much is known, and how often it helped."""
        snapshot = self._index.snapshot
        return MemoryInfo(
            n_files=snapshot.n_texts,
            n_tokens=snapshot.n_tokens,
            n_bytes=snapshot.n_bytes,
            n_left_out=len(snapshot.left_out),
            n_answers=self._n_answers,
            n_helped=self._n_helped,
        )

    def learn(self, files: Iterable[WorkspaceFile], cancel: CancelToken) -> None:
        """Take texts in; after a cancel, those that were read by then."""

        def read() -> list[LearnedText]:
            texts = []
            for file in files:
                if cancel.is_cancelled:
                    break
                self._note_licence(file)
                tokens = self._width.pack(self._tokenizer.encode_aside(file.text))
                # What changes while we watch is what the user works on.
                is_near = file.is_open or file.path in self._seen
                texts.append(LearnedText(file.path, tokens, is_near))
            self._seen.update(text.path for text in texts)
            return texts

        self._index.learn(read)

    def unlearn(self, paths: Sequence[str]) -> None:
        """Silence texts at once."""
        self._index.unlearn(paths)

    def for_answer(
        self,
        request: EngineRequest,
        context: Sequence[int],
        before: IdArray,
        after: IdArray,
    ) -> AnswerMemory:
        """Return the memory as one answer asks it.

        Args:
            request: says whose answer it is and what it may draw on.
            context: tokens before the first one that is generated.
            before: tokens of the document up to there.
            after: tokens of the document from the cursor on.
        """
        index = self._index
        snapshot = (lambda: index.snapshot) if request.memory == "workspace" else lambda: NOTHING
        document = DocumentText(before, after, self._width)
        recall = Recall(
            snapshot,
            document,
            request.path,
            self._width,
            self._silences(request),
            imported_modules(request.prefix[:HEAD_CHARS], request.path, request.language),
        )
        is_mixed = request.memory != "off"
        return AnswerMemory(recall, context, self._coefficients, self.pace, is_mixed=is_mixed)

    def line_of(self, copy: Copy) -> int:
        """Return the line that a copy begins in, from 1."""
        return 1 + int(self._newlines[copy.tokens_before].sum())

    def speaks(self, copy: Copy) -> bool:
        """Whether the text that a copy stands in may still say something."""
        return any(copy.is_of(segment) for segment in self._index.snapshot.segments)

    def _note_licence(self, file: WorkspaceFile) -> None:
        if licence := licence_named(file.text):
            self._licences[file.path] = licence
        else:
            self._licences.pop(file.path, None)

    def _silences(self, request: EngineRequest) -> Callable[[str], bool] | None:
        """Return whether a path's text may not be drawn on for a request; None: all may."""
        if request.other_licences:
            return None
        # The prefix may lack its beginning; what was learned of the document does not.
        own = self._licences.get(request.path) or licence_named(request.prefix)
        return lambda path: self._licences.get(path, own) != own

    def count(self, *, helped: bool) -> None:
        """Count an answer."""
        self._n_answers += 1
        self._n_helped += helped


class CopySources:
    """Where the copies of one answer stand, told token by token."""

    def __init__(self, memory: LocalMemory) -> None:
        self._memory = memory
        self._last: Copy | None = None
        self._line = 0

    def of(self, copy: Copy | None) -> CopySource | None:
        """Return where a copy stands; None: there is none, or its text fell silent meanwhile."""
        if copy is None or not self._memory.speaks(copy):
            return None
        if self._last is None or not copy.goes_on(self._last):
            self._line = self._memory.line_of(copy)
        self._last = copy
        return CopySource(path=copy.path, line=self._line, n_tokens=copy.n_tokens)


def _coefficients_of(bundle: Bundle) -> Coefficients:
    """Return what the bundle says, or what was fitted for the embedded model."""
    path = bundle.memory_path
    if path is None:
        return Coefficients()
    try:
        return read_coefficients(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise BundleError(f"{path} can't be read ({exc}); export the model again") from exc
