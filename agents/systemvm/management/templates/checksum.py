# SPDX-License-Identifier: Apache-2.0
"""CloudStack's checksums as users write them: `{ALG}hex`, MD5 without a prefix (reference 2.9)."""

from __future__ import annotations

import re

#: Hex digits of each algorithm's digest.
HEX_LENGTHS = {"MD5": 32, "SHA-1": 40, "SHA-224": 56, "SHA-256": 64, "SHA-384": 96, "SHA-512": 128}

_SYNTAX = re.compile(r"\A(?:\{(?P<algorithm>[^{}]*)\})?(?P<digest>.*)\Z", re.DOTALL)


def normal_form(text: str) -> str:
    """`{SHA-256}` and lower-case hex, zeros added in front as CloudStack does; ValueError says what is wrong.

    Upstream takes any text and finds out when the whole file is there. What is certain to fail is said now.
    """
    match = _SYNTAX.match(text.strip())
    if match is None:
        raise ValueError("write it as {ALGORITHM}hex")
    algorithm = (match["algorithm"] if match["algorithm"] is not None else "MD5").strip().upper()
    if algorithm in ("SHA1", "SHA224", "SHA256", "SHA384", "SHA512"):
        algorithm = f"SHA-{algorithm[3:]}"
    if algorithm not in HEX_LENGTHS:
        raise ValueError(f"unknown algorithm {algorithm[:32]!r}; known: {', '.join(HEX_LENGTHS)}")
    digest = match["digest"].strip().lower()
    if not re.fullmatch(r"[0-9a-f]+", digest):
        raise ValueError(f"the digest of {algorithm} is not hexadecimal")
    if len(digest) < HEX_LENGTHS["MD5"] and match["algorithm"] is None:
        raise ValueError("without {ALGORITHM} in front it is taken for MD5, which has 32 hex digits")
    if len(digest) > HEX_LENGTHS[algorithm]:
        raise ValueError(f"{algorithm} has {HEX_LENGTHS[algorithm]} hex digits, not {len(digest)}")
    return f"{{{algorithm}}}{digest.zfill(HEX_LENGTHS[algorithm])}"
