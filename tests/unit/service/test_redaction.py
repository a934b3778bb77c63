# SPDX-License-Identifier: Apache-2.0
"""Canaries in every form in which a secret has been seen in a log or a file."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.management.first_start import FirstLogin, announce
from systemvm.service.redaction import redact

CANARY = "canary-b5d1f0"
PEM = f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    "text",
    [
        PEM,
        f"-----BEGIN EC PRIVATE KEY-----\n{CANARY}",  # the log was cut off
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
    ],
)
def test_no_canary_leaves(text: str) -> None:
    assert CANARY not in redact(text)
    assert "[redacted]" in redact(text)


def test_the_first_login_of_a_journal_stays_there(capsys: pytest.CaptureFixture[str]) -> None:
    login = FirstLogin(username="admin", password=CANARY, api_key=CANARY + "a", secret_key=CANARY + "s")
    announce(login, "http://127.0.0.1:8080", Path("/first-login.json"), {"JOURNAL_STREAM": "1:2"})
    shown = capsys.readouterr().err
    assert shown.count(CANARY) == 3
    journal = "".join(f"Nov 01 12:00:00 host managementd[1]: {line}\n" for line in shown.splitlines())
    assert CANARY not in redact(journal)


def test_what_is_no_secret_stays() -> None:
    text = (
        "eth0ip=169.254.3.4 eth0mask=255.255.0.0 gateway=203.0.113.1 name=s-1-VM\n"
        "2026-11-01T12:00:00 systemvm-agent[80]: connected to 169.254.0.1:8250\n"
        "https://images.example.test/tiny.qcow2 answered 404\n"
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    )
    assert redact(text) == text


@given(st.text(max_size=300))
def test_any_text_is_taken(text: str) -> None:
    assert isinstance(redact(text), str)
    assert redact(redact(text)) == redact(text)
