# SPDX-License-Identifier: Apache-2.0
"""Addresses as browsers see them: public endpoints, and the forwarded headers of proxies."""
