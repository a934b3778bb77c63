# SPDX-License-Identifier: Apache-2.0
"""Redaction of secrets in every form that logs and files contain."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.management.first_start import FirstLogin, announce
from systemvm.service.redaction import redact, redact_url, redact_urls

CANARY = "canary-b5d1f0"
PEM = f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    "text",
    [
        PEM,
        f"-----BEGIN EC PRIVATE KEY-----\n{CANARY}",  # the log was truncated
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{CANARY}\n-----END OPENSSH PRIVATE KEY-----",
        f"type=secstorage keystore_password={CANARY} zone=1",
        f"vmpassword={CANARY}",
        f"privatekey={base64.b64encode(PEM.encode()).decode()} name=s-1-VM".replace("canary", CANARY),
        f"certificate={CANARY}~x^y",
        json.dumps({"secretkey": CANARY, "apiKey": CANARY}),
        json.dumps({"private_key_pem": f'a"{CANARY}'}),
        f"password: {CANARY}",
        f"'password': '{CANARY}'",
        f"https://user:{CANARY}@images.example.test/x.qcow2",
        f"Authorization: Bearer {CANARY}",
        f"Cookie: JSESSIONID={CANARY}; other=1",
        f"GET /console?cmd=auth&token={CANARY}&x=1",
        f"https://h/client/api?command=x&apikey={CANARY}&signature={CANARY}",
        f"vnc_password = {CANARY}",
        f"X-Signature: {CANARY}",
        f"https://store.example.test/x.qcow2?sv=2026&sig={CANARY}",
        f'{{"url": "http://h/x?Policy={CANARY}&Key-Pair-Id=1"}}',
        f"ftp://{CANARY}@h/x",
        f"https://h/x#access={CANARY}",
    ],
)
def test_no_secret_survives(text: str) -> None:
    assert CANARY not in redact(text)
    assert "[redacted]" in redact(text)


def test_the_first_login_is_redacted_from_a_journal(capsys: pytest.CaptureFixture[str]) -> None:
    login = FirstLogin(username="admin", password=CANARY, api_key=CANARY + "a", secret_key=CANARY + "s")
    announce(login, "http://127.0.0.1:8080", Path("/first-login.json"), {"JOURNAL_STREAM": "1:2"})
    shown = capsys.readouterr().err
    assert shown.count(CANARY) == 3
    journal = "".join(f"Nov 01 12:00:00 host managementd[1]: {line}\n" for line in shown.splitlines())
    assert CANARY not in redact(journal)


def test_text_without_secrets_is_unchanged() -> None:
    text = (
        "eth0ip=169.254.3.4 eth0mask=255.255.0.0 gateway=203.0.113.1 name=s-1-VM\n"
        "2026-11-01T12:00:00 systemvm-agent[80]: connected to 169.254.0.1:8250\n"
        "https://images.example.test/tiny.qcow2 answered 404\n"
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    )
    assert redact(text) == text


@given(st.text(max_size=300))
def test_redaction_is_idempotent(text: str) -> None:
    assert isinstance(redact(text), str)
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/x.qcow2", "https://h/x.qcow2"),
        ("https://h:8443", "https://h:8443"),
        ("https://h/x?", "https://h/x?[redacted]"),
        ("https://h?a=b", "https://h?[redacted]"),
        ("https://h/x?a=https://i/?b=c", "https://h/x?[redacted]"),
        ("https://h/x#f?y", "https://h/x#[redacted]"),
        ("https://u:p@h/x?a=b", "https://[redacted]@h/x?[redacted]"),
        ("https://u:p@q@h/x", "https://[redacted]@h/x"),
        ("https://h/a@b", "https://h/a@b"),
        ("https://[2001:db8::1]:80/x?y", "https://[2001:db8::1]:80/x?[redacted]"),
        ("nfs://10.12.0.2/export/secondary", "nfs://10.12.0.2/export/secondary"),
        ("", ""),
        ("no url?x", "no url?[redacted]"),
    ],
)
def test_a_url_is_shown_without_user_query_and_fragment(url: str, shown: str) -> None:
    assert redact_url(url) == shown
    assert redact_url(shown) == shown, "redaction is idempotent"


@given(
    user=st.from_regex(r"[a-z0-9:%-]{0,12}", fullmatch=True),
    path=st.from_regex(r"(/[a-z0-9@._-]{0,8}){0,3}", fullmatch=True),
    query=st.text(
        st.characters(codec="ascii", exclude_characters=" \t\n\r\x0b\x0c\"'<>\\", min_codepoint=33)
    ),
)
def test_no_query_survives_in_any_text(user: str, path: str, query: str) -> None:
    url = f"https://{user + '@' if user else ''}h.example.test{path}?k={CANARY}{query}"
    assert CANARY not in redact_urls(f"it fails: {url} and so on")
