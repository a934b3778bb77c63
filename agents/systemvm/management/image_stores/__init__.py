# SPDX-License-Identifier: Apache-2.0
"""Image stores: added and removed by administrators, measured, kept in balance, and retired."""
