# SPDX-License-Identifier: Apache-2.0
"""Random schedules of faults: never a wrong image that counts as good, and every end has a code.

`make test` runs 300 of them, `make soak-download` 10,000.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.mover import adaptive_source, pipeline, range_plan
from systemvm.ssvm.mover_messages import IMAGE_NAME, JOURNAL_NAME
from systemvm.ssvm.resumable import checkpoints, sparse
from systemvm.wire.transfer_failure import TransferFailure
from unit.ssvm.mover.fault_schedule import (
    SOURCE_FAULTS,
    STORE_FAULTS,
    STORE_MODULES,
    FaultyOs,
    FaultySource,
    Fetch,
    Schedule,
    SourceFault,
    StoreFault,
    make_job,
)

KIB = 1 << 10
SCHEDULES = int(os.environ.get("DOWNLOAD_SCHEDULES", "30"))


def image(seed: int) -> bytes:
    """Return a raw disk with holes."""
    source = random.Random(seed)
    blocks = (bytes(64 * KIB) if index % 4 == 1 else source.randbytes(64 * KIB) for index in range(10))
    return b"".join(blocks) + source.randbytes(512)


IMAGES = [image(seed) for seed in range(3)]
PARTS = [[each[start : start + 100_000] for start in range(0, len(each), 100_000)] for each in IMAGES]
PACKED = [b"".join(gzip.compress(part, 1, mtime=0) for part in parts) for parts in PARTS]
FAULTS = st.one_of(
    st.none(),
    # those that lead furthest are the most frequent
    st.builds(SourceFault, st.sampled_from(["drop", "flip unnoticed"]), st.floats(0.2, 0.9)),
    st.builds(SourceFault, st.sampled_from(SOURCE_FAULTS), st.floats(0, 1)),
)
SCHEDULE = st.builds(
    Schedule,
    source=st.lists(FAULTS, max_size=8).map(tuple),
    store=st.lists(st.builds(StoreFault, st.sampled_from(STORE_FAULTS), st.integers(0, 60)), max_size=3).map(
        tuple
    ),
    has_checksum=st.booleans(),
    extra_connections=st.integers(0, 2),
)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is smaller, so that a short file has many parts and checkpoints."""
    monkeypatch.setattr(pipeline, "BUFFER_BYTES", 16 * KIB)
    monkeypatch.setattr(sparse, "BLOCK_BYTES", 8 * KIB)
    monkeypatch.setattr(sparse, "_ZEROS", bytes(8 * KIB))
    monkeypatch.setattr(checkpoints, "RECEIVED_BYTES", 48 * KIB)
    monkeypatch.setattr(checkpoints, "WRITTEN_BYTES", 128 * KIB)
    monkeypatch.setattr(adaptive_source, "MIN_REST_BYTES", 64 * KIB)
    monkeypatch.setattr(adaptive_source, "MIN_AHEAD_BYTES", 64 * KIB)
    monkeypatch.setattr(adaptive_source, "MAX_AHEAD_BYTES", 64 * KIB)
    monkeypatch.setattr(range_plan.RangePlan.__init__, "__defaults__", (32 * KIB, 128 * KIB))


@settings(
    max_examples=SCHEDULES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(SCHEDULE, st.booleans())
def test_no_schedule_of_faults_makes_a_wrong_image(schedule: Schedule, is_packed: bool) -> None:
    bodies = PACKED if is_packed else IMAGES
    lies = any(fault is not None and fault.what == "lie about content" for fault in schedule.source)
    checksum = hashlib.sha256(bodies[0]).hexdigest() if schedule.has_checksum or lies else None
    source = FaultySource(list(bodies), list(schedule.source))
    system = FaultyOs(list(schedule.store))
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        for module in STORE_MODULES:
            patch.setattr(module, "os", system)
        directory = Path(name)
        outcome = Fetch(directory, source, system, make_job(checksum), schedule.extra_connections).run()
        left = {path.name for path in directory.iterdir()}
        assert left <= {IMAGE_NAME, JOURNAL_NAME, f"{JOURNAL_NAME}.new"}, "it would be an orphan"
        if isinstance(outcome, TransferError):
            assert outcome.code is not TransferFailure.INTERNAL, outcome
            return
        written = (directory / IMAGE_NAME).read_bytes()
        allowed = [0] if checksum is not None else sorted(source.served)
        assert written in [IMAGES[version] for version in allowed], "a wrong image counts as good"
        assert outcome.checksum.rpartition("}")[2] == (
            checksum or hashlib.sha512(bodies[IMAGES.index(written)]).hexdigest()
        )


def test_a_transfer_without_faults_succeeds(tmp_path: Path) -> None:
    source = FaultySource(list(IMAGES), [])
    outcome = Fetch(tmp_path, source, FaultyOs([]), make_job(None), 2).run()
    assert not isinstance(outcome, TransferError), outcome
    assert (tmp_path / IMAGE_NAME).read_bytes() == IMAGES[0]


@pytest.mark.parametrize("calls", range(0, 60, 3))
def test_a_mover_killed_at_any_call_of_the_store_is_replaced(
    tmp_path: Path, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = FaultyOs([StoreFault("kill", calls)])
    for module in STORE_MODULES:
        monkeypatch.setattr(module, "os", system)
    outcome = Fetch(tmp_path, FaultySource(list(IMAGES), []), system, make_job(None), 0).run()
    assert not isinstance(outcome, TransferError), outcome
    assert (tmp_path / IMAGE_NAME).read_bytes() == IMAGES[0]


@pytest.mark.parametrize(("fault", "code"), [("ENOSPC", "store_full"), ("EIO", "store_failed")])
def test_a_store_that_keeps_failing_ends_the_job_with_its_code(
    tmp_path: Path, fault: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = FaultyOs([StoreFault(fault, 20), *[StoreFault(fault, 0)] * 10_000])
    for module in STORE_MODULES:
        monkeypatch.setattr(module, "os", system)
    outcome = Fetch(tmp_path, FaultySource(list(IMAGES), []), system, make_job(None), 0).run()
    assert isinstance(outcome, TransferError)
    assert outcome.code.value == code


def test_a_store_that_fails_in_the_middle_and_works_again_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = FaultyOs([StoreFault("EIO", 20), *[StoreFault("EIO", 0)] * 5])
    for module in STORE_MODULES:
        monkeypatch.setattr(module, "os", system)
    outcome = Fetch(tmp_path, FaultySource(list(IMAGES), []), system, make_job(None), 0).run()
    assert not isinstance(outcome, TransferError), outcome
    assert (tmp_path / IMAGE_NAME).read_bytes() == IMAGES[0]
