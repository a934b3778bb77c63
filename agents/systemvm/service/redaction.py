# SPDX-License-Identifier: Apache-2.0
"""Takes secrets out of text that leaves a machine: diagnostics, support bundles.

Better too much than too little: what looks like a key, a password or a token goes, and the word stays that
says what it was.
"""

from __future__ import annotations

import re

GONE = "[redacted]"

_KEY_WORD = (
    r"(?:pass(?:word|wd|phrase)?|vmpassword|keystore_password|secret(?:_?key)?|private_?key|api_?key|session_?key"
    r"|token|authorization|cookie|credential|signature|x-signature|jsessionid|certificate|cacertificate)"
)
_RULES = (
    # a key as PEM, whole or cut off at its end
    (
        re.compile(r"-----BEGIN (?P<kind>[A-Z0-9 ]*PRIVATE KEY)-----.*?(?:-----END (?P=kind)-----|\Z)", re.S),
        GONE,
    ),
    # the same on one line, as boot arguments carry it (newline ^, blank ~), and a certificate beside it
    (re.compile(r"LS0tLS1[A-Za-z0-9+/=^~_-]{20,}"), GONE),
    # https://user:password@host
    (re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/\s@\"']+@", re.I), rf"\g<scheme>{GONE}@"),
    # the daemon's first start, shown once in its journal: words in a column
    (re.compile(r"(?P<name>\b(?:login|API key|secret key)[ \t]{2,}(?:\S+ / )?)\S+"), rf"\g<name>{GONE}"),
    # "secretkey": "…", secret_key: …, token=…, Authorization: Bearer …
    (
        re.compile(
            rf"(?P<name>\b[\w.-]*{_KEY_WORD}[\w.-]*[\"']?\s*[=:]\s*)"
            r"(?P<value>\"(?:[^\"\\]|\\.)*\"|'[^']*'|(?:bearer|basic)\s+[^\s,;]+|[^\s,;&\"'}\])]+)",
            re.I,
        ),
        rf"\g<name>{GONE}",
    ),
)


def redact(text: str) -> str:
    """The text without what must not leave.

    >>> redact("GET /console?cmd=auth&token=abc HTTP/1.1")
    'GET /console?cmd=auth&token=[redacted] HTTP/1.1'
    """
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
