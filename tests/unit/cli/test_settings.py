# SPDX-License-Identifier: Apache-2.0
"""`systemvm setting`."""

from __future__ import annotations

from collections.abc import Callable

from click.testing import Result

from fake_daemon import FakeDaemon

MAX = {"name": "consoleproxy.session.max", "value": "60", "defaultvalue": "50", "description": "how many"}


def test_settings_are_listed_changed_and_reset(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        listZones={"zone": [{"id": "z-1", "name": "zone1"}]},
        listConfigurations={"configuration": [MAX]},
        updateConfiguration={"configuration": MAX},
        resetConfiguration={"configuration": MAX | {"value": "50"}},
    )
    assert "consoleproxy.session.max" in run(fake, "setting", "list").output
    done = run(fake, "setting", "set", MAX["name"], "60", "--zone", "zone1")
    assert done.output == "consoleproxy.session.max is 60.\n"
    assert run(fake, "setting", "reset", MAX["name"]).output == "consoleproxy.session.max is 50.\n"
    assert [call for call in fake.calls if not call[0].startswith("list")] == [
        ("updateConfiguration", {"name": MAX["name"], "value": "60", "zoneid": "z-1"}),
        ("resetConfiguration", {"name": MAX["name"]}),
    ]


def test_a_zone_that_does_not_exist_changes_nothing(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(listZones={})
    assert run(fake, "setting", "set", MAX["name"], "60", "--zone", "zone2").exit_code == 1
    assert [name for name, _ in fake.calls] == ["listZones"]


def test_a_secret_is_read_from_standard_input(run: Callable[..., Result]) -> None:
    changed = {"name": "alert.smtp.password", "value": "********"}
    fake = FakeDaemon(updateConfiguration={"configuration": changed})
    done = run(fake, "setting", "set", "alert.smtp.password", standard_input="open sesame\nmore\n")
    assert done.output == "alert.smtp.password is ********.\n"
    assert fake.calls == [("updateConfiguration", {"name": "alert.smtp.password", "value": "open sesame"})]


def test_an_empty_standard_input_changes_nothing(run: Callable[..., Result]) -> None:
    fake = FakeDaemon()
    done = run(fake, "setting", "set", "alert.smtp.password", standard_input="")
    assert done.exit_code == 1 and "value is missing" in done.output
    assert fake.calls == []
