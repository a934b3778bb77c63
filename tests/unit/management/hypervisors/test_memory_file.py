# SPDX-License-Identifier: Apache-2.0
"""Files in memory that QEMU inherits."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.hypervisors.memory_file import open_memory_file


def open_descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_it_can_be_read_and_nothing_else() -> None:
    before = open_descriptors()
    descriptor = open_memory_file("drive", b"content" * 100_000)
    try:
        found = os.fstat(descriptor)
        assert (found.st_nlink, stat.S_ISREG(found.st_mode)) == (0, True)
        assert os.pread(descriptor, 1 << 20, 0) == b"content" * 100_000
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(descriptor, b"x")
        assert found.st_mode & 0o777 == 0o400
        # root, who can open it again, cannot change it either
        with suppress(PermissionError):
            again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)
            with pytest.raises(PermissionError):
                os.write(again, b"x")
            os.close(again)
    finally:
        os.close(descriptor)
    assert open_descriptors() == before


def test_a_host_without_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_descriptors()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("fcntl.fcntl", fail)
    with pytest.raises(HypervisorError, match="cannot be kept in memory: No space left") as refused:
        open_memory_file("config drive of i-2-3-VM", b"secret")
    assert refused.value.hint.startswith("free memory")
    assert "secret" not in str(refused.value)
    assert open_descriptors() == before


def refuse_creation(monkeypatch: pytest.MonkeyPatch, number: int, *, flags: int) -> list[int]:
    """Have memfd_create refuse these flags; return the flags of all calls."""
    create, calls = os.memfd_create, list[int]()

    def refuse(name: str, given: int) -> int:
        calls.append(given)
        if given & flags:
            raise OSError(number, os.strerror(number))
        return create(name, given)

    monkeypatch.setattr("os.memfd_create", refuse)
    return calls


def test_it_is_created_without_the_right_of_execution_where_the_kernel_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = refuse_creation(monkeypatch, errno.EINVAL, flags=8)
    descriptor = open_memory_file("drive", b"content")
    assert os.pread(descriptor, 100, 0) == b"content"
    os.close(descriptor)
    with_seal, without = calls
    assert with_seal == without | 8


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_host_that_forbids_it_says_so(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    refuse_creation(monkeypatch, number, flags=8)
    with pytest.raises(HypervisorError, match="cannot be kept in memory") as refused:
        open_memory_file("drive", b"content")
    assert "vm.memfd_noexec" in refused.value.hint
