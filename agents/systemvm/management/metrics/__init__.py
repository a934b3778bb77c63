# SPDX-License-Identifier: Apache-2.0
"""The daemon's metrics for Prometheus, and through it those of its agents."""
