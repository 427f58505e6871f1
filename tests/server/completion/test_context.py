"""What stands in front of the prompt."""

from __future__ import annotations

from dataclasses import replace

from server.completion.context import ContextChain, path_comment, similar_code
from server.completion.request import CompletionRequest, OpenDocument


def request(language: str = "python", path: str = "src/a.py") -> CompletionRequest:
    return CompletionRequest(
        document="file:///a", version=1, prefix="x", suffix="", language=language, path=path
    )


def test_the_path_is_a_comment_of_the_language() -> None:
    assert path_comment(request()) == "# src/a.py\n"
    assert path_comment(request("typescript", "a.ts")) == "// a.ts\n"
    assert path_comment(request("html", "a.html")) == "<!-- a.html -->\n"
    assert path_comment(request("markdown", "a.md")) == ""
    assert path_comment(request(path="")) == ""


def test_sources_come_in_their_order_each_on_its_lines() -> None:
    chain = ContextChain([("a", lambda r: "one"), ("b", lambda r: ""), ("c", path_comment)], print)
    assert chain(request()) == "one\n# src/a.py\n"


def test_a_source_that_breaks_its_contract_is_left_out_from_then_on() -> None:
    complaints: list[tuple[str, str]] = []

    def raises(asked: CompletionRequest) -> str:
        raise OSError("no")

    sources = [("raises", raises), ("none", lambda r: None), ("path", path_comment)]
    chain = ContextChain(sources, lambda *what: complaints.append(what))  # type: ignore[arg-type]
    assert chain(request()) == chain(request()) == "# src/a.py\n"
    assert complaints[0][1].startswith("it raised OSError at raises:")
    assert complaints[1:] == [("none", "it returned NoneType instead of text")]


OTHER = "def load_rows(path):\n    with open(path) as file:\n        return list(reader(file))\n"
FAR = "class Window:\n    def paint(self):\n        self.canvas.clear()\n"


def opened(path: str, text: str, language: str = "python") -> OpenDocument:
    return OpenDocument(path=path, language=language, text=text)


def test_similar_code_comes_from_other_documents_under_its_path() -> None:
    near = replace(
        request(),
        prefix="def load_cells(path):\n    with open(path) as file:\n        return ",
        open_documents=(opened("rows.py", OTHER), opened("window.py", FAR)),
    )
    assert similar_code(near) == f"# rows.py\n{OTHER.rstrip()}\n\n"


def test_similar_code_is_of_the_same_language() -> None:
    near = replace(request(), prefix=OTHER, open_documents=(opened("rows.rb", OTHER, "ruby"),))
    assert similar_code(near) == ""


def test_the_most_similar_piece_stands_last() -> None:
    near = replace(
        request(),
        prefix=OTHER,
        open_documents=(opened("same.py", OTHER), opened("like.py", OTHER + "x_1 = y_2\n")),
    )
    assert [line for line in similar_code(near).split("\n") if line.startswith("#")] == [
        "# like.py",
        "# same.py",
    ]


def test_a_long_document_gives_one_piece() -> None:
    filler = "\n".join(f"name_{n} = other_{n}" for n in range(200))
    near = replace(
        request(), prefix=OTHER, open_documents=(opened("long.py", f"{filler}\n{OTHER}{filler}"),)
    )
    piece = similar_code(near)
    assert "def load_rows" in piece
    assert piece.count("\n") <= 24
