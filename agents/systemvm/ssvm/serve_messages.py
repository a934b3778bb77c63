# SPDX-License-Identifier: Apache-2.0
"""The agent's calls to serve, besides those of `wire/extract.py`, which it passes on."""

from __future__ import annotations

from attrs import frozen

DROP = "serve.drop"  # agent → serve: end the transfers of a template and forget its links


@frozen
class DropTemplate:
    account_id: int
    template_id: int
