"""What stands in front of the prompt."""

from __future__ import annotations

from server.completion.context import ContextChain, path_comment
from server.completion.request import CompletionRequest


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
    assert complaints == [
        ("raises", "it raised OSError: no"),
        ("none", "it raised TypeError: it returned NoneType instead of text"),
    ]
