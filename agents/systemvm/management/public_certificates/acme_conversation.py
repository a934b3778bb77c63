# SPDX-License-Identifier: Apache-2.0
"""One conversation with an ACME server (RFC 8555), by Certbot's library `acme`; it blocks, so use a thread.

The library is imported when it is needed, because few zones do.
"""

from __future__ import annotations

import base64
import hashlib
import os
import ssl
from collections.abc import Callable
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from systemvm.management.pki.keystore import key_to_pem, new_key
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.acme import AcmeChallenge

_T = TypeVar("_T")

NONCE_TRIES = 4
CHALLENGE = "tls-alpn-01"
#: id-pe-acmeIdentifier (RFC 8737 3)
_ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
_CHALLENGE_LIFETIME = timedelta(days=7)


class AcmeError(SystemVmError):
    """The ACME server refuses, or cannot be reached."""

    code = FailureCode.UNAVAILABLE


@frozen
class AcmeAccount:
    """A key that the server knows under a URI; without a URI it is registered first."""

    key_pem: str = field(repr=False)
    uri: str = ""


@frozen
class ExternalAccount:
    """The account that an operator has with the server's owner (RFC 8555 7.3.4); it is not stored."""

    kid: str
    hmac_key: str = field(repr=False)  # base64url


@frozen
class AcmeOrder:
    """An order whose challenges are to be answered, and the new key of its certificate."""

    resource: Any = field(repr=False)
    key_pem: str = field(repr=False)
    challenges: list[AcmeChallenge]
    bodies: list[Any] = field(repr=False)  # of the challenges, to tell the server that they are answered


def new_account() -> AcmeAccount:
    return AcmeAccount(key_to_pem(new_key()).decode())


class AcmeConversation:
    """The steps of an order; each raises AcmeError with what the server says."""

    def __init__(
        self,
        directory_url: str,
        account: AcmeAccount,
        contact: str,
        ca_file: Path | None = None,
        external: ExternalAccount | None = None,
    ) -> None:
        self._directory_url = directory_url
        self.account = account
        self._contact = contact
        self._external = external
        self._ca_file = ca_file or _system_roots()
        self._key: Any = None
        self._client: Any = None

    def open(self) -> AcmeAccount:
        """Read the directory, and register the account if the server does not know it yet."""
        return _explained(self._open, "cannot use the account")

    def order(self, host: str) -> AcmeOrder:
        """Order a certificate for a name."""
        return _explained(lambda: self._order(host), f"cannot order a certificate for {host}")

    def finish(self, order: AcmeOrder, deadline: datetime) -> str:
        """Say that the challenges are answered, wait for the certificate and return its chain."""
        return _explained(lambda: self._finish(order, deadline), "certificate is not issued")

    def _open(self) -> AcmeAccount:
        josepy, client = _library("josepy"), _library("acme.client")
        messages = _library("acme.messages")
        self._key = josepy.JWKEC(key=load_pem_private_key(self.account.key_pem.encode(), None))
        net = client.ClientNetwork(self._key, alg=josepy.ES256, user_agent="systemvm")
        net.verify_ssl = True if self._ca_file is None else str(self._ca_file)
        net.post = _patient(net.post, messages.Error)
        directory = client.ClientV2.get_directory(self._directory_url, net)
        self._client = client.ClientV2(directory, net)
        if self.account.uri:
            net.account = messages.RegistrationResource(uri=self.account.uri, body=messages.Registration())
            return self.account
        # the operator agrees to the terms by setting the directory
        wanted = messages.NewRegistration.from_data(
            email=self._contact or None,
            external_account_binding=self._binding(messages, directory),
            terms_of_service_agreed=True,
        )
        try:
            uri = str(self._client.new_account(wanted).uri)
        except _library("acme.errors").ConflictError as known:
            uri = str(known.location)
            net.account = messages.RegistrationResource(uri=uri, body=messages.Registration())
        self.account = AcmeAccount(self.account.key_pem, uri)
        return self.account

    def _binding(self, messages: Any, directory: Any) -> Any:
        if self._external is None:
            return None
        return messages.ExternalAccountBinding.from_data(
            account_public_key=self._key.public_key(),
            kid=self._external.kid,
            hmac_key=self._external.hmac_key,
            directory=directory,
        )

    def _order(self, host: str) -> AcmeOrder:
        key = new_key()
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        csr = request.add_extension(names, critical=False).sign(key, hashes.SHA256())
        resource = self._client.new_order(csr.public_bytes(Encoding.PEM))
        challenges, bodies = [], []
        for authorization in resource.authorizations:
            if authorization.body.status.name == "valid":  # from an earlier order
                continue
            body = next((each for each in authorization.body.challenges if _kind(each) == CHALLENGE), None)
            if body is None:
                raise AcmeError(
                    f"ACME server offers no challenge {CHALLENGE} for {host}",
                    "use a server that has it, or upload a certificate",
                )
            challenges.append(_challenge(host, self._key_authorization(body.chall.jobj["token"])))
            bodies.append(body)
        return AcmeOrder(resource, key_to_pem(key).decode(), challenges, bodies)

    def _key_authorization(self, token: str) -> str:
        thumbprint = self._key.thumbprint(hash_function=hashes.SHA256)
        return f"{token}.{base64.urlsafe_b64encode(thumbprint).rstrip(b'=').decode()}"

    def _finish(self, order: AcmeOrder, deadline: datetime) -> str:
        for body in order.bodies:
            self._client.answer_challenge(body, _EmptyObject())
        # the library compares with the local time, without a zone
        until = deadline.astimezone().replace(tzinfo=None)
        return str(self._client.poll_and_finalize(order.resource, until).fullchain_pem)


