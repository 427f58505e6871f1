"""The menu that an editor may show: what can be switched and chosen now, worded for people.

Pure functions. An entry says as data what it does; docs/protocol.md describes it. Does not know how
an editor keeps its settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.options import Options

SWITCH_COMMAND = "foretype.switchDocument"
EMBEDDED = "The embedded model"


def entries(
    options: Options, *, uri: str = "", language: str = "", is_off: bool = False
) -> list[dict[str, Any]]:
    """Return the switches for a document, its language and everything, in this order.

    Args:
        options: the settings that hold now.
        uri: of the document that the user is in; empty for none.
        language: its language id.
        is_off: whether completions are switched off for it.
    """
    found: list[dict[str, Any]] = []
    if uri:
        action: dict[str, Any] = {"command": SWITCH_COMMAND, "arguments": [uri]}
        found.append(_switch("toggleFile", not is_off, "for This File") | action)
        is_on = options.languages.get(language, options.languages.get("*", True))
        action = {"settings": {"languages": {**options.languages, language: not is_on}}}
        found.append(_switch("toggleLanguage", is_on, f"for {language}") | action)
    action = {"settings": {"enabled": not options.enabled}}
    found.append(_switch("toggle", options.enabled, "Everywhere") | action)
    return found


def model_entry(model: str, named: Sequence[str]) -> dict[str, Any]:
    """Return the entry that holds the models to choose from.

    Args:
        model: the setting as it is.
        named: names of the exported models.
    """
    known = ["", *named]
    choices = [*known, *({model} - set(known))]
    return {
        "id": "chooseModel",
        "label": "Choose a Model…",
        "icon": "package",
        "entries": [
            *(
                {
                    "label": name or EMBEDDED,
                    "description": "in use" if name == model else "",
                    "settings": {"model": name},
                }
                for name in choices
            ),
            {
                "label": "Another…",
                "setting": "model",
                "prompt": "Folder of a bundle, or the name of an exported model",
            },
        ],
    }


def _switch(name: str, is_on: bool, what: str) -> dict[str, Any]:
    label = f"Turn {'Off' if is_on else 'On'} {what}"
    return {"id": name, "label": label, "icon": "circle-slash" if is_on else "wand"}
