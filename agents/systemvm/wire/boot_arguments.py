# SPDX-License-Identifier: Apache-2.0
"""CloudStack's boot arguments: `key=value` pairs separated by blanks.

Upstream cuts a value at its second `=` (base64 padding is lost) and finds the role by an unanchored pattern;
here a pair is split once, at its first `=`, and keys are compared whole (reference 1.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: Names of the systemd credentials that carry them into the guest (SMBIOS type 11, or fw_cfg with libvirt).
CMDLINE_CREDENTIAL = "systemvm.cmdline"
IDENTITY_CREDENTIAL = "systemvm.identity"  # PEM: private key, certificate, then the control CA

#: An identity in CloudStack's keys, in the order of a PEM bundle.
IDENTITY_KEYS = ("privatekey", "certificate", "cacertificate")

#: Our own key: the UNIX time at the start of the virtual machine, for a guest whose RTC is wrong.
CLOCK = "clock"

#: Never in cmd_line.json, `hello`, diagnostics or logs.
SECRET_KEYS = frozenset({*IDENTITY_KEYS, "keystore_password", "vmpassword"})


def parse(text: str) -> dict[str, str]:
    """Split a cmdline into keys and values.

    A key without `=` has an empty value. The last of two equal keys wins.
    """
    arguments: dict[str, str] = {}
    for word in text.split():
        key, _, value = word.partition("=")
        arguments[key] = value
    return arguments


def format(arguments: Mapping[str, object] | Iterable[tuple[str, object]]) -> str:
    """Join keys and values as CloudStack does.

    Raises: ValueError when a value contains white space.
    """
    pairs = arguments.items() if isinstance(arguments, Mapping) else arguments
    words = [f"{key}={value}" for key, value in pairs]
    for word in words:
        if word.split() != [word]:
            raise ValueError(f"boot argument {word.partition('=')[0]!r} contains white space")
    return " ".join(words)
