# SPDX-License-Identifier: Apache-2.0
"""The settings of names and certificates of a zone's public side, by CloudStack's names where it has them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from systemvm.management.configurations.setting import Setting, SettingError

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})+")
MAX_NAME_LENGTH = 253


def domain_name(text: str) -> str:
    """Return a DNS name in lower case.

    Raises: SettingError when it is not one.
    """
    name = text.strip().lower().rstrip(".")
    labels = name.split(".")
    if len(name) > MAX_NAME_LENGTH or not _NAME.fullmatch(name) or labels[-1].isdigit():
        raise SettingError(
            f"domain must be a DNS name such as console.example.org: {text[:MAX_NAME_LENGTH]!r}"
        )
    return name


def name_or_wildcard(text: str) -> str:
    """Return `name`, or `*.name`, in lower case.

    Raises: SettingError when it is neither.
    """
    star = "*." if text.strip().startswith("*.") else ""
    return star + domain_name(text.strip().removeprefix("*."))


def directory_url(text: str) -> str:
    """Return the URL of an ACME directory.

    Raises: SettingError when it is not one.
    """
    try:
        parts = urlsplit(text.strip())
    except ValueError:  # an open bracket
        parts = urlsplit("")
    if parts.scheme != "https" or not parts.hostname or parts.username is not None or not text.isprintable():
        raise SettingError(f"URL must be https://HOST/PATH: {text[:MAX_NAME_LENGTH]!r}")
    return text.strip()


def mail_address(text: str) -> str:
    """Return an e-mail address.

    Raises: SettingError when it is not one.
    """
    user, _, host = text.strip().rpartition("@")
    if not user or not user.isprintable() or user.split() != [user]:
        raise SettingError(f"contact must be an e-mail address: {text[:MAX_NAME_LENGTH]!r}")
    return f"{user}@{domain_name(host)}"


CONSOLE_DOMAIN = Setting(
    name="consoleproxy.url.domain",
    default="",
    check=name_or_wildcard,
    description="name by which browsers reach console proxies; *.NAME: each by its address with dashes, such "
    "as 203-0-113-9.NAME. It is used once a certificate is valid for it; without a value console.origin of "
    "the zone's file is",
)
STORAGE_DOMAIN = Setting(
    name="secstorage.ssl.cert.domain",
    default="",
    check=name_or_wildcard,
    group="Secondary Storage",
    description="name by which browsers reach secondary storage VMs; *.NAME: each by its address with "
    "dashes. It is used once a certificate is valid for it; without a value secondary_storage.origin of the "
    "zone's file is",
)
DEFAULT_ALERT_DAYS = 21
EXPIRY_ALERT_DAYS = Setting(
    name="consoleproxy.certificate.expiry.alert.period",
    default=DEFAULT_ALERT_DAYS,
    least=1,
    most=365,
    unit="days",
    description="days before the end of a certificate of the public side at which it is reported",
)

ACME_DIRECTORY = Setting(
    name="consoleproxy.acme.directory.url",
    default="",
    check=directory_url,
    description="directory of an ACME server, such as https://acme-v02.api.letsencrypt.org/directory, which "
    "is asked for certificates for consoleproxy.url.domain; you agree to its terms by setting it",
)
ACME_STORAGE_DIRECTORY = Setting(
    name="secstorage.acme.directory.url",
    default="",
    check=directory_url,
    group="Secondary Storage",
    description="directory of an ACME server that is asked for certificates for secstorage.ssl.cert.domain; "
    "you agree to its terms by setting it",
)
ACME_CONTACT = Setting(
    name="consoleproxy.acme.contact",
    default="",
    check=mail_address,
    description="e-mail address that ACME servers get with the account, of console proxies and of secondary "
    "storage VMs",
)

PUBLIC_NAME_SETTINGS = (
    CONSOLE_DOMAIN,
    STORAGE_DOMAIN,
    EXPIRY_ALERT_DAYS,
    ACME_DIRECTORY,
    ACME_STORAGE_DIRECTORY,
    ACME_CONTACT,
)
