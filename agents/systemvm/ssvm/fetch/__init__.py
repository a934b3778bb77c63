# SPDX-License-Identifier: Apache-2.0
"""`systemvm-fetch`: policy, name resolution, probes and redirects, on the public network."""
