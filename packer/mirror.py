# SPDX-License-Identifier: Apache-2.0
"""The sources of a build's inputs: Debian's mirrors, proxies and certificate authorities.

The host's apt configuration applies, unless the environment (or make's command line) sets:

    MIRROR, MIRROR_SECURITY   another mirror of Debian, and of its security fixes (`none`: without them)
    MIRROR_KEYRING            the keys that mirror signs with, when they are not Debian's
    CA_BUNDLE                 a PEM file of all trusted certificate authorities, for apt, pip, npm and Packer
    http_proxy, https_proxy, no_proxy   used by each of them; apt also uses its own settings
    PIP_INDEX_URL, npm_config_registry  used by pip and npm
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

DEBIANS_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
_FORMAT = "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)"


def source_lines(suite: str) -> list[str]:
    """Return apt's source lines of `suite`, its updates and its security fixes."""
    main, security = _chosen()
    if not main:
        raise SystemExit(
            "error: no mirror of Debian is configured in this host's apt\n"
            "hint:  check /etc/apt/sources.list.d and run apt-get update, or set MIRROR=https://…/debian"
        )
    lines = [f"deb {main} {suite} main", f"deb {main} {suite}-updates main"]
    return lines + ([f"deb {security} {suite}-security main"] if security else [])


def signed_source_lines(suite: str) -> list[str]:
    """Return the same lines, each with the keys that must have signed its index."""
    keys = os.environ.get("MIRROR_KEYRING") or DEBIANS_KEYS
    if not Path(keys).exists():
        raise SystemExit(
            f"error: keyring {keys} does not exist\n"
            "hint:  run `make setup` for Debian's keys, or set MIRROR_KEYRING to those of another mirror"
        )
    return [line.replace("deb ", f"deb [signed-by={keys}] ", 1) for line in source_lines(suite)]


def apt_options() -> list[str]:
    """Return apt's options for CA_BUNDLE; apt finds proxies by itself."""
    bundle = ca_bundle()
    return ["-o", f"Acquire::https::CaInfo={bundle}"] if bundle else []


def environment() -> dict[str, str]:
    """Return the environment for pip, npm and Packer."""
    bundle = ca_bundle()
    names = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "npm_config_cafile")
    return {**os.environ, **(dict.fromkeys(names, bundle) if bundle else {})}


def ca_bundle() -> str:
    """Return CA_BUNDLE, empty if it is not set.

    Raises: SystemExit when it is not a file.
    """
    bundle = os.environ.get("CA_BUNDLE", "")
    if bundle and not Path(bundle).is_file():
        raise SystemExit(f"error: CA_BUNDLE={bundle} is not a file\nhint:  give the path of a PEM file")
    return bundle


def _chosen() -> tuple[str, str]:
    main, security = _hosts()
    main = os.environ.get("MIRROR") or main
    security = os.environ.get("MIRROR_SECURITY") or security
    return main, "" if security == "none" else security


def _hosts() -> tuple[str, str]:
    """Return the first mirror, and the first one for security fixes, of the host's apt."""
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages"],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    main: list[str] = []
    security: list[str] = []
    for line in listing.splitlines():
        origin, label, component, uri = line.split("|", 3)
        if origin == "Debian" and component == "main":
            (security if "Security" in label else main).append(uri)
    return next(iter(main), ""), next(iter(security), "")
