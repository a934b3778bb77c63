# SPDX-License-Identifier: Apache-2.0
"""The published templates of a bucket, at CloudStack's keys: one is there when its properties are.

A mover has stored the image under its final key before; template.properties, which is written last, makes
both a template.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from attrs import evolve

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.properties import foreign, template
from systemvm.ssvm.properties.foreign import ForeignProperties, PropertiesError
from systemvm.ssvm.properties.template import TemplateProperties
from systemvm.ssvm.s3 import answers, listing, object_keys, requests
from systemvm.ssvm.s3.answers import ObjectSummary
from systemvm.ssvm.s3.listing import Exchange
from systemvm.ssvm.s3.object_keys import QUARANTINE, TEMPLATES
from systemvm.ssvm.store_messages import (
    BrowseStoreRequest,
    DeleteRequest,
    FindRequest,
    ListRequest,
    PublishedTemplate,
    PublishRequest,
    QuarantineRequest,
    require_name,
    require_number,
)
from systemvm.wire.storage import ListedTemplate, StoreObject, StoreObjects, TemplateListing
from systemvm.wire.transfer_failure import TransferFailure

#: One object is read for each.
LIST_PAGE = 100
BROWSE_PAGE = 400


class BucketTemplates:
    """The operations of the store's helper, on a bucket."""

    def __init__(self, server: Exchange, now_s: Callable[[], float] = time.time) -> None:
        self._server = server
        self._now_s = now_s

    def find(self, request: FindRequest) -> PublishedTemplate | None:
        """Return the template if this very job has published it."""
        found = self._properties(request.account_id, request.template_id)
        if found is None or found.job_id != request.job_id:
            return None
        return _published(request.account_id, request.template_id, found)

    def publish(self, request: PublishRequest) -> PublishedTemplate:
        """Write the properties of an image that a mover has stored; what an earlier job had there is deleted.

        Raises: TransferError when the image is missing, or the place is that of another template.
        """
        account, number = request.account_id, request.template_id
        job_id = require_name(request.job.job_id)
        found = self._properties(account, number)
        if found is not None and found.job_id == job_id:  # the answer to an earlier call was lost
            return _published(account, number, found)
        if found is not None and found.unique_name != request.unique_name:
            raise TransferError(
                TransferFailure.STORE_FAILED,
                f"{TEMPLATES}{account}/{number} belongs to another template: {found.unique_name[:80]}",
                "adopt the templates of this store, then register the template again",
            )
        file_name = object_keys.image_name(job_id, request.format)
        key = object_keys.image_key(account, number, file_name)
        image = listing.head(self._server, key)
        if image is None:
            raise TransferError(TransferFailure.STORE_FAILED, "the job has no image to publish")
        properties = TemplateProperties(
            template_id=number,
            unique_name=request.unique_name,
            description=request.description,
            public=request.public,
            hvm=request.hvm,
            format=request.format,
            file_name=file_name,
            size_bytes=image.size_bytes,
            virtual_size_bytes=request.virtual_size_bytes,
            checksum=request.checksum,
            job_id=job_id,
        )
        content = properties.to_text().encode("ascii")
        listing.put(self._server, object_keys.properties_key(account, number), content)
        if found is not None and found.file_name != file_name:
            listing.delete(self._server, object_keys.image_key(account, number, found.file_name))
        listing.delete(self._server, object_keys.journal_key(require_name(request.job.owner), job_id, key))
        return PublishedTemplate(key, image.size_bytes, request.virtual_size_bytes, request.checksum)

    def delete(self, request: DeleteRequest) -> None:
        """Delete a template: first what makes it visible, then its other objects and unfinished uploads."""
        account, number = (int(require_number(n)) for n in (request.account_id, request.template_id))
        listing.delete(self._server, object_keys.properties_key(account, number))
        prefix = object_keys.template_prefix(account, number)
        for each in list(listing.objects(self._server, prefix)):
            listing.delete(self._server, each.key)
        for upload in list(listing.uploads(self._server, prefix)):
            listing.abort(self._server, upload)

    def quarantine(self, request: QuarantineRequest) -> None:
        """Take away what makes a template of this job visible; its image is deleted a week later."""
        account, number = (int(require_number(n)) for n in (request.account_id, request.template_id))
        key = object_keys.properties_key(account, number)
        answer = listing.get(self._server, key)
        if answer is None:
            return
        try:
            found = foreign.parse(answer.body)
        except PropertiesError:
            return
        if found.job_id == require_name(request.job_id):
            place = f"{int(self._now_s())}-{account}-{number}"
            listing.put(self._server, QUARANTINE + place, answer.body)
            listing.delete(self._server, key)

    def list_templates(self, request: ListRequest) -> TemplateListing:
        """List a page of templates.

        One that cannot be read fails it, as a gap would look like a loss.
        """
        after = f"{TEMPLATES}{_checked_place(request.after)}0" if request.after else ""  # "0" follows "/"
        places: dict[tuple[int, int], dict[str, ObjectSummary]] = {}
        has_more = False
        for each in listing.objects(self._server, TEMPLATES, after):
            found = object_keys.parse_place(each.key)
            if found is None:
                continue
            place = found[:2]
            if place not in places and len(places) == LIST_PAGE:
                has_more = True
                break
            places.setdefault(place, {})[found[2]] = each
        has_gaps = any(object_keys.PROPERTIES not in files for files in places.values())
        put_away = self._put_away() if has_gaps else set()
        listed = [
            self._describe(place, files)
            for place, files in places.items()
            if object_keys.PROPERTIES in files or place not in put_away
        ]
        last = next(reversed(places), None)
        return TemplateListing(listed, f"{last[0]}/{last[1]}" if has_more and last is not None else "")

    def browse(self, request: BrowseStoreRequest) -> StoreObjects:
        """Return a page of the entries below a prefix, or the object at `path`.

        Raises: TransferError `source_missing` when there is none.
        """
        path = request.path.strip("/")
        prefix = f"{path}/" if path else ""
        order = requests.list_objects(prefix, "/", request.after, max_keys=BROWSE_PAGE)
        page = self._server.exchange(order, answers.read_objects)
        found = [StoreObject(each[len(prefix) :].strip("/"), True, 0, 0.0) for each in page.prefixes]
        found += [_object(each.key[len(prefix) :], each) for each in page.objects if each.key != prefix]
        if not found and path and not request.after:
            image = listing.head(self._server, path)
            if image is None:
                raise TransferError(TransferFailure.SOURCE_MISSING, f"{path[:200]} is not on the store")
            found.append(_object(path.rpartition("/")[2], image))
        return StoreObjects(sorted(found, key=lambda each: each.name), page.continuation)

    def check(self) -> None:
        """Send a request that only the owner of the bucket may send.

        Raises: TransferError with the reason when the bucket cannot be used.
        """
        self._server.exchange(requests.list_objects(TEMPLATES, max_keys=1), answers.read_objects)

    def _properties(self, account_id: int, template_id: int) -> ForeignProperties | None:
        """Return the properties at a place; None when there are none that can be read."""
        account, number = (int(require_number(n)) for n in (account_id, template_id))
        answer = listing.get(self._server, object_keys.properties_key(account, number))
        if answer is None:
            return None
        try:
            return foreign.parse(answer.body[: template.MAX_BYTES])
        except PropertiesError:
            return None

    def _put_away(self) -> set[tuple[int, int]]:
        names = [each.key.removeprefix(QUARANTINE) for each in listing.objects(self._server, QUARANTINE)]
        return set(_places(names))

    def _describe(self, place: tuple[int, int], files: dict[str, ObjectSummary]) -> ListedTemplate:
        unusable = ListedTemplate(*place, problem=f"{object_keys.PROPERTIES} is missing")
        if object_keys.PROPERTIES not in files:
            return unusable
        answer = listing.get(self._server, object_keys.properties_key(*place))
        if answer is None:  # deleted at this moment
            return unusable
        modified = files[object_keys.PROPERTIES].modified_unix_s
        try:
            found = foreign.parse(answer.body[: template.MAX_BYTES])
        except PropertiesError as error:
            text = f"{object_keys.PROPERTIES} is not valid: {error.message}"
            return evolve(unusable, problem=text, modified_unix_s=modified)
        image = files.get(found.file_name)
        if image is None:
            problem = "its file is missing"
        elif image.size_bytes != found.size_bytes:
            problem = f"its file has {image.size_bytes} bytes, not {found.size_bytes}"
        else:
            problem = ""
        return foreign.listed(found, *place, modified, problem)


def _object(name: str, summary: ObjectSummary) -> StoreObject:
    return StoreObject(name, False, summary.size_bytes, summary.modified_unix_s)


def _places(names: Iterable[str]) -> Iterable[tuple[int, int]]:
    """Yield the places that names in the quarantine have: TIME-ACCOUNT-TEMPLATE."""
    for name in names:
        parts = name.split("-")
        if len(parts) == 3 and all(each.isdecimal() for each in parts):
            yield int(parts[1]), int(parts[2])


def _checked_place(text: str) -> str:
    account, _, number = text.partition("/")
    if not (account.isdecimal() and number.isdecimal()):
        raise TransferError(
            TransferFailure.REQUEST_INVALID, f"start of the page is not ACCOUNT/TEMPLATE: {text[:80]}"
        )
    return text


def _published(account: int, number: int, found: ForeignProperties) -> PublishedTemplate:
    key = object_keys.image_key(account, number, found.file_name)
    return PublishedTemplate(key, found.size_bytes, found.virtual_size_bytes, found.checksum)
