# SPDX-License-Identifier: Apache-2.0
"""A template that is in a bucket."""

from __future__ import annotations

from small_cloud import SmallCloud
from systemvm.management.image_stores.buckets import BucketDefinition, StoreKeys
from systemvm.management.state import templates, zones
from systemvm.management.state.templates import Template
from systemvm.wire.storage import DownloadState

DETAILS = {"accesskey": "AKID", "secretkey": "very-secret", "endpoint": "s3.example.test", "bucket": "images"}


def in_bucket(cloud: SmallCloud, **more: str) -> Template:
    """Return a template that is Ready in a bucket only."""
    definition = BucketDefinition.of_details(DETAILS | more)
    store = cloud.database.run_now(
        zones.add_store, name="bucket", zone_id=cloud.zone.id, url=definition.bucket.url, provider=zones.S3
    )
    cloud.database.run_now(StoreKeys(cloud.seal).keep, store.id, definition)
    template, ref = cloud.add_template()
    cloud.database.run_now(
        templates.update_store_ref,
        ref.id,
        store_id=store.id,
        state=DownloadState.DOWNLOADED,
        install_path=f"template/tmpl/2/{template.id}/a.qcow2",
    )
    return template
