"""What a text imports, told by the names that its first lines give."""

from __future__ import annotations

import pytest

from server.completion.imports import imported_modules

PYTHON = """
from __future__ import annotations

import os, json as j
import package.module  # and why
from . import sibling
from .near import thing as other, one
from ..far.away import (
    first,
    second,
)
from package import part

def late():
    from deep import well
"""


def test_python_names_modules_and_what_may_be_one() -> None:
    assert imported_modules(PYTHON, "src/app/main.py", "python") == (
        "__future__",
        "__future__/annotations",
        "src/app",
        "src/app/sibling",
        "src/app/near",
        "src/app/near/thing",
        "src/app/near/one",
        "src/far/away",
        "src/far/away/first",
        "src/far/away/second",
        "package",
        "package/part",
        "deep",
        "deep/well",
        "os",
        "json",
        "package/module",
    )


def test_scripts_name_relative_paths() -> None:
    text = """
    import { a } from './a'
    import '../style.css';
    const b = require("./lib/b.js")
    export * from "../shared/c"
    import React from 'react'
    """
    found = imported_modules(text, "web/src/main.ts", "typescript")
    assert found == ("web/src/a", "web/style", "web/src/lib/b", "web/shared/c")


def test_c_names_headers_by_their_end() -> None:
    text = '#include <stdio.h>\n#include "list.h"\n# include "../core/map.h"\n'
    assert imported_modules(text, "src/app/main.c", "c") == ("list", "src/core/map")


@pytest.mark.parametrize(
    "head", ["from", "from . import", "import", "from .. import (", "from x import (a,\n b", "\0"]
)
def test_half_a_line_is_no_fault(head: str) -> None:
    imported_modules(head, "", "python")
    imported_modules(head, "a/b.js", "javascript")


def test_another_language_imports_nothing() -> None:
    assert imported_modules("import os\n", "a.rb", "ruby") == ()
