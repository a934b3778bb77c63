# SPDX-License-Identifier: Apache-2.0
"""An inspection is saved between any two pieces and continued by another process: the verdict is the same."""

from __future__ import annotations

import itertools
import json

import pytest

from image_corpus.case import Case
from image_corpus.cases import BAD, GOOD
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.formats.gate import Admission, Verdict
from systemvm.ssvm.limits import TIB
from systemvm.ssvm.mover import object_state
from systemvm.ssvm.mover.pipeline import INSPECTORS
from systemvm.wire.transfer_failure import TransferFailure

#: All good images, and enough of the bad ones to reach each refusal after a restart.
SOME = [*GOOD.values(), *list(BAD.values())[::5]]


def outcome(case: Case) -> Verdict | TransferFailure:
    data = case.make()
    admission = Admission(case.format, 16 * TIB)
    edges = [*range(0, min(len(data), 8192), 300), *range(8192, len(data), 300_007), len(data)]
    try:
        for start, end in itertools.pairwise(edges):
            admission.feed(data[start:end])
            saved = json.loads(json.dumps(object_state.save(admission, INSPECTORS)))
            restored = object_state.load(saved, INSPECTORS)
            assert isinstance(restored, Admission)
            admission = restored
        return admission.verdict()
    except TransferError as error:
        return error.code


@pytest.mark.parametrize("case", SOME, ids=lambda case: case.name)
def test_a_saved_inspection_has_the_same_verdict(case: Case) -> None:
    result = outcome(case)
    if case.code is None:
        assert isinstance(result, Verdict)
        assert result.virtual_size_bytes == case.virtual_size_bytes
    else:
        assert result is case.code
