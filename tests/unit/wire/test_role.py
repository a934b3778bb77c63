# SPDX-License-Identifier: Apache-2.0
"""Names of the parties."""

from __future__ import annotations

import pytest

from systemvm.wire.role import Role


@pytest.mark.parametrize("role", [Role.SSVM, Role.CPVM])
def test_boot_type_and_back(role: Role) -> None:
    assert Role.from_boot_type(role.boot_type) is role


@pytest.mark.parametrize("text", ["", "ssvm", "SECSTORAGE", "secstorage ", "xsecstorage"])
def test_other_types_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="known: secstorage, consoleproxy"):
        Role.from_boot_type(text)


def test_names_in_certificates_have_no_case() -> None:
    assert Role.CPVM.san("v-2-VM") == "v-2-vm.cpvm.systemvm"


def test_names_in_api_answers() -> None:
    assert (Role.SSVM.system_vm_type, Role.CPVM.system_vm_type) == ("secondarystoragevm", "consoleproxy")
