# SPDX-License-Identifier: Apache-2.0
"""`systemvm store`, and copying, sharing and following templates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from fake_daemon import FakeDaemon
from systemvm.rpc.core.errors import RpcError

FIRST = {
    "id": "s-1", "name": "first", "zonename": "zone1", "url": "nfs://10.12.0.2/first", "readonly": False,
    "retiring": False, "disksizetotal": 100 << 30, "disksizeused": 25 << 30,
}  # fmt: skip
SECOND = FIRST | {"id": "s-2", "name": "second", "url": "nfs://10.12.0.3/second", "readonly": True}
STORES = {"imagestore": [FIRST, SECOND]}
PENDING = {"jobstatus": 0, "jobprocstatus": 40, "jobprogresstext": "moved 2 of 5 templates"}
TINY = {"id": "t-1", "name": "tiny", "isready": True, "status": "Download Complete", "downloaddetails": []}


def ended(**result: object) -> dict[str, object]:
    return {"jobstatus": 1, "jobresult": result}


def test_stores_are_listed_with_usage_and_state(run: Callable[..., Result]) -> None:
    result = run(FakeDaemon(listImageStores=STORES), "store", "list")
    assert result.exit_code == 0, result.output
    first, second = result.output.splitlines()[-2:]
    assert "25%" in first
    assert "writable" in first
    assert "read-only" in second


def test_no_store_says_how_to_add_one(run: Callable[..., Result]) -> None:
    assert "systemvm store add" in run(FakeDaemon(listImageStores={}), "store", "list").output


def test_a_store_is_added_with_its_options(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        addImageStore={"imagestore": SECOND}, listZones={"zone": [{"id": "z-1", "name": "zone1"}]}
    )
    arguments = ("store", "add", "second", "nfs://10.12.0.3/second", "--zone", "zone1", "--nfs-version", "3")
    result = run(fake, *arguments, "--mount-options", "nconnect=4")
    assert result.output.strip() == "s-2"
    assert fake.calls[-1] == ("addImageStore", {
        "provider": "NFS", "name": "second", "url": "nfs://10.12.0.3/second", "zoneid": "z-1",
        "details": {"nfs.version": "3", "nfsmountopts": "nconnect=4"},
    })  # fmt: skip


def test_a_bucket_is_added_and_its_secret_is_in_no_argument(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("very-secret\n")
    fake = FakeDaemon(addImageStore={"imagestore": SECOND})
    result = run(
        fake, "store", "add", "bucket", "https://s3.example.test:8443/images/", "--access-key", "AKID",
        "--secret-key-file", str(secret), "--capacity-gib", "2", "--no-public-links",
    )  # fmt: skip
    assert result.output.strip() == "s-2"
    assert fake.calls[-1] == ("addImageStore", {
        "provider": "S3", "name": "bucket",
        "details": {
            "endpoint": "https://s3.example.test:8443", "bucket": "images", "accesskey": "AKID",
            "secretkey": "very-secret", "capacitybytes": str(2 << 30), "publiclinks": "false",
        },
    })  # fmt: skip


def test_a_store_becomes_read_only(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(listImageStores=STORES, updateImageStore={"imagestore": FIRST | {"readonly": True}})
    result = run(fake, "store", "set", "first", "--read-only")
    assert result.output.strip() == "first is read-only."
    assert fake.calls[-1] == ("updateImageStore", {"id": "s-1", "readonly": "true"})


def test_a_bucket_gets_another_capacity(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(listImageStores=STORES, updateImageStore={"imagestore": FIRST})
    run(fake, "store", "set", "first", "--capacity-gib", "2")
    assert fake.calls[-1] == ("updateImageStore", {"id": "s-1", "capacitybytes": 2 << 30})


def test_a_bucket_gets_a_capacity_and_shows_what_it_holds(run: Callable[..., Result]) -> None:
    bucket = {key: value for key, value in FIRST.items() if key != "disksizetotal"}
    fake = FakeDaemon(listImageStores={"imagestore": [bucket]}, updateImageStore={"imagestore": FIRST})
    assert "25.0 GiB" in run(fake, "store", "list").output
    run(fake, "store", "set", "first", "--capacity-gib", "0")
    assert fake.calls[-1] == ("updateImageStore", {"id": "s-1", "capacitybytes": 0})


def test_keys_are_replaced_and_the_secret_is_in_no_argument_and_no_output(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    secret, authority = tmp_path / "secret", tmp_path / "ca"
    secret.write_text("most-secret\n")
    authority.write_text("-----BEGIN CERTIFICATE-----\n")
    fake = FakeDaemon(listImageStores=STORES, updateImageStore={"imagestore": FIRST})
    options = ("--access-key", "AKID2", "--secret-key-file", str(secret), "--ca", str(authority))
    result = run(fake, "store", "keys", "first", *options)
    assert result.output.strip() == "first has other keys."
    assert fake.calls[-1] == ("updateImageStore", {
        "id": "s-1",
        "details": {
            "accesskey": "AKID2", "secretkey": "most-secret", "cacertificate": authority.read_text(),
        },
    })  # fmt: skip


def test_keys_that_are_refused_and_half_of_them_are_an_error(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("most-secret")
    refused = RpcError.refused("store_refuses", "S3 server refused a list: AccessDenied", "check accesskey")
    fake = FakeDaemon(listImageStores=STORES, updateImageStore=refused)
    options = ("--access-key", "AKID2", "--secret-key-file", str(secret))
    result = run(fake, "store", "keys", "first", *options)
    assert result.exit_code == 1
    assert "AccessDenied" in result.output
    assert "most-secret" not in result.output
    assert run(fake, "store", "keys", "first", "--access-key", "AKID2").exit_code == 2


def test_staging_stores_are_added_listed_and_deleted(run: Callable[..., Result]) -> None:
    cache = FIRST | {"id": "s-9", "name": "cache"}
    fake = FakeDaemon(
        createSecondaryStagingStore={"secondarystorage": cache},
        listSecondaryStagingStores={"imagestore": [cache]},
        deleteSecondaryStagingStore={"success": True},
    )
    url = "nfs://10.12.0.3/cache"
    assert run(fake, "store", "staging", "add", "cache", url, "--host-path", "/c").output.strip() == "s-9"
    assert fake.calls[-1] == (
        "createSecondaryStagingStore", {"name": "cache", "url": url, "details": {"host.path": "/c"}},
    )  # fmt: skip
    assert "cache" in run(fake, "store", "staging", "list").output
    assert run(fake, "store", "staging", "delete", "cache").output.strip() == "cache is deleted."
    assert fake.calls[-1] == ("deleteSecondaryStagingStore", {"id": "s-9"})
    missing = run(fake, "store", "staging", "delete", "other")
    assert missing.exit_code == 1
    assert "there is no staging store" in missing.output
    assert (
        "systemvm store staging add"
        in run(FakeDaemon(listSecondaryStagingStores={}), "store", "staging", "list").output
    )


def test_retiring_shows_progress_and_deletes_when_asked(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        listImageStores=STORES,
        retireImageStore={"jobid": "j-1"},
        queryAsyncJobResult=[PENDING, ended(imagestore={"message": "Migration completed"})],
        deleteImageStore={"success": True},
    )
    result = run(fake, "store", "retire", "first", "--to", "second", "--delete")
    assert result.exit_code == 0, result.output
    assert "Migration completed" in result.output
    assert "first is deleted." in result.output
    assert ("retireImageStore", {"id": "s-1", "destpools": "s-2"}) in fake.calls
    assert fake.calls[-1] == ("deleteImageStore", {"id": "s-1"})


def test_a_retirement_that_fails_deletes_nothing(run: Callable[..., Result]) -> None:
    failed = {"jobstatus": 2, "jobresult": {"errortext": "Could not migrate tiny", "hint": "see listEvents"}}
    fake = FakeDaemon(
        listImageStores=STORES, retireImageStore={"jobid": "j-1"}, queryAsyncJobResult=[PENDING, failed]
    )
    result = run(fake, "store", "retire", "first", "--delete")
    assert result.exit_code == 1
    assert "Could not migrate tiny" in result.output
    assert "deleteImageStore" not in [method for method, _ in fake.calls]


def test_a_retirement_is_canceled(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(listImageStores=STORES, cancelImageStoreMigration={"success": True})
    assert "is canceled" in run(fake, "store", "retire", "first", "--cancel").output


def test_adoption_names_what_it_could_not_take(run: Callable[..., Result]) -> None:
    result_of_job = ended(
        adoption={"adopted": ["t-1"], "known": 2, "problems": ["2/205: its file is missing"]}
    )
    fake = FakeDaemon(
        listImageStores=STORES,
        adoptImageStoreTemplates={"jobid": "j-1"},
        queryAsyncJobResult=[result_of_job],
    )
    result = run(fake, "store", "adopt", "first")
    assert "1 templates are adopted, 2 were known." in result.output
    assert "not adopted: 2/205: its file is missing" in result.output


def test_a_directory_is_listed(run: Callable[..., Result]) -> None:
    entry = {
        "name": "a.qcow2",
        "isdirectory": False,
        "size": 1 << 20,
        "lastupdated": "2026-11-28T10:00:00+0000",
    }
    fake = FakeDaemon(
        listImageStores=STORES, listImageStoreObjects={"datastoreobject": [entry | {"templatename": "tiny"}]}
    )
    result = run(fake, "store", "ls", "first", "template/tmpl/2/204")
    assert "a.qcow2" in result.output
    assert "tiny" in result.output
    assert fake.calls[-1] == ("listImageStoreObjects", {"id": "s-1", "path": "template/tmpl/2/204"})


def test_a_file_of_a_store_has_a_link(run: Callable[..., Result]) -> None:
    link = {"url": "https://203.0.113.9/userdata/x/template.properties"}
    fake = FakeDaemon(
        listImageStores=STORES,
        downloadImageStoreObject={"jobid": "j-1"},
        queryAsyncJobResult=[ended(downloadimagestoreobjectresponse=link)],
    )
    result = run(fake, "store", "link", "first", "template/tmpl/2/204/template.properties")
    assert result.output.splitlines()[-1] == link["url"]
    asked = {"id": "s-1", "path": "template/tmpl/2/204/template.properties"}
    assert ("downloadImageStoreObject", asked) in fake.calls


def test_an_only_copy_is_refused_with_the_daemons_words(run: Callable[..., Result]) -> None:
    refused = RpcError.refused("in_use", "Cannot delete image store", "retire it")
    result = run(FakeDaemon(listImageStores=STORES, deleteImageStore=refused), "store", "delete", "first")
    assert result.exit_code == 1
    assert "Cannot delete image store" in result.output
    assert "retire it" in result.output


def test_a_template_is_copied_to_a_zone(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        listTemplates={"template": [TINY]},
        listZones={"zone": [{"id": "z-2", "name": "zone2"}]},
        copyTemplate={"jobid": "j-1"},
        queryAsyncJobResult=[PENDING, ended(template=TINY)],
    )
    result = run(fake, "template", "copy", "tiny", "zone2")
    assert "tiny is Ready in zone2: t-1" in result.output
    assert ("copyTemplate", {"id": "t-1", "destzoneid": "z-2"}) in fake.calls


def test_a_template_is_shared(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        listIsos={"iso": [TINY]},
        updateIsoPermissions={"success": True},
        listIsoPermissions={"templatepermission": {"ispublic": False, "account": ["alice"]}},
    )
    result = run(fake, "iso", "share", "tiny", "alice")
    assert result.output.splitlines() == ["tiny is private.", "alice"]
    assert ("updateIsoPermissions", {"id": "t-1", "op": "add", "accounts": "alice"}) in fake.calls


def test_following_ends_when_it_is_ready(run: Callable[..., Result]) -> None:
    result = run(FakeDaemon(listTemplates={"template": [TINY]}), "template", "follow", "tiny")
    assert result.exit_code == 0, result.output
    assert "tiny is Ready" in result.output
