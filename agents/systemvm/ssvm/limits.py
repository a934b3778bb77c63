# SPDX-License-Identifier: Apache-2.0
"""Limits of a transfer. Those that a user can set come with the request; these apply to all."""

from __future__ import annotations

from attrs import evolve, frozen

from systemvm.wire.storage import MAX_ACTIVE_DOWNLOADS, MAX_DOWNLOADS

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


@frozen
class TransferLimits:
    """A value, so that tests can shorten what takes a minute in production."""

    connect_timeout_s: float = 10.0
    lookup_timeout_s: float = 15.0
    proxied_lookup_timeout_s: float = 3.0  # of a name that the proxy resolves itself
    headers_timeout_s: float = 30.0
    stall_timeout_s: float = 60.0  # without a byte
    slow_window_s: float = 120.0  # fewer bytes than the next value in this window are a stall, too
    slow_window_bytes: int = 64 * KIB
    store_timeout_s: float = 60.0  # one call of the store's helper
    trailing_timeout_s: float = 2.0  # how long to wait for bytes past the announced end
    retry_budget_s: float = 300.0  # without progress, until retries end
    first_byte_budget_s: float = 120.0  # until retries of a source that has not sent a byte end
    #: The same when the source refuses connections: most often a wrong port, and its user waits.
    #: It is the time of a server's restart, so it is not longer on a slow machine.
    refused_budget_s: float = 15.0
    #: How long the download of another SSVM's link waits before it tries again, when its retries have ended.
    source_wait_s: float = 30.0
    retry_base_delay_s: float = 1.0
    retry_max_delay_s: float = 30.0
    retry_progress_bytes: int = 64 * KIB  # this many more bytes count as progress
    max_fruitless_restarts: int = 3  # from the first byte, without getting further than before
    upload_idle_s: float = 1800.0  # a mover waits so long for the next body; then its memory is for others
    upload_abandoned_s: float = 86_400.0  # an upload that has begun waits so long for its client
    upload_takeover_s: float = 5.0  # a body that brings nothing for so long gives way to another one
    max_redirects: int = 5
    max_url_characters: int = 4096
    max_active_jobs: int = MAX_ACTIVE_DOWNLOADS
    initial_active_jobs: int = 2  # until the machine has shown how quick it is
    max_jobs: int = MAX_DOWNLOADS  # including those that wait for their store
    max_virtual_size_bytes: int = 16 * TIB
    # Zeros compress 1,030:1 with gzip and 32,600:1 with zstd; a disk that is more than zeros stays far below.
    max_ratio: int = 5000
    ratio_free_bytes: int = 256 * MIB  # below this size no ratio is checked

    def scaled(self, factor: float) -> TransferLimits:
        """Return the limits for a machine that is `factor` times slower: its delays are its own."""
        return evolve(
            self,
            connect_timeout_s=self.connect_timeout_s * factor,
            lookup_timeout_s=self.lookup_timeout_s * factor,
            headers_timeout_s=self.headers_timeout_s * factor,
            stall_timeout_s=self.stall_timeout_s * factor,
            slow_window_s=self.slow_window_s * factor,
            retry_budget_s=self.retry_budget_s * factor,
            first_byte_budget_s=self.first_byte_budget_s * factor,
        )


DEFAULT = TransferLimits()
