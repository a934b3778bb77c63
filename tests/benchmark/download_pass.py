# SPDX-License-Identifier: Apache-2.0
"""`make bench-download-pass`: the cost of a pass over downloads when none is due.

The daemon makes a pass every ten seconds, so its cost must depend on the downloads that are due and not on
all of them: queries and milliseconds are measured with 100, 1,000 and 10,000 Ready templates in the database.

usage: download_pass.py [--rounds N]      exit code 1 when a limit is exceeded
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from benchmark.in_reactor import run  # noqa: E402
from benchmark.report import report  # noqa: E402

COUNTS = (100, 1_000, 10_000)
MAX_QUERIES = 5
#: The duration with the most templates, relative to that with the fewest, and an allowance for noise.
GROWTH_BAR, NOISE_MS = 2.0, 5.0


def rows(measured: dict[int, tuple[int, float]]) -> list[dict[str, Any]]:
    """Return one row for each count of templates; `measured` has queries and the median in milliseconds."""
    fewest_ms = measured[min(measured)][1]
    bar_ms = round(GROWTH_BAR * fewest_ms + NOISE_MS, 1)
    return [
        {
            "metric": f"{count} Ready templates",
            "queries": queries,
            "queries_bar": MAX_QUERIES,
            "ms": round(pass_ms, 1),
            "ms_bar": bar_ms,
            "holds": queries <= MAX_QUERIES and pass_ms <= bar_ms,
        }
        for count, (queries, pass_ms) in sorted(measured.items())
    ]


async def measure(count: int, rounds: int) -> tuple[int, float]:
    """Return the queries of one idle pass, and the median duration in milliseconds."""
    import sqlalchemy as sa

    from small_cloud import make
    from small_cloud.rows import fill
    from systemvm.management.state import schema
    from systemvm.management.state.columns import new_uuid
    from systemvm.wire.storage import DownloadState, ImageFormat

    with tempfile.TemporaryDirectory() as directory:
        pristine = fill(Path(tempfile.mkdtemp(dir=directory)))
        cloud = make(Path(directory), pristine)

        def add_ready(connection: sa.Connection) -> None:
            templates, refs = [], []
            for number in range(1, count + 1):
                name = f"ready-{number}"
                templates.append(
                    {"id": number, "name": name, "unique_name": name, "zone_id": cloud.zone.id,
                     "format": ImageFormat.RAW, "url": "http://images.example.test/a.raw"}
                )  # fmt: skip
                refs.append(
                    {"template_id": number, "store_id": cloud.store.id, "job_id": new_uuid(),
                     "state": DownloadState.DOWNLOADED, "agent_name": cloud.ssvm.instance_name}
                )  # fmt: skip
            connection.execute(schema.templates.insert(), templates)
            connection.execute(schema.template_store_refs.insert(), refs)

        statements = 0

        def count_statement(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            nonlocal statements
            statements += not statement.startswith("BEGIN")

        try:
            cloud.database.run_now(add_ready)
            sa.event.listen(cloud.database.engine, "after_cursor_execute", count_statement)
            took_ms = []
            for _ in range(rounds):
                statements, began_s = 0, time.perf_counter()
                await cloud.dispatch.reconcile()
                took_ms.append(1000 * (time.perf_counter() - began_s))
            return statements, statistics.median(took_ms)
        finally:
            cloud.jobs.stop()
            cloud.database.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Measure the cost of a pass over downloads when nothing is due."
    )
    parser.add_argument("--rounds", type=int, default=9, help="passes for each count (default: %(default)d)")
    options = parser.parse_args()

    async def measure_all(_: Any) -> list[dict[str, Any]]:
        return rows({count: await measure(count, options.rounds) for count in COUNTS})

    return report("download_pass", run(measure_all, "asyncio"))


if __name__ == "__main__":
    sys.exit(main())
