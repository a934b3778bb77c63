# SPDX-License-Identifier: Apache-2.0
"""`systemvm certificate public`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from fake_daemon import FakeDaemon

ROW = {
    "domainsuffix": "console.example.test",
    "source": "upload",
    "expires": "2027-01-01T00:00:00+0000",
    "names": ["*.console.example.test"],
    "name": "CPVMCertificate",
    "inuse": ["*.console.example.test"],
}


def test_a_certificate_is_uploaded_listed_and_removed(run: Callable[..., Result], tmp_path: Path) -> None:
    for name in ("leaf", "chain", "key"):
        (tmp_path / name).write_text(f"{name} as PEM\n")
    fake = FakeDaemon(
        uploadCustomCertificate={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {"customcertificate": {"message": "updated"}}},
        listCustomCertificates={"customcertificate": [ROW]},
        deleteCustomCertificate={"success": True},
    )
    files = ["--certificate", str(tmp_path / "leaf"), "--key", str(tmp_path / "key")]
    files += ["--chain", str(tmp_path / "chain")]
    done = run(fake, "certificate", "public", "upload", "*.console.example.test", *files)
    assert done.output == "updated\n"
    assert fake.calls[0] == (
        "uploadCustomCertificate",
        {
            "certificate": "leaf as PEM\nchain as PEM",
            "privatekey": "key as PEM\n",
            "domainsuffix": "console.example.test",
        },
    )
    assert "*.console.example.test" in run(fake, "certificate", "public", "list").output
    done = run(fake, "certificate", "public", "remove", "console.example.test")
    assert done.output == "the certificates of console.example.test are removed.\n"


def test_names_are_listed_with_what_is_wrong_and_renewed(run: Callable[..., Result]) -> None:
    name = {
        "id": "zone1/console/console.example.test",
        "name": "203.0.113.9",
        "wantedname": "console.example.test",
        "service": "console",
        "zonename": "zone1",
        "state": "valid",
        "source": "own",
        "expires": "2027-01-01T00:00:00+0000",
        "systemvms": ["v-2-VM"],
        "reason": "serves 203.0.113.9",
        "acmestate": "failed",
        "acmereason": "too many requests",
        "acmehint": "wait",
    }
    fake = FakeDaemon(
        listPublicNames={"publicname": [name]},
        renewPublicCertificate={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {"success": {"success": True}}},
    )
    shown = run(fake, "certificate", "public", "names").output
    assert "v-2-VM" in shown and "2027-01-01" in shown
    assert "console.example.test: serves 203.0.113.9\n" in shown
    assert "console.example.test: too many requests; wait\n" in shown
    done = run(fake, "certificate", "public", "renew", "console.example.test")
    assert done.output == "the certificate of console.example.test is renewed.\n"
    assert ("renewPublicCertificate", {"id": name["id"]}) in fake.calls
    missing = run(fake, "certificate", "public", "renew", "other.example.test")
    assert missing.exit_code == 1 and "there are: console.example.test" in missing.output


def test_an_external_account_is_registered_and_its_key_read_from_a_file(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "hmac").write_text("c2VjcmV0\n")
    fake = FakeDaemon(registerAcmeAccount={"success": True, "displaytext": "the account is https://a/1"})
    where = ["https://acme.example.test/dir", "kid-1", "--hmac-key", str(tmp_path / "hmac")]
    done = run(fake, "certificate", "public", "register-acme", *where)
    assert done.output == "the account is https://a/1\n"
    given = {"directoryurl": where[0], "eabkid": "kid-1", "eabhmackey": "c2VjcmV0"}
    assert fake.calls == [("registerAcmeAccount", given)]
