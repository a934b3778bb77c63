# SPDX-License-Identifier: Apache-2.0
"""A VM's screen for a VNC viewer of the operator: RFB on this host, a console's session behind it."""
