# SPDX-License-Identifier: Apache-2.0
"""The settings of the ways out of alerts, with CloudStack's names where it has them.

`alert.smtp.useStartTLS` is true by default, unlike CloudStack's: without it alerts go in clear text. The
webhook is an addition.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from systemvm.management.configurations.public_names import directory_url, mail_address
from systemvm.management.configurations.setting import Setting, SettingError
from systemvm.management.state import configurations
from systemvm.management.state.database import Connection

_GROUP = "Alerts"
MAX_ADDRESSES = 20
MAX_HOST_LENGTH = 253


def _addresses(text: str) -> str:
    """Return e-mail addresses, separated by commas.

    Raises: SettingError when there is something else among them.
    """
    parts = [part for part in text.split(",") if part.strip()]
    if len(parts) > MAX_ADDRESSES:
        raise SettingError(f"too many addresses: {len(parts)}, the maximum is {MAX_ADDRESSES}")
    return ",".join(_address(part) for part in parts)


def _address(text: str) -> str:
    return mail_address(text) if text.strip() else ""


def _host(text: str) -> str:
    host = text.strip()
    if len(host) > MAX_HOST_LENGTH or not host.isprintable() or " " in host or "/" in host:
        raise SettingError(f"host must be a name or an address: {host[:80]!r}")
    _check_labels(host)
    return host


def _check_labels(host: str) -> None:
    try:
        host.encode("idna")  # as resolving it does
    except UnicodeError:
        raise SettingError(
            f"host must be a name with labels of 1 to 63 characters, or an address: {host[:80]!r}"
        ) from None


def _url(text: str) -> str:
    if not text.strip():
        return ""
    url = directory_url(text)
    if not url.isascii() or " " in url:
        raise SettingError("URL must have only ASCII characters, and no space: encode the others by %XX")
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise SettingError("port of the URL must be from 1 to 65535")
    _check_labels(parts.hostname or "")
    return url


def _ascii(text: str) -> str:
    if not text.isascii():
        raise SettingError("text must have only ASCII characters: logins of SMTP take no others")
    return text


def _setting(
    name: str, default: int | bool | str, description: str, check: Callable[[str], str] = str
) -> Setting:
    return Setting(
        name=name,
        default=default,
        description=description,
        check=check,
        least=1,
        most=65535,
        group=_GROUP,
        scope="global",
        is_secret=name.endswith(("password", "secretkey")),
    )


ADDRESSES = _setting(
    "alert.email.addresses", "", "addresses that get each alert by e-mail, separated by commas", _addresses
)
SENDER = _setting("alert.email.sender", "", "address that the e-mails come from", _address)
SMTP_HOST = _setting(
    "alert.smtp.host", "", "mail server that takes the e-mails; without one none are sent", _host
)
SMTP_PORT = _setting("alert.smtp.port", 465, "its port; 465: TLS from the first byte on")
SMTP_STARTTLS = _setting(
    "alert.smtp.useStartTLS", True, "at other ports than 465: TLS by STARTTLS; false: clear text"
)
SMTP_AUTH = _setting("alert.smtp.useAuth", False, "log in to the mail server; only with TLS")
SMTP_USERNAME = _setting("alert.smtp.username", "", "user name of that login", _ascii)
SMTP_PASSWORD = _setting(
    "alert.smtp.password", "", "password of that login; it is sealed, and never shown", _ascii
)
WEBHOOK_URL = _setting("alert.webhook.url", "", "https URL that gets each alert by a POST", _url)
WEBHOOK_SECRET = _setting(
    "alert.webhook.secretkey", "",
    "key of the signature in X-CS-Signature, HMAC-SHA256 of the body; it is sealed, and never shown",
)  # fmt: skip

ALERT_SETTINGS = (
    ADDRESSES,
    SENDER,
    SMTP_HOST,
    SMTP_PORT,
    SMTP_STARTTLS,
    SMTP_AUTH,
    SMTP_USERNAME,
    SMTP_PASSWORD,
    WEBHOOK_URL,
    WEBHOOK_SECRET,
)


def read(connection: Connection) -> dict[str, str]:
    """Return the present texts by name; those of secrets are sealed."""
    changed = configurations.values(connection, None)
    return {each.name: changed.get(each.name, each.text(each.default)) for each in ALERT_SETTINGS}
