# SPDX-License-Identifier: Apache-2.0
"""What agent and fetch say to each other over /run/systemvm/fetch.sock; the agent calls, fetch tells."""

from __future__ import annotations

from attrs import field, frozen

from systemvm.ssvm.mover_messages import MoverResult
from systemvm.wire.storage import DownloadRequest, DownloadStatus

HELLO = "fetch.hello"  # agent → fetch
START = "fetch.start"  # agent → fetch: get or start
STOP = "fetch.stop"  # agent → fetch: stop and forget
PROGRESS = "fetch.progress"  # fetch → agent, notification
FINISHED = "fetch.finished"  # fetch → agent, a call: brought, or failed

MAX_CA_CHARACTERS = 64 * 1024


@frozen
class FetchHello:
    """`instance` changes when fetch was started anew: its jobs are gone then."""

    instance: str
    used_job_ids: list[str]  # those whose directories are still wanted


@frozen
class FetchStatus:
    """How a job is: under way, failed (`status` says so), or brought: then `moved` waits to be published."""

    status: DownloadStatus
    moved: MoverResult | None = None

    @property
    def ended(self) -> bool:
        return self.moved is not None or self.status.state.ended


@frozen
class DeniedNetwork:
    """A network of the zone's own, and what it is, for the error's text."""

    cidr: str
    what: str


@frozen
class StartRequest:
    """The download, and what fetch cannot know: whose job it is and where in this zone it must not go."""

    owner: str
    download: DownloadRequest
    denied: list[DeniedNetwork] = field(factory=list)
