"""Parameters as typed objects: pygls' converter, and what lsprotocol lacks."""

from __future__ import annotations

from typing import Any

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn
from lsprotocol import types
from pygls.protocol import default_converter

Json = Any
MessageId = int | str


@attrs.define
class InlineParams(types.InlineCompletionParams):
    """Parameters with the token that lsprotocol 2025.0.0 lacks, as the metaModel of 3.18 does.

    To be removed when lsprotocol's class has `partial_result_token`.
    """

    partial_result_token: int | str | None = None


def make_converter() -> cattrs.Converter:
    """Return pygls' converter, with the partial-result token of inline completions."""
    converter: cattrs.Converter = default_converter()  # type: ignore[no-untyped-call]
    structure = converter.get_structure_hook(types.InlineCompletionParams)

    def structure_inline(value: Json, _: type) -> InlineParams:
        if value["context"].get("triggerKind") == 0:  # vscode-languageclient 9 counts from 0.
            value = value | {"context": value["context"] | {"triggerKind": 1}}
        token = value.get("partialResultToken")
        if token is not None and not is_message_id(token):
            raise TypeError("a token is a number or a text")
        params = structure(value, types.InlineCompletionParams)
        return InlineParams(
            context=params.context,
            text_document=params.text_document,
            position=params.position,
            work_done_token=params.work_done_token,
            partial_result_token=token,
        )

    converter.register_structure_hook(types.InlineCompletionParams, structure_inline)
    # The request's own hook was generated with the other one inside.
    converter.register_structure_hook(
        types.InlineCompletionRequest,
        make_dict_structure_fn(types.InlineCompletionRequest, converter),
    )
    return converter


def is_message_id(value: Json) -> bool:
    """Whether a value may name a request or a token."""
    return isinstance(value, str | int) and not isinstance(value, bool)
