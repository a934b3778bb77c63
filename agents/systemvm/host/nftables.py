# SPDX-License-Identifier: Apache-2.0
"""Loads rules into this network namespace by the nft program."""

from __future__ import annotations

import subprocess

from systemvm.service.slowness import scaled_s
from systemvm.service.unix_calls import RefusedError

_NFT_S = 20.0


def load_rules(script: str) -> None:
    """Have nft take its input, as a whole or not at all.

    Raises: RefusedError when it does not.
    """
    try:
        done = subprocess.run(
            ["nft", "-f", "-"],
            input=script,
            capture_output=True,
            text=True,
            timeout=scaled_s(_NFT_S),
            check=False,
        )
    except FileNotFoundError as error:
        raise RefusedError("nft is not installed", "install Debian's nftables") from error
    except subprocess.TimeoutExpired as error:
        raise RefusedError(f"nft did not end within {scaled_s(_NFT_S):.0f} s") from error
    if done.returncode != 0:
        raise RefusedError(f"cannot set the firewall: {done.stderr.strip()[-500:]}")
