# SPDX-License-Identifier: Apache-2.0
"""`systemvm template upload`, `iso upload` and `volume upload`: send a local image to a system VM."""

from __future__ import annotations

import hashlib
import ssl
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import urlsplit

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress import TransferSpeedColumn as SpeedColumn

from systemvm.cli import output
from systemvm.cli.daemon_client import CommandFailedError, DaemonClient
from systemvm.cli.progress import wait_until_ready
from systemvm.cli.public_trust import trust_for
from systemvm.cli.template_kind import ISO, TEMPLATE, TemplateKind
from systemvm.cli.tus_client import BLOCK_BYTES, TusClient, UploadFailedError, UploadInterruptedError
from systemvm.wire import checksum
from systemvm.wire.checksum import ChecksumAlgorithm
from systemvm.wire.upload import EXPIRES_HEADER, METADATA_HEADER, SIGNATURE_HEADER

_COMPRESSED = {".gz", ".bz2", ".xz", ".zst", ".zip"}
_FORMATS = ("QCOW2", "RAW", "VHD", "VHDX", "VMDK", "OVA", "TAR")
_FIRST_WAIT_S, _LAST_WAIT_S = 1.0, 30.0
#: So many attempts one after another without a byte more; then the user decides.
_MAX_ATTEMPTS = 20


class UploadKind(Protocol):
    """What a file becomes, with the names that commands use for it."""

    @property
    def noun(self) -> str: ...
    @property
    def command_noun(self) -> str: ...
    def find(self, daemon: DaemonClient, name: str) -> dict[str, Any]: ...


#: Shows what happens after the last byte until the row with an id can be used, and returns the row.
Wait = Callable[[DaemonClient, str, str], dict[str, Any]]


def upload_of_templates(kind: TemplateKind) -> click.Command:
    """Return the command of templates or of ISOs."""

    def wait(daemon: DaemonClient, template_id: str, name: str) -> dict[str, Any]:
        if daemon.as_json:
            return kind.find(daemon, template_id)
        return wait_until_ready(daemon, kind, template_id, name)

    return upload_command(kind, wait, "netboot.iso" if kind is ISO else "tiny.qcow2", "Ready")


def upload_command(kind: UploadKind, wait: Wait, example: str, ready: str) -> click.Command:
    """Return the command that uploads a file; `ready` is its state in the end."""
    noun, group = kind.noun, kind.noun.lower()

    @click.pass_obj
    def upload(daemon: DaemonClient, /, file: Path, resume: str | None, **options: Any) -> None:
        row = _upload(daemon, kind, file, resume, wait, **options)
        output.print_json(row) if daemon.as_json else click.echo(f"{row['name']} is {ready}: {row['id']}")

    parameters: list[click.Parameter] = [
        click.Argument(["file"], type=click.Path(path_type=Path, exists=True, dir_okay=False)),
        click.Option(["--name"], help=f"Name of the {noun}; the file's by default."),
        click.Option(["--checksum"], help="Digest of the file, hexadecimal or {SHA-256}9f86…"),
        click.Option(["--resume"], metavar="ID", help=f"Go on with the upload of the {noun} ID."),
        click.Option(
            ["--cacert"],
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="Root certificates to trust besides the public CA's and the system's.",
        ),
    ]
    if kind is not ISO:
        choice = click.Option(
            ["--format", "image_format"],
            type=click.Choice(_FORMATS, case_sensitive=False),
            help="The file's by default.",
        )
        parameters.insert(2, choice)
    return click.Command(
        "upload",
        callback=upload,
        params=parameters,
        help=f"""Upload the file FILE as the {noun} NAME.

A system VM receives it. An upload that breaks off goes on by itself. Ctrl-C ends it, and --resume goes on.

The file can be compressed with gzip, bzip2, xz or zstd.

\b
Example:
  systemvm {group} upload {example}
  systemvm {group} upload {example} --resume 6f2be588-7b5b-4a07-8ec0-0317c1bf4a5d
""",
        short_help=f"Upload a file as {'an' if kind is ISO else 'a'} {noun}.",
    )


