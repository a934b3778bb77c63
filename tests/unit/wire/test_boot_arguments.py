# SPDX-License-Identifier: Apache-2.0
"""Boot arguments: a round trip, without two parsing errors of CloudStack's scripts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.wire import boot_arguments

TOKEN = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: len(text.split()) == 1 and text.split()[0] == text
)
KEY = TOKEN.filter(lambda text: "=" not in text)


@given(st.dictionaries(KEY, TOKEN | st.just("")))
def test_format_and_parse_are_inverse(arguments: dict[str, str]) -> None:
    assert boot_arguments.parse(boot_arguments.format(arguments)) == arguments


@given(st.text())
def test_any_text_can_be_parsed(text: str) -> None:
    for key, value in boot_arguments.parse(text).items():
        assert not set(key + value) & set(" \t\n")


def test_padding_of_base64_is_kept() -> None:
    assert boot_arguments.parse("authorized_key=c3No== name=s-1-VM")["authorized_key"] == "c3No=="


@pytest.mark.parametrize("text", ["guesttype=x type=secstorage", "type=secstorage guesttype=x"])
def test_a_key_that_ends_in_type_is_not_the_type(text: str) -> None:
    assert boot_arguments.parse(text)["type"] == "secstorage"
    assert "type" not in boot_arguments.parse("systemvmtype=consoleproxy")


def test_blanks_separate_pairs_and_a_flag_has_no_value() -> None:
    assert boot_arguments.parse("  a=1\n b  a=2 c=\t") == {"a": "2", "b": "", "c": ""}


def test_pairs_keep_their_order() -> None:
    assert boot_arguments.format([("template", "domP"), ("port", 8250)]) == "template=domP port=8250"


@pytest.mark.parametrize("value", ["two values", "new\nline", "tab\tbed", "end "])
def test_white_space_is_refused_without_quoting_the_value(value: str) -> None:
    with pytest.raises(ValueError, match="'vmpassword' contains white space") as refused:
        boot_arguments.format({"vmpassword": value})
    assert value not in str(refused.value)


def test_secrets_of_cloudstacks_keys_are_known() -> None:
    assert {
        "privatekey",
        "certificate",
        "cacertificate",
        "keystore_password",
        "vmpassword",
    } == boot_arguments.SECRET_KEYS