class _EmptyObject:
    """The answer to every challenge: that it can be validated now (RFC 8555 7.5.1)."""

    def json_dumps(self, **_: Any) -> str:
        return "{}"


def _patient(post: Callable[..., Any], refusal: type[Exception]) -> Callable[..., Any]:
    """Return `post` that repeats a refused nonce more often than the library, which does so once."""

    def repeated(*args: Any, **options: Any) -> Any:
        for _ in range(NONCE_TRIES - 1):
            try:
                return post(*args, **options)
            except refusal as refused:
                if getattr(refused, "code", None) != "badNonce":
                    raise
        return post(*args, **options)

    return repeated


def _kind(body: Any) -> str:
    """Return the type of a challenge; the library no longer knows tls-alpn-01."""
    jobj = getattr(body.chall, "jobj", None)
    return str(jobj["type"]) if isinstance(jobj, dict) else str(body.chall.typ)


def _challenge(host: str, key_authorization: str) -> AcmeChallenge:
    digest = hashlib.sha256(key_authorization.encode("ascii")).digest()
    key: ec.EllipticCurvePrivateKey = new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "acme challenge")])
    # an OCTET STRING of 32 bytes within that of the extension
    proof = x509.UnrecognizedExtension(_ACME_IDENTIFIER, b"\x04\x20" + digest)
    now = datetime.now().astimezone()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _CHALLENGE_LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(proof, critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM).decode()
    return AcmeChallenge(host, pem, key_to_pem(key).decode())


def _system_roots() -> Path | None:
    """Return the roots of this host, to which operators add their own CA; not those of a Python package."""
    path = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    return None if path is None else Path(path)


def _library(name: str) -> Any:
    return import_module(name)


def _explained(step: Callable[[], _T], what: str) -> _T:
    errors, messages, requests = (_library(name) for name in ("acme.errors", "acme.messages", "requests"))
    try:
        return step()
    except AcmeError:
        raise
    except messages.Error as refused:
        raise AcmeError(
            f"{what}: {refused.detail or refused.typ}", _HINTS.get(str(refused.code), "")
        ) from refused
    except errors.ValidationError as failed:
        details = [
            str(each.error.detail)
            for one in failed.failed_authzrs
            for each in one.body.challenges
            if each.error
        ]
        raise AcmeError(
            f"{what}: {'; '.join(details)}",
            "let DNS lead the name to the console proxy, and port 443 there to it",
        ) from failed
    except errors.TimeoutError as late:
        raise AcmeError(f"{what}: ACME server did not decide in time") from late
    except (errors.Error, requests.RequestException, OSError, ValueError, KeyError) as failed:
        raise AcmeError(
            f"{what}: ACME server cannot be reached, or does not answer as one",
            "correct consoleproxy.acme.directory.url, and let this host trust its CA",
        ) from failed


_HINTS = {
    "externalAccountRequired": "register the account first: systemvm certificate public register-acme",
    "rateLimited": "wait: it is tried again by itself",
    "rejectedIdentifier": "use a name that the server issues for",
    "caa": "permit the CA in the CAA record of the domain",
}
