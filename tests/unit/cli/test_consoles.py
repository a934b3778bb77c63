# SPDX-License-Identifier: Apache-2.0
"""`systemvm console`."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from fake_daemon import FakeDaemon

MACHINE = {"id": "m-1", "name": "web", "state": "Running"}
SYSTEM_VM = {"id": "s-1", "name": "s-1-VM", "systemvmtype": "secondarystoragevm"}
HASH = "0123456789abcdef" * 4


def daemon(**answers: Any) -> FakeDaemon:
    return FakeDaemon(
        listSystemVms={"systemvm": [SYSTEM_VM]}, listVirtualMachines={"virtualmachine": [MACHINE]}, **answers
    )


def changes(fake: FakeDaemon) -> list[Any]:
    return [call for call in fake.calls if not call[0].startswith("list")]


@pytest.mark.parametrize("arguments", [("web",), ("open", "web"), ("--open", "web"), ("web", "--open")])
def test_the_name_alone_opens_a_console(
    run: Callable[..., Result], arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    fake = daemon(createConsoleEndpoint={"consoleendpoint": {"success": True, "url": "https://cpvm/console"}})
    assert run(fake, "console", *arguments).output == "https://cpvm/console\n"
    assert changes(fake) == [("createConsoleEndpoint", {"virtualmachineid": "m-1"})]
    assert opened == (["https://cpvm/console"] if "--open" in arguments else [])


def test_a_serial_port_is_opened_by_its_kind(run: Callable[..., Result]) -> None:
    fake = daemon(createConsoleEndpoint={"consoleendpoint": {"success": True, "url": "https://cpvm/console"}})
    assert run(fake, "console", "web", "--kind", "serial").output == "https://cpvm/console\n"
    assert changes(fake) == [("createConsoleEndpoint", {"virtualmachineid": "m-1", "kind": "serial"})]


def test_a_console_that_is_refused_is_an_error(run: Callable[..., Result]) -> None:
    refused = {"success": False, "details": "VM web must be running", "hint": "start it"}
    result = run(daemon(createConsoleEndpoint={"consoleendpoint": refused}), "console", "web")
    assert result.exit_code == 1
    assert "VM web must be running" in result.output
    assert "start it" in result.output


URL = {"success": True, "url": "https://cpvm/console"}


def checking(*answers: dict[str, Any]) -> FakeDaemon:
    """Return a daemon whose zone checks the source of links; a link without one is refused first."""
    place = {"host": "127.0.0.1", "port": "8443", "path": "websockify"}
    refused = {"success": False, "details": "address is not known", "hint": "name it", "websocket": place}
    links = [{"consoleendpoint": each} for each in (refused, *answers)]
    sessions = {"consolesession": [{"id": "cs-1"}]}
    return daemon(createConsoleEndpoint=links, watchConsoleSession=links, listConsoleSessions=sessions)


def sources(fake: FakeDaemon) -> list[str | None]:
    return [call[1].get("clientaddress") for call in changes(fake)]


@pytest.mark.parametrize("arguments", [("web", "--open"), ("watch", "cs-1", "--open")])
def test_a_link_that_is_opened_here_is_for_this_hosts_address(
    run: Callable[..., Result], arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webbrowser.open", lambda url: None)
    fake = checking(URL)
    assert run(fake, "console", *arguments).output == "https://cpvm/console\n"
    assert sources(fake) == [None, "127.0.0.1"]


def test_a_printed_link_is_for_the_ssh_client_or_the_address_that_is_named(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "2001:db8::7 50022 2001:db8::1 22")
    fake = checking(URL)
    assert "works from 2001:db8::7 only" in run(fake, "console", "web").output
    assert sources(fake) == [None, "2001:db8::7"]
    fake = daemon(createConsoleEndpoint={"consoleendpoint": URL})
    assert run(fake, "console", "web", "--from", "192.0.2.9").output == "https://cpvm/console\n"
    assert sources(fake) == ["192.0.2.9"]


def test_a_printed_link_for_nobody_is_refused(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    fake = checking()
    result = run(fake, "console", "web")
    assert result.exit_code == 1
    assert "name it" in result.output
    assert sources(fake) == [None]


def test_a_screenshot_is_written(run: Callable[..., Result], tmp_path: Path) -> None:
    screen = {"width": 640, "height": 480, "hash": HASH, "image": base64.b64encode(b"png").decode()}
    fake = daemon(createConsoleScreenshot={"consolescreenshot": dict(screen)})
    file = tmp_path / "shot.png"
    result = run(fake, "console", "screenshot", "s-1-VM", str(file), "--region", "0,0,640,16")
    assert result.output == f"{file}: 640x480 pixels, hash {HASH}\n"
    assert file.read_bytes() == b"png"
    region = {"x": 0, "y": 0, "width": 640, "height": 16}
    assert changes(fake) == [("createConsoleScreenshot", {"virtualmachineid": "s-1"} | region)]
    fake = daemon(createConsoleScreenshot={"consolescreenshot": dict(screen)})
    as_json = run(fake, "--json", "console", "screenshot", "web", str(file))
    assert json.loads(as_json.output) == {"width": 640, "height": 480, "hash": HASH, "file": str(file)}


@pytest.mark.parametrize("region", ["1,2,3", "a,b,c,d", ""])
def test_a_region_of_another_form_is_wrong_usage(run: Callable[..., Result], region: str) -> None:
    result = run(daemon(), "console", "screenshot", "web", "--region", region)
    assert result.exit_code == 2
    assert "four numbers" in result.output


def test_a_long_text_is_typed_in_parts(run: Callable[..., Result]) -> None:
    fake = daemon(typeConsoleText={})
    assert run(fake, "console", "type", "web", "a" * 500, "--keyboard", "de").exit_code == 0
    assert [call[1]["text"] for call in changes(fake)] == ["a" * 500, "\n"]
    assert {call[1]["keyboard"] for call in changes(fake)} == {"de"}


def test_keys_follow_one_another(run: Callable[..., Result]) -> None:
    fake = daemon(sendConsoleKeys={})
    run(fake, "console", "keys", "web", "ctrl+alt+f2", "enter")
    assert changes(fake) == [("sendConsoleKeys", {"virtualmachineid": "m-1", "keys": "ctrl+alt+f2 enter"})]


def test_a_picture_is_waited_for(run: Callable[..., Result]) -> None:
    ended = {"jobstatus": 1, "jobresult": {"consolescreenshot": {"hash": HASH}}}
    fake = daemon(waitForConsoleImage={"jobid": "j-1"}, queryAsyncJobResult=ended)
    assert run(fake, "console", "wait", "web", HASH, "--timeout", "60").output == f"{HASH}\n"
    wanted = {"virtualmachineid": "m-1", "hash": HASH, "changed": False, "timeout": 60}
    assert changes(fake)[0] == ("waitForConsoleImage", wanted)


def test_a_text_is_waited_for(run: Callable[..., Result]) -> None:
    ended = {"jobstatus": 1, "jobresult": {"consolescreentext": {"hash": HASH, "text": "login:"}}}
    fake = daemon(waitForConsoleText={"jobid": "j-1"}, queryAsyncJobResult=ended)
    assert run(fake, "console", "wait", "web", "--text", "login:").output == "login:\n"
    wanted = {"virtualmachineid": "m-1", "text": "login:", "timeout": 300}
    assert changes(fake)[0] == ("waitForConsoleText", wanted)


@pytest.mark.parametrize("options", [(), (HASH, "--text", "a"), ("--text", "a", "--changed")])
def test_a_wait_is_for_a_picture_or_a_text(run: Callable[..., Result], options: tuple[str, ...]) -> None:
    result = run(daemon(), "console", "wait", "web", *options)
    assert result.exit_code == 2
    assert "HASH" in result.output


def test_words_on_a_screen_are_printed(run: Callable[..., Result]) -> None:
    fake = daemon(readConsoleText={"consolescreentext": {"text": "host login:", "hash": HASH}})
    assert run(fake, "console", "read", "web").output == "host login:\n"


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ((), {}),
        (("--view-only",), {"viewonly": "true"}),
        (("--takeover",), {"takeover": "true"}),
        (("--clipboard", "to-guest"), {"clipboardfromguest": "false"}),
        (("--clipboard", "from-guest"), {"clipboardtoguest": "false"}),
        (("--clipboard", "none"), {"clipboardfromguest": "false", "clipboardtoguest": "false"}),
    ],
)
def test_a_console_link_has_the_limits_that_are_asked_for(
    run: Callable[..., Result], options: tuple[str, ...], parameters: dict[str, str]
) -> None:
    fake = FakeDaemon(
        listSystemVms={},
        listVirtualMachines={"virtualmachine": [{"id": "m-1", "name": "web", "instancename": "i-2-3-VM"}]},
        createConsoleEndpoint={"consoleendpoint": {"success": True, "url": "https://c.example.test/"}},
    )
    assert run(fake, "console", "web", *options).output == "https://c.example.test/\n"
    assert fake.calls[-1] == ("createConsoleEndpoint", {"virtualmachineid": "m-1"} | parameters)


def test_open_consoles_are_listed_and_closed(run: Callable[..., Result]) -> None:
    session = {
        "id": "c-1",
        "virtualmachinename": "web",
        "user": "ulla",
        "clientaddress": "198.51.100.9",
        "connected": True,
        "sentbytes": 2048,
        "receivedbytes": 0,
    }
    ended = session | {"id": "c-2", "removed": "2026-11-29T05:00:00+0000", "closecode": "session_idle"}
    watching = session | {"id": "c-3", "watches": "c-1"}
    fake = daemon(
        listConsoleSessions={"consolesession": [session, ended, watching]},
        endConsoleSession={"success": True},
    )
    listed = run(fake, "console", "list", "--all").output
    assert "connected, watches" in listed
    assert ("connected" in listed, "session_idle" in listed, "2.0 KiB" in listed) == (True, True, True)
    assert fake.calls[-1] == ("listConsoleSessions", {"activeonly": "false", "acquired": "true"})
    assert json.loads(run(fake, "--json", "console", "list").output)[0]["id"] == "c-1"
    assert fake.calls[-1] == ("listConsoleSessions", {})
    assert run(fake, "console", "close", "c-1").output == "Console c-1 is closed.\n"
    assert changes(fake) == [("endConsoleSession", {"id": "c-1"})]


def test_no_open_console_is_said(run: Callable[..., Result]) -> None:
    assert run(daemon(listConsoleSessions={}), "console", "list").output == "No console is open.\n"


def test_an_open_console_is_watched_by_its_id_or_its_machine(run: Callable[..., Result]) -> None:
    row = {"id": "c-1", "virtualmachinename": "web"}
    link = {"consoleendpoint": {"success": True, "url": "https://cpvm/console"}}
    fake = daemon(listConsoleSessions={"consolesession": [row]}, watchConsoleSession=link)
    for name in ("c-1", "web"):
        assert run(fake, "console", "watch", name).output == "https://cpvm/console\n"
    assert changes(fake) == [
        ("watchConsoleSession", {"id": "c-1"}),
        ("watchConsoleSession", {"virtualmachineid": "m-1"}),
    ]
    refused = {"consoleendpoint": {"success": False, "details": "nobody has the console of web open"}}
    result = run(daemon(listConsoleSessions={}, watchConsoleSession=refused), "console", "watch", "web")
    assert (result.exit_code, "nobody has" in result.output) == (1, True)
