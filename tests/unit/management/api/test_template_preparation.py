# SPDX-License-Identifier: Apache-2.0
"""prepareTemplate copies a template to this host's primary storage, once."""

from __future__ import annotations

import pytest
import pytest_twisted
import sqlalchemy as sa

from api_requests import NOWHERE, refusal
from settling import settled
from small_cloud import SmallCloud
from systemvm.management.api.errors import ErrorCode
from systemvm.management.state import schema
from systemvm.management.state.status import SpoolState
from systemvm.wire.storage import DownloadState


def copies(cloud: SmallCloud) -> list[SpoolState]:
    query = sa.select(schema.template_spool_refs.c.state)
    return list(cloud.database.run_now(lambda connection: connection.execute(query).scalars().all()))


@pytest_twisted.ensureDeferred
async def test_a_prepared_template_is_on_primary_storage(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template(name="tiny")
    [pool] = (await cloud.call("listStoragePools"))["storagepool"]
    given = {"zoneid": cloud.zone.uuid, "templateid": template.uuid}
    for more in ({}, {"storageid": pool["id"]}):
        answer = await cloud.call("prepareTemplate", **given, **more)
        assert [(row["id"], row["zoneid"]) for row in answer["template"]] == [
            (template.uuid, cloud.zone.uuid)
        ]
        await settled(cloud.database)
        assert copies(cloud) == [SpoolState.READY]
    assert len(cloud.primary.copied) == 1, "a copy that is there is not made again"


@pytest_twisted.ensureDeferred
async def test_a_copy_that_failed_is_made_by_the_next_call(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template(name="tiny")
    given = {"zoneid": cloud.zone.uuid, "templateid": template.uuid}
    cloud.primary.fails_with = OSError("no room")
    await cloud.call("prepareTemplate", **given)
    await settled(cloud.database)
    assert copies(cloud) == [SpoolState.ERROR]
    cloud.primary.fails_with = None
    await cloud.call("prepareTemplate", **given)
    await settled(cloud.database)
    assert copies(cloud) == [SpoolState.READY]


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_prepared_is_refused(cloud: SmallCloud) -> None:
    unready, _ = cloud.add_template(name="later", state=DownloadState.NOT_DOWNLOADED)
    ready, _ = cloud.add_template(name="tiny")
    error = await refusal(cloud, "prepareTemplate", zoneid=cloud.zone.uuid, templateid=unready.uuid)
    assert (error.code, "not Ready" in error.message) == (ErrorCode.PARAMETER, True)
    given = {"zoneid": cloud.zone.uuid, "templateid": ready.uuid}
    for name in ("zoneid", "templateid", "storageid"):
        with pytest.raises(LookupError):
            await cloud.call("prepareTemplate", **given | {name: NOWHERE})
    assert (await refusal(cloud, "prepareTemplate", cloud.user, **given)).code is ErrorCode.UNSUPPORTED
    assert copies(cloud) == []
