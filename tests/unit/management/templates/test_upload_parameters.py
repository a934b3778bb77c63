# SPDX-License-Identifier: Apache-2.0
"""The parameters of uploads: what they are signed with, and which are refused."""

from __future__ import annotations

import base64
import hmac
from uuid import UUID

import pytest
import pytest_twisted
import sqlalchemy as sa

from small_cloud import ORIGIN, SmallCloud
from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.state import schema, secrets, templates
from systemvm.management.state.columns import now
from systemvm.management.templates.upload_signing import KEY_NAME
from template_downloads import DONE, refs_of
from template_uploads import ADDRESS, begin, end, orders, receive_uploads, refusal


@pytest.fixture(autouse=True)
def receiver(cloud: SmallCloud) -> None:
    receive_uploads(cloud)


@pytest_twisted.ensureDeferred
async def test_parameters_are_signed_as_cloudstack_does(cloud: SmallCloud) -> None:
    params = await begin(cloud)
    assert sorted(params) == ["expires", "id", "metadata", "postURL", "signature"]
    origin, _, upload_id = params["postURL"].rpartition("/upload/")
    assert origin == f"https://{ADDRESS}" and str(UUID(upload_id)) == upload_id
    sealed = cloud.database.run_now(secrets.sealed, KEY_NAME)
    assert sealed is not None
    text = params["metadata"] + params["postURL"] + params["expires"]
    digest = hmac.digest(cloud.seal.open(sealed).encode(), text.encode(), "sha1")
    assert base64.b64decode(params["signature"]) == digest


@pytest_twisted.ensureDeferred
async def test_ssvm_gets_the_same_values_and_never_the_key(cloud: SmallCloud) -> None:
    digest = "{SHA-256}" + "0" * 64
    params = await begin(cloud, cloud.user, checksum="0" * 64, ispublic="true")
    [order] = orders(cloud)
    assert (order.post_url, order.metadata, order.expires, order.signature) == (
        params["postURL"], params["metadata"], params["expires"], params["signature"],
    )  # fmt: skip
    assert 3590 < order.expires_unix_s - now().timestamp() <= 3600
    assert (order.checksum, order.public, order.allowed_origins) == (digest, True, [ORIGIN])
    assert (order.account_id, order.store) == (cloud.user.account.id, cloud.store.wire)
    assert order.max_size_bytes == cloud.settings.max_template_size_bytes("zone1")
    key = cloud.seal.open(cloud.database.run_now(secrets.sealed, KEY_NAME) or b"")
    assert key not in str(order) and order.signature not in str(order)
    rows = cloud.database.run_now(lambda c: c.execute(sa.select(schema.secrets)).all())
    assert len(rows) == 1 and key not in str(rows)


@pytest_twisted.ensureDeferred
async def test_zone_decides_how_long_parameters_are_valid_and_their_address(cloud: SmallCloud) -> None:
    cloud.settings.storage = SecondaryStorageConfig(
        origin="https://*.images.example.test:8443", upload_operation_timeout=120
    )
    params = await begin(cloud)
    assert params["postURL"].startswith("https://203-0-113-101.images.example.test:8443/upload/")
    assert 110 < orders(cloud)[0].expires_unix_s - now().timestamp() <= 120


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("kind", "parameters", "code", "named"),
    [
        ("Template", {"format": "ISO"}, 431, "format"),
        ("Template", {"format": "FLOPPY"}, 431, "format"),
        ("Template", {"hypervisor": "VMware"}, 431, "hypervisor"),
        ("Template", {"name": " "}, 431, "name"),
        ("Template", {"checksum": "https://x.test/SHA256SUMS"}, 431, "checksum"),
        ("Template", {"checksum": "{SHA-256}xyz"}, 431, "checksum"),
        ("Template", {"zoneid": "-1"}, 431, "zoneid"),
        ("Template", {"isfeatured": "true"}, 431, "isfeatured"),
        ("Template", {"url": "https://x.test/a.qcow2"}, 431, "url"),
        ("Template", {"account": "admin"}, 431, "domainid"),
        ("Template", {"bits": "32"}, 431, "bits"),
        ("Iso", {"format": "QCOW2"}, 431, "format"),
        ("Iso", {"hypervisor": "KVM"}, 431, "hypervisor"),
    ],
)
async def test_wrong_parameters_are_refused_by_name(
    cloud: SmallCloud, kind: str, parameters: dict[str, str], code: int, named: str
) -> None:
    with refusal() as refused:
        await begin(cloud, cloud.user, kind, **parameters)
    assert (refused[0].code, named in refused[0].message) == (code, True)
    assert refs_of(cloud) == [] and orders(cloud) == []


@pytest_twisted.ensureDeferred
async def test_accounts_have_a_limited_number_of_unfinished_uploads(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("systemvm.management.templates.uploads.MAX_UPLOADS_OF_ACCOUNT", 2)
    for name in ("a", "b"):
        await begin(cloud, cloud.user, name=name)
    with refusal() as refused:
        await begin(cloud, cloud.user, name="c")
    assert refused[0].code == 533 and "maximum is 2" in refused[0].message
    await begin(cloud, name="of another account")
    await end(cloud, DONE)  # that one
    with refusal():
        await begin(cloud, cloud.user, name="c")


@pytest_twisted.ensureDeferred
async def test_upload_stays_within_the_storage_of_its_account(cloud: SmallCloud) -> None:
    cloud.settings.storage = SecondaryStorageConfig(max_account_secondary_storage_gib=1)
    _, ref = cloud.add_template(owner=cloud.user, name="first")
    for left_bytes in (4096, 0):
        size = (1 << 30) - left_bytes
        cloud.database.run_now(templates.update_store_ref, ref.id, state=DONE, physical_size_bytes=size)
        if left_bytes:
            await begin(cloud, cloud.user)
    [order] = orders(cloud)
    assert order.max_size_bytes == 4096
    with refusal() as refused:
        await begin(cloud, cloud.user, name="another")
    assert refused[0].code == 533 and "limit is 1 GiB" in refused[0].message
    assert len(refs_of(cloud)) == 2  # nothing is left of it
    await begin(cloud, name="administrators have no limit")
    assert orders(cloud)[1].max_size_bytes == cloud.settings.max_template_size_bytes("zone1")
