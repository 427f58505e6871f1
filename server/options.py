"""Every setting, once: name, default, unit, meaning. Editors, flags and docs read them from here.

Does not know where a setting comes from. Names are snake_case inside and camelCase at the border;
a command-line flag is the same name with dashes.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any

from server.errors import nearest_name

SECTION = "foretype"

SECRET_PATHS = (
    ".env",
    ".env.*",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "*.ppk",
    "*.crt",
    "*.cer",
    "*.der",
    "id_rsa*",
    "id_ecdsa*",
    "id_ed25519*",
    ".ssh/",
    ".aws/",
    ".netrc",
    ".git-credentials",
    ".htpasswd",
    ".pgpass",
    ".npmrc",
    ".pypirc",
    "credentials*",
    "secrets.*",
)
"""Files that are never read nor completed, as gitignore patterns. Chosen by us from what such
files are commonly called."""


def setting(
    default: Any,
    help_text: str,
    *,
    choices: Sequence[str] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    at_start: bool = False,
) -> Any:
    """Declare one setting.

    Settings `at_start` choose what runs, so only the user's own level may set them.
    """
    metadata = {
        "help": help_text,
        "choices": tuple(choices),
        "minimum": minimum,
        "maximum": maximum,
        "at_start": at_start,
    }
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """How the next token is chosen; the defaults are greedy."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All settings, with defaults and units."""

    # What runs. Read once, at start, from the user's own level.
    model: str = setting(
        "",
        "Bundle folder or the name of an exported model; empty: the embedded model.",
        at_start=True,
    )
    engine: str = setting(
        "local", "What completes text: `local`, `http`, or a plugin's engine.", at_start=True
    )
    backend: str = setting(
        "auto",
        "What runs the network: `auto`, `ort`, `pytorch`, or a plugin's backend.",
        at_start=True,
    )
    device: str = setting(
        "auto", "Where the network runs.", choices=("auto", "cpu", "cuda"), at_start=True
    )
    threads: int = setting(
        0,
        "Threads inside one operator; 0 lets the backend choose.",
        minimum=0,
        maximum=256,
        at_start=True,
    )
    spinning: bool = setting(
        False,
        "Whether idle threads busy-wait: quicker on an idle machine, much slower on a loaded one.",
        at_start=True,
    )
    http_url: str = setting(
        "", "Address of an OpenAI-style completion server, for the `http` engine.", at_start=True
    )
    http_model: str = setting("", "Model name that the `http` engine asks for.", at_start=True)
    memory_bytes: int = setting(
        64_000_000,
        "Memory of the workspace, at the most: 6 to 8 bytes per token; what finds no room is left "
        "out.",
        minimum=0,
        maximum=2_000_000_000,
        at_start=True,
    )
    blocked_plugins: tuple[str, ...] = setting(
        (), "Names of plugins that are not loaded.", at_start=True
    )

    # When to complete. These and all below may change while the server runs.
    enabled: bool = setting(True, "Whether completions are offered at all.")
    languages: Mapping[str, bool] = setting(
        {},
        "Switch per language id, such as {'markdown': false}; `*` for all others, which are on.",
    )
    scopes: Mapping[str, bool] = setting(
        {},
        "Switch per place of the cursor (`code`, `comment`, `string`, `prose`), on if unnamed.",
    )
    debounce_ms: int = setting(
        60, "Wait after a keystroke before decoding starts, at the least.", minimum=0, maximum=5000
    )
    max_debounce_ms: int = setting(
        250,
        "Wait at the most, when typing is faster than the model answers.",
        minimum=0,
        maximum=5000,
    )
    deadline_ms: int = setting(
        2000, "Time after which what is finished is shown.", minimum=10, maximum=60_000
    )
    denied_paths: tuple[str, ...] = setting(
        SECRET_PATHS, "Files, as gitignore patterns, that are never read nor completed."
    )
    ignored_files: bool = setting(
        False,
        "Whether typing gets completions in files that git ignores; they come when asked for in "
        "either case.",
    )
    generated_files: bool = setting(
        False,
        "Whether typing gets completions in files that say that a program wrote them; they come "
        "when asked for in either case.",
    )
    max_document_chars: int = setting(
        5_000_000,
        "Documents above this size get no completions.",
        minimum=1000,
        maximum=100_000_000,
    )

    # What is offered.
    multi_line: str = setting(
        "auto", "Whether a completion may have several lines.", choices=("auto", "always", "never")
    )
    multi_line_languages: Mapping[str, str] = setting(
        {},
        "`multiLine` per language id, such as {'yaml': 'never'}.",
        choices=("auto", "always", "never"),
    )
    max_lines: int = setting(8, "Lines of one completion, at the most.", minimum=1, maximum=100)
    max_new_tokens: int = setting(
        96, "Tokens of one completion, at the most.", minimum=1, maximum=1024
    )
    candidates: int = setting(
        3, "Candidates on an explicit request; typing gets one.", minimum=1, maximum=10
    )
    min_confidence: float = setting(
        0.3,
        "Least probability of each piece of a completion that is shown while typing: it is cut "
        "before the first one below; 0 shows everything.",
        minimum=0.0,
        maximum=1.0,
    )
    memory: str = setting(
        "workspace",
        "What completions may learn from while you type: your `workspace`, the `document` alone, "
        "or nothing (`off`).",
        choices=("workspace", "document", "off"),
    )
    drafts: bool = setting(
        True,
        "Whether text that is there already is drafted and verified several tokens at a time; "
        "completions stay the same, but for ties within the rounding of eight-bit weights.",
    )
    other_licences: bool = setting(
        True,
        "Whether completions may draw on files whose header names another licence than the "
        "document's.",
    )
    fill_in_middle: str = setting(
        "auto",
        "Whether the model is given the text after the cursor, where it was trained for it.",
        choices=("auto", "never"),
    )
    temperature: float = setting(
        0.0, "Sampling temperature; 0 always takes the likeliest token.", minimum=0.0, maximum=5.0
    )
    top_k: int = setting(
        0, "Sample from the k likeliest tokens; 0: from all.", minimum=0, maximum=1_000_000
    )
    top_p: float = setting(
        1.0,
        "Sample from the smallest set of tokens that reaches this probability.",
        minimum=0.01,
        maximum=1.0,
    )
    seed: int = setting(0, "Seed of the sampling.", minimum=0, maximum=2**32 - 1)
    filters: tuple[str, ...] = setting(
        (
            "special",
            "control",
            "secrets",
            "repetition",
            "suffix",
            "closers",
            "indentation",
            "blank",
        ),
        "Filters that a completion passes before it is shown, in this order.",
    )
    context_sources: tuple[str, ...] = setting(
        (), "Sources of text in front of the prompt, in this order."
    )

    @property
    def sampling(self) -> SamplingOptions:
        """The four sampling settings as one record."""
        return SamplingOptions(
            temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, seed=self.seed
        )


