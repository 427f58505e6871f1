"""A context source: the import lines of a Python file stay in front of the model's window."""

from server.completion.request import CompletionRequest


def imports(request: CompletionRequest) -> str:
    """Return the import lines before the cursor, one a line, or nothing for other languages."""
    if request.language != "python":
        return ""
    lines = request.prefix.split("\n")[:-1]
    return "".join(f"{line}\n" for line in lines if line.startswith(("import ", "from ")))
