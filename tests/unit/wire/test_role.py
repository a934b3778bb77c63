# SPDX-License-Identifier: Apache-2.0
"""Names of roles in boot arguments, certificates and the API."""

from __future__ import annotations

import pytest

from systemvm.wire.role import Role


@pytest.mark.parametrize("role", [Role.SSVM, Role.CPVM])
def test_a_boot_type_maps_to_its_role(role: Role) -> None:
    assert Role.from_boot_type(role.boot_type) is role


@pytest.mark.parametrize("text", ["", "ssvm", "SECSTORAGE", "secstorage ", "xsecstorage"])
def test_other_types_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="known: secstorage, consoleproxy"):
        Role.from_boot_type(text)


def test_names_in_certificates_are_lower_case() -> None:
    assert Role.CPVM.san("v-2-VM") == "v-2-vm.cpvm.systemvm"


def test_roles_have_the_names_of_the_api() -> None:
    assert (Role.SSVM.system_vm_type, Role.CPVM.system_vm_type) == ("secondarystoragevm", "consoleproxy")