def snake_case(name: str) -> str:
    """Return `maxNewTokens` as `max_new_tokens`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def camel_case(name: str) -> str:
    """Return `max_new_tokens` as `maxNewTokens`."""
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def apply_settings(
    options: Options, settings: Mapping[str, Any], *, running: bool = False
) -> tuple[Options, list[str]]:
    """Return the options with settings applied, and a warning for each that has no meaning.

    A bad setting keeps its present value. Keys may be camelCase or snake_case.

    Args:
        options: what holds now.
        settings: from an editor, a file or the command line.
        running: the server already runs, so settings that choose what runs are refused.
    """
    known = {f.name: f for f in fields(Options)}
    types = typing.get_type_hints(Options)
    warnings: list[str] = []
    changes: dict[str, Any] = {}
    for key, value in settings.items():
        name = snake_case(key)
        if name not in known:
            hint = nearest_name(key, (camel_case(n) for n in known)).split("known:")[0].rstrip()
            warnings.append(f"unknown setting {key!r}{hint}".rstrip(";"))
        elif running and known[name].metadata["at_start"]:
            present = getattr(options, name)
            if value != (list(present) if isinstance(present, tuple) else present):
                warnings.append(
                    f"{camel_case(name)} is read at start; restart the server to change it"
                )
        else:
            try:
                changes[name] = _checked(known[name], types[name], value)
            except ValueError as exc:
                kept = getattr(options, name)
                warnings.append(f"{camel_case(name)} is {value!r}, {exc}; keeping {kept!r}")
    return replace(options, **changes), warnings


def _checked(declared: Field[Any], wanted: Any, value: Any) -> Any:
    """Return a setting's value in the declared type.

    Raises:
        ValueError: another type, not among the choices, or out of range.
    """
    value = _converted(wanted, value)
    choices = declared.metadata["choices"]
    chosen = value.values() if isinstance(value, Mapping) else [value]
    if choices and any(one not in choices for one in chosen):
        raise ValueError(f"expected one of {', '.join(choices)}")
    low, high = declared.metadata["minimum"], declared.metadata["maximum"]
    if low is not None and not low <= value <= high:
        raise ValueError(f"expected a number from {low} to {high}")
    return value


def _converted(wanted: Any, value: Any) -> Any:
    if wanted is bool and isinstance(value, bool):
        return value
    if wanted is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if wanted is str and isinstance(value, str):
        return value
    origin = typing.get_origin(wanted)
    if (
        origin is tuple
        and isinstance(value, list | tuple)
        and all(isinstance(v, str) for v in value)
    ):
        return tuple(value)
    readable = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    if wanted in readable:
        raise ValueError(f"expected {readable[wanted]}")
    if origin is tuple:
        raise ValueError("expected a list of texts")
    kind = typing.get_args(wanted)[1]
    if isinstance(value, Mapping) and all(
        isinstance(k, str) and isinstance(v, kind) for k, v in value.items()
    ):
        return dict(value)
    raise ValueError(f"expected names with {readable[kind]}")
