# SPDX-License-Identifier: Apache-2.0
"""Removes secrets from text that others can read: diagnostics, support bundles, logs, URLs.

Rather too much than too little: everything that looks like a key, a password or a token is replaced; the word
that names it stays.
"""

from __future__ import annotations

import re

REDACTED = "[redacted]"

_KEY_WORD = (
    r"(?:pass(?:word|wd|phrase)?|vmpassword|keystore_password|secret(?:_?key)?|private_?key|api_?key|session_?key"
    r"|token|authorization|cookie|credential|signature|x-signature|jsessionid|certificate|cacertificate)"
)
_RULES = (
    # a key as PEM, complete or truncated
    (
        re.compile(r"-----BEGIN (?P<kind>[A-Z0-9 ]*PRIVATE KEY)-----.*?(?:-----END (?P=kind)-----|\Z)", re.S),
        REDACTED,
    ),
    # the same on one line, as boot arguments carry it (newline ^, blank ~), and a certificate beside it
    (re.compile(r"LS0tLS1[A-Za-z0-9+/=^~_-]{20,}"), REDACTED),
    # the login of the daemon's first start, as columns in its journal
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
    """Return a URL without user part, query and fragment, which can contain a password or a signature.

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
    """Return a text with all URLs redacted, for logs and events that others can read."""
    return _URL.sub(lambda found: redact_url(found[0]), text) if "://" in text else text


def redact(text: str) -> str:
    """Return the text without secrets.

    >>> redact("GET /console?cmd=auth&token=abc HTTP/1.1")
    'GET /console?cmd=auth&token=[redacted] HTTP/1.1'
    """
    text = redact_urls(text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
