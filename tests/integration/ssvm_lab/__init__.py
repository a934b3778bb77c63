# SPDX-License-Identifier: Apache-2.0
"""A world for the SSVM's processes: two network namespaces, web servers good and bad, a store, helpers."""
