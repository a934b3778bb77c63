# SPDX-License-Identifier: Apache-2.0
"""`dataStoreProvider` and `storagetag` objects."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import required_key


@frozen(kw_only=True)
class StorageProviderAnswer:
    name: str = required_key("what createStoragePool and addImageStore take as provider")
    type: str = required_key("primary or image")


@frozen(kw_only=True)
class StorageTagAnswer:
    id: str = required_key("UUID of the tag at its pool")
    name: str = required_key("what offerings ask for")
    poolid: str = required_key("the pool's UUID; CloudStack has its number here")
