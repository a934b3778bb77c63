# SPDX-License-Identifier: Apache-2.0
"""`systemvm tag` and `systemvm annotation`: keys, values and texts of any object, which is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from fake_daemon import FakeDaemon

ANNOTATION = {
    "id": "a-1", "entitytype": "HOST", "entityid": "h-1", "entityname": "kvm1",
    "annotation": "disk 2 is slow", "userid": "u-1", "username": "ada", "adminsonly": True,
    "created": "2026-01-02T03:04:05+0000",
}  # fmt: skip
TAG = {"key": "env", "value": "live", "resourcetype": "UserVm", "resourceid": "v-1", "account": "ada"}
RESULTS: dict[str, Any] = {
    "listVirtualMachines": {"virtualmachine": [{"id": "v-1", "name": "web"}, {"id": "v-2", "name": "db"}]},
    "listHosts": {"host": [{"id": "h-1", "name": "kvm1"}]},
    "listTags": {"tag": [TAG]},
    "createTags": {"jobid": "j"},
    "deleteTags": {"jobid": "j"},
    "queryAsyncJobResult": {"jobstatus": 1, "jobresult": {"success": True}},
    "addAnnotation": {"annotation": ANNOTATION},
    "removeAnnotation": {"annotation": ANNOTATION},
    "listAnnotations": {"annotation": [ANNOTATION]},
}


@pytest.fixture
def daemon() -> FakeDaemon:
    return FakeDaemon(**RESULTS)


VM = {"resourceids": "v-1", "resourcetype": "UserVm"}


@pytest.mark.parametrize(
    ("arguments", "command", "params", "text"),
    [
        (
            ("tag", "add", "vm", "web", "env=live", "a=b=c"), "createTags",
            VM | {"tags[0].key": "env", "tags[0].value": "live", "tags[1].key": "a", "tags[1].value": "b=c"},
            "vm web is tagged: env=live, a=b=c.",
        ),
        (
            ("tag", "delete", "vm", "v-1", "env", "a=b"), "deleteTags",
            VM | {"tags[0].key": "env", "tags[1].key": "a", "tags[1].value": "b"},
            "vm v-1 has lost env, a=b.",
        ),
        (("tag", "delete", "vm", "web"), "deleteTags", VM, "vm web has lost its tags."),
        (
            ("tag", "list", "vm", "web", "--key", "env"), "listTags",
            {"listall": "true", "resourcetype": "UserVm", "resourceid": "v-1", "key": "env"},
            "live",
        ),
        (
            ("annotation", "add", "host", "kvm1", "disk 2 is slow", "--admins-only"), "addAnnotation",
            {
                "annotation": "disk 2 is slow", "entitytype": "HOST", "entityid": "h-1", "adminsonly": "true",
            },
            "host kvm1 is annotated: a-1.",
        ),
        (("annotation", "remove", "a-1"), "removeAnnotation", {"id": "a-1"}, "annotation a-1 is removed."),
        (("annotation", "list"), "listAnnotations", {}, "host kvm1"),
        (
            ("annotation", "list", "host", "kvm1"), "listAnnotations",
            {"entitytype": "HOST", "entityid": "h-1"}, "administrators",
        ),
    ],
)  # fmt: skip
def test_each_verb_calls_its_command(
    run: Callable[..., Result],
    daemon: FakeDaemon,
    arguments: tuple[str, ...],
    command: str,
    params: dict[str, str],
    text: str,
) -> None:
    result = run(daemon, *arguments)
    assert text in result.output, result.output
    assert (command, params) in daemon.calls


@pytest.mark.parametrize("text", ["env", "=live"])
def test_a_tag_without_key_or_value_is_refused(
    run: Callable[..., Result], daemon: FakeDaemon, text: str
) -> None:
    result = run(daemon, "tag", "add", "vm", "web", text)
    assert (result.exit_code, "is not KEY=VALUE" in result.output) == (2, True)
    assert daemon.calls == []


def test_an_unknown_object_is_refused_with_those_that_there_are(
    run: Callable[..., Result], daemon: FakeDaemon
) -> None:
    result = run(daemon, "annotation", "add", "vm", "mail", "x")
    assert result.exit_code == 1
    assert "choose one of these: db, web" in result.output


def test_lists_are_printed_as_json(run: Callable[..., Result], daemon: FakeDaemon) -> None:
    for arguments, rows in ((("tag", "list"), [TAG]), (("annotation", "list"), [ANNOTATION])):
        assert json.loads(run(daemon, "--json", *arguments).output) == rows


@pytest.mark.parametrize(
    "text", ["[/etc/fstab] is full", "disk [sda] is slow", "[link=http://x.test]here[/link]"]
)
def test_what_users_write_is_printed_as_it_is(run: Callable[..., Result], text: str) -> None:
    """It once ended the list, or lost what was in brackets: it was taken for markup."""
    daemon = FakeDaemon(
        listAnnotations={"annotation": [ANNOTATION | {"annotation": text}]},
        listTags={"tag": [TAG | {"value": text}]},
    )
    for group in ("annotation", "tag"):
        result = run(daemon, group, "list")
        assert (result.exit_code, text in result.output) == (0, True), result.output
