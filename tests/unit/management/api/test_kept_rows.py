# SPDX-License-Identifier: Apache-2.0
"""Rows that are written already are used again only while they are made of the same objects."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
import pytest_twisted
from attrs import frozen

from api_client import Browser
from small_cloud import SmallCloud
from systemvm.management.api.answers.keys import required_key
from systemvm.management.api.kept_rows import KeptRow, KeptRows
from systemvm.management.state import schema, tags, templates
from systemvm.management.state.database import Connection


@frozen
class Answer:
    name: str = required_key("a name", key="displayName")


@pytest.fixture
def names() -> Iterator[str]:
    return iter("abcdef")


def get(rows: KeptRows[Answer], names: Iterator[str], key: object, *made_of: object) -> KeptRow[Answer]:
    return rows.get(key, made_of, lambda: Answer(next(names)))


def test_a_row_is_made_again_when_one_of_its_objects_is_another(names: Iterator[str]) -> None:
    rows: KeptRows[Answer] = KeptRows()
    one, equal, more = [1], [1], [2]
    first = get(rows, names, 1, one)
    assert (first.answer, bytes(first.json)) == (Answer("a"), b'{"displayName":"a"}')
    assert get(rows, names, 1, one) is first
    assert get(rows, names, 2, one).answer.name == "b"
    assert get(rows, names, 1, equal).answer.name == "c"
    assert get(rows, names, 1, equal, more).answer.name == "d"
    assert get(rows, names, 1, equal).answer.name == "e"


def test_the_number_of_rows_is_limited(names: Iterator[str]) -> None:
    rows: KeptRows[Answer] = KeptRows(2)
    made_of = [1]
    for key in range(3):
        get(rows, names, key, made_of)
    assert get(rows, names, 2, made_of).answer.name == "c"
    assert get(rows, names, 0, made_of).answer.name == "d"


@pytest_twisted.ensureDeferred
async def test_a_joined_answer_is_the_one_that_is_written_as_a_whole(
    cloud: SmallCloud, browser: Browser
) -> None:
    """JSON is joined of rows; operators' JSON-RPC and XML are written of the same rows as a whole."""
    template, ref = cloud.add_template()
    cloud.add_template(name="another")
    await browser.login()

    async def check() -> None:
        answer = await browser.call("listTemplates", templatefilter="all")
        whole = await cloud.call("listTemplates", templatefilter="all")
        assert answer.json == {"listtemplatesresponse": msgspec.to_builtins(whole)}

    def tag(connection: Connection) -> None:
        tags.add(connection, "Template", template.uuid, cloud.admin.account.id, {"team": "a"})

    def rename_owner(connection: Connection) -> None:
        connection.execute(schema.accounts.update().values(name=schema.accounts.c.name + "x"))

    await check()
    for change in (
        lambda connection: templates.update_store_ref(connection, ref.id, percent=17),
        lambda connection: templates.update(connection, template.id, name="renamed"),
        tag,
        rename_owner,
    ):
        cloud.database.run_now(change)
        await check()


@pytest_twisted.ensureDeferred
async def test_a_row_for_its_owner_is_not_shown_to_others(cloud: SmallCloud, browser: Browser) -> None:
    """The query of a URL can contain a signature."""
    url = "https://images.example.test/a.qcow2?signature=secret"
    cloud.add_template(url=url, public=True, featured=True)
    other = Browser(cloud)
    other.site = browser.site
    await browser.login()
    await other.login("ulla", "battery staple")
    for _ in range(2):
        for_owner = await browser.call("listTemplates", templatefilter="featured")
        for_others = await other.call("listTemplates", templatefilter="featured")
        assert b"signature=secret" in for_owner.body
        assert b"secret" not in for_others.body and b"a.qcow2" in for_others.body