def _upload(
    daemon: DaemonClient,
    kind: UploadKind,
    file: Path,
    resume: str | None,
    wait: Wait,
    *,
    name: str | None,
    checksum: str | None,
    cacert: Path | None,
    image_format: str | None = None,
) -> dict[str, Any]:
    """Send a file, and return the row that it has become."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise CommandFailedError(f"{file} cannot be uploaded: it is not a regular file", "save it first")
    if resume is not None:
        row = kind.find(daemon, resume)
        checksum = row.get("checksum")  # as it was given before: the SSVM hashes by it
        params = daemon.call(f"renewUploadParamsFor{kind.command_noun}", id=row["id"])
    else:
        own: dict[str, Any] = _format_of(kind, file, image_format)
        params = daemon.call(
            f"getUploadParamsFor{kind.command_noun}",
            name=name or file.name.split(".")[0],
            zoneid=daemon.zone_id(),
            checksum=checksum,
            **own,
        )
    params = params["getuploadparams"]
    with file.open("rb") as source:
        digest = _Digest(source, _algorithm(checksum))
        try:
            _send(daemon, params, source, file, digest, cacert)
        except (KeyboardInterrupt, CommandFailedError, UploadInterruptedError) as error:
            _explain_resume(kind, file, params["id"], error)
    row = wait(daemon, params["id"], file.name)
    _compare(kind, row, digest)
    return row


def _format_of(kind: UploadKind, file: Path, given: str | None) -> dict[str, str]:
    if kind is ISO:
        return {"format": "ISO", "bootable": "true"}
    suffixes = [suffix.lower() for suffix in file.suffixes if suffix.lower() not in _COMPRESSED]
    guess = suffixes[-1].removeprefix(".").upper() if suffixes else ""
    if given is None and guess not in _FORMATS:
        raise CommandFailedError(
            f"format of {file.name} is unknown", f"give --format, one of {', '.join(_FORMATS)}"
        )
    return {"format": given or guess} | ({"hypervisor": "KVM"} if kind is TEMPLATE else {})


def _algorithm(given: str | None) -> ChecksumAlgorithm:
    """Return how the SSVM hashes: by the checksum that it was given, else SHA-512."""
    try:
        return ChecksumAlgorithm.SHA_512 if given is None else checksum.parse(given).algorithm
    except ValueError as error:
        raise CommandFailedError(str(error), "give the digest that the publisher prints") from None


class _Digest:
    """Hashes a file while it is read, from its first byte on."""

    def __init__(self, source: BinaryIO, algorithm: ChecksumAlgorithm) -> None:
        self._source = source
        self._hash = hashlib.new(algorithm.hashlib_name, usedforsecurity=False)
        self._hashed_bytes = 0

    def go_to(self, offset: int) -> None:
        """Have the next block read at `offset`; what is before it is hashed if it has not been."""
        self._source.seek(self._hashed_bytes)
        while self._hashed_bytes < offset:
            block = self._source.read(min(BLOCK_BYTES, offset - self._hashed_bytes))
            if not block:
                break
            self._take(block)
        self._source.seek(offset)

    def block(self, block: bytes) -> None:
        """Hash a block that is read, unless it is sent again."""
        end = self._source.tell()
        new = end - self._hashed_bytes
        if new > 0:
            self._take(block[-new:])

    @property
    def reached(self) -> int:
        """How far the file has been read."""
        return self._hashed_bytes

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def _take(self, block: bytes) -> None:
        self._hash.update(block)
        self._hashed_bytes += len(block)


def _send(
    daemon: DaemonClient,
    params: dict[str, Any],
    source: BinaryIO,
    file: Path,
    digest: _Digest,
    cacert: Path | None,
) -> None:
    """Send the file until the server has all of it; interruptions are waited for.

    Raises: CommandFailedError when it cannot go on, UploadInterruptedError after too many attempts.
    """
    url, size_bytes = params["postURL"], file.stat().st_size
    names = {SIGNATURE_HEADER: "signature", METADATA_HEADER: "metadata", EXPIRES_HEADER: "expires"}
    client = TusClient(
        url, {name: params[key] for name, key in names.items()}, trust_for(daemon, url, cacert)
    )
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), SpeedColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[status]}"),
    )  # fmt: skip
    with Progress(*columns, disable=daemon.as_json) as progress:
        bar = progress.add_task(file.name, total=size_bytes, status="")

        def on_block(block: bytes) -> None:
            digest.block(block)
            progress.update(bar, advance=len(block))

        attempt, best = 0, -1
        while True:
            try:
                offset = client.offset(size_bytes)
                digest.go_to(offset)
                progress.update(bar, completed=offset, status="")
                while offset < size_bytes:
                    offset = client.send(source, offset, size_bytes, on_block)
                    source.seek(offset)
                    progress.update(bar, completed=offset)
                    attempt = 0
                return
            except UploadFailedError as error:
                raise CommandFailedError(f"{file.name} is refused: {error}", "correct the file") from None
            except ssl.SSLCertVerificationError as error:
                raise _untrusted(url, error) from None
            except UploadInterruptedError as error:
                attempt = 0 if digest.reached > best else attempt + 1
                best = digest.reached
                if attempt >= _MAX_ATTEMPTS:
                    raise
                wait_s = error.retry_after_s or min(_LAST_WAIT_S, _FIRST_WAIT_S * 2**attempt)
                progress.update(bar, status=f"{error}; trying again in {wait_s:g} s")
                time.sleep(wait_s)


def _untrusted(url: str, error: ssl.SSLCertVerificationError) -> CommandFailedError:
    return CommandFailedError(
        f"certificate of {urlsplit(url).netloc} cannot be verified: {error.verify_message}",
        "give the root of secondary_storage.certificate_file of the zone, or of the proxy in front of the "
        "system VM, with --cacert",
    )


def _explain_resume(kind: UploadKind, file: Path, template_id: str, error: BaseException) -> None:
    """Print how to go on, and raise what ends the program."""
    command = f'run "systemvm {kind.noun.lower()} upload {file} --resume {template_id}" to go on'
    if isinstance(error, KeyboardInterrupt):
        raise CommandFailedError("upload is interrupted; what was sent is kept", command) from None
    if isinstance(error, CommandFailedError):
        raise CommandFailedError(error.message, f"{error.hint}; then {command}" if error.hint else command)
    raise CommandFailedError(f"upload of {file.name} does not go on: {error}", command) from None


def _compare(kind: UploadKind, row: dict[str, Any], digest: _Digest) -> None:
    """Compare what was read with what the SSVM has received."""
    received = row.get("checksum")
    if received and received.lower() != digest.hexdigest():  # of the same algorithm: see _algorithm
        raise CommandFailedError(
            f"{row['name']} is not the file that was read: its digest is {received[:16]}…, "
            f"and the file's {digest.hexdigest()[:16]}…",
            f'the file has changed while it was sent; run "systemvm {kind.noun.lower()} delete {row["id"]}"',
        )
