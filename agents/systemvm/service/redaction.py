# SPDX-License-Identifier: Apache-2.0
"""Takes secrets out of text that leaves a machine or its owner: diagnostics, support bundles, others' URLs.

Better too much than too little: what looks like a key, a password or a token goes, and the word stays that
says what it was.
"""

from __future__ import annotations

import re

REDACTED = "[redacted]"

_KEY_WORD = (
    r"(?:pass(?:word|wd|phrase)?|vmpassword|keystore_password|secret(?:_?key)?|private_?key|api_?key|session_?key"
    r"|token|authorization|cookie|credential|signature|x-signature|jsessionid|certificate|cacertificate)"
)
_RULES = (
    # a key as PEM, whole or cut off at its end
    (
        re.compile(r"-----BEGIN (?P<kind>[A-Z0-9 ]*PRIVATE KEY)-----.*?(?:-----END (?P=kind)-----|\Z)", re.S),
        REDACTED,
    ),
    # the same on one line, as boot arguments carry it (newline ^, blank ~), and a certificate beside it
    (re.compile(r"LS0tLS1[A-Za-z0-9+/=^~_-]{20,}"), REDACTED),
    # the daemon's first start, shown once in its journal: words in a column
    (re.compile(r"(?P<name>\b(?:login|API key|secret key)[ \t]{2,}(?:\S+ / )?)\S+"), rf"\g<name>{REDACTED}"),
    # "secretkey": "…", secret_key: …, token=…, Authorization: Bearer …
    (
        re.compile(
            rf"(?P<name>\b[\w.-]*{_KEY_WORD}[\w.-]*[\"']?\s*[=:]\s*)"
            r"(?P<value>\"(?:[^\"\\]|\\.)*\"|'[^']*'|(?:bearer|basic)\s+[^\s,;]+|[^\s,;&\"'}\])]+)",
            re.I,
        ),
        rf"\g<name>{REDACTED}",
    ),
)


_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>\\]+", re.I)


def redact_url(url: str) -> str:
    """A URL without its user part, its query and its fragment, which may hold a password or a signature.

    >>> redact_url("https://user:pw@images.example.test/a.qcow2?X-Amz-Signature=abc")
    'https://[redacted]@images.example.test/a.qcow2?[redacted]'
    """
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "", url
    end = min((rest.find(stop) for stop in "/?#" if stop in rest), default=len(rest))
    authority, tail = rest[:end], rest[end:]
    _, has_user, host = authority.rpartition("@")
    path = re.split(r"[?#]", tail, maxsplit=1)
    shown = f"{scheme}{mark}{f'{REDACTED}@' if has_user else ''}{host}{path[0]}"
    return f"{shown}{tail[len(path[0])]}{REDACTED}" if len(path) > 1 else shown


def redact_urls(text: str) -> str:
    """A text whose URLs have lost what `redact_url` takes away, for logs and events that others may read."""
    return _URL.sub(lambda found: redact_url(found[0]), text) if "://" in text else text


def redact(text: str) -> str:
    """The text without what must not leave.

    >>> redact("GET /console?cmd=auth&token=abc HTTP/1.1")
    'GET /console?cmd=auth&token=[redacted] HTTP/1.1'
    """
    text = redact_urls(text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
