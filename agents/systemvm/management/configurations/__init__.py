# SPDX-License-Identifier: Apache-2.0
"""Settings that the API changes while the daemon runs, by CloudStack's names where it has them."""
