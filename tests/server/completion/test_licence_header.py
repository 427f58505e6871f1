"""Which licence a header names."""

from __future__ import annotations

import pytest

from server.completion.licence_header import HEADER_LINES, licence_named

MIT = """# Copyright (c) 2020 Somebody
#
# Permission is hereby granted, free
# of charge, to any person obtaining a copy
"""
GPL = """/*
 * This program is free software: you can redistribute it and/or modify
 * it under the terms of the GNU General Public
 * License as published by the Free Software Foundation.
 */
"""


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("import os\n", ""),
        ("# SPDX-License-Identifier: Apache-2.0\n", "Apache-2.0"),
        ("/* SPDX-License-Identifier: GPL-2.0-only WITH x */\n", "GPL-2.0-only WITH x"),
        ("// SPDX-License-Identifier: (MIT OR Apache-2.0)\n", "(MIT OR Apache-2.0)"),
        ("<!-- SPDX-License-Identifier: MIT -->\n", "MIT"),
        (MIT, "MIT"),
        (GPL, "GPL"),
        ("-- Licensed under the Apache License, Version 2.0\n", "Apache"),
        ("; governed by a BSD-style license\n", "BSD"),
        ("// Copyright Big Company. All rights reserved.\n", "proprietary"),
        ("x = 1\n" * HEADER_LINES + MIT, ""),
        ("x = 1\n" * (HEADER_LINES - 1) + "# All rights reserved.\n", "proprietary"),
    ],
)
def test_the_licence_of_a_header_is_told(text: str, licence: str) -> None:
    assert licence_named(text) == licence
