# SPDX-License-Identifier: Apache-2.0
"""Messages about consoles, spoken with CPVMs."""

from __future__ import annotations

from attrs import field, frozen

CONSOLE_SETUP = "console.setup"  # daemon → agent: public certificate and advertised endpoint; idempotent
CONSOLE_AUTHORIZE = "console.authorize"  # agent → daemon: spends a token, atomically
CONSOLE_TARGET = "console.target"  # agent → daemon: where a session's VM is now, asked at every connection
CONSOLE_CLOSED = "console.closed"  # agent → daemon: a call, the session row ends with it
CONSOLE_LOAD = "console.load"  # agent → daemon, notification


@frozen
class ConsoleSetup:
    """How browsers reach this CPVM: every URL, Host check and Origin check comes from `origin`."""

    origin: str  # e.g. https://127.0.0.1:8443
    certificate_pem: str = field(repr=False)  # leaf first, then the chain
    private_key_pem: str = field(repr=False)


@frozen
class ConsoleAuthorize:
    token: str = field(repr=False)
    client_address: str
    request_id: str


@frozen
class ConsoleSession:
    session_id: str
    virtual_machine_id: str
    display_name: str
    lifetime_s: float  # how long the browser's cookie may open new connections


@frozen
class ConsoleTargetRequest:
    session_id: str
    request_id: str


@frozen
class ConsoleTarget:
    host: str
    port: int
    password: str | None = field(repr=False)


@frozen
class ConsoleClosed:
    session_id: str
    reason: str


@frozen
class ConsoleLoad:
    session_ids: list[str]
