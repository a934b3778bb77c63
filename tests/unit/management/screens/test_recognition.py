# SPDX-License-Identifier: Apache-2.0
"""Comparing what was read with what is waited for, and a host without the program."""

from __future__ import annotations

import pytest

from systemvm.management.screens.recognition import RecognitionError, Tesseract, is_shown


@pytest.mark.parametrize(
    ("wanted", "read"),
    [
        ("login:", "Debian GNU/Linux 13 host tty1\n\nhost login: _"),
        ("Configuring net0", "configuring (net@: 10.0.2.15)\nConfiguring netO ..."),  # a zero, or the letter
        ("No bootable device", "No  bootable\ndevice."),
        ("eth1", "ethl"),
        ("-- Open Source", "—— Open Source"),
    ],
)
def test_letters_that_look_alike_make_no_difference(wanted: str, read: str) -> None:
    assert is_shown(wanted, read)


@pytest.mark.parametrize(("wanted", "read"), [("login:", "logout:"), ("Password", "Passw"), ("eth2", "eth1")])
def test_another_text_is_not_the_one_that_is_waited_for(wanted: str, read: str) -> None:
    assert not is_shown(wanted, read)


def test_a_host_without_the_program_is_told_which_package_has_it() -> None:
    with pytest.raises(RecognitionError, match="no-such-program is not installed") as caught:
        Tesseract("no-such-program").require()
    assert caught.value.hint == "install the package tesseract-ocr on this host, or wait for a picture"
