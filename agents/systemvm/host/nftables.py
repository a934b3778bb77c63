# SPDX-License-Identifier: Apache-2.0
"""Loads rules into this network namespace by the nft program."""

from __future__ import annotations

from systemvm.host.programs import run_program


def load_rules(script: str) -> None:
    """Have nft take its input, as a whole or not at all.

    Raises: RefusedError when it does not.
    """
    run_program(["nft", "-f", "-"], "nftables", "cannot set the firewall", stdin=script)
