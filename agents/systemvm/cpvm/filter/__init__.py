# SPDX-License-Identifier: Apache-2.0
"""The RFB message filter of consoles that are view-only, limited in their clipboard, or recorded."""
