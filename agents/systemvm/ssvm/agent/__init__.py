# SPDX-License-Identifier: Apache-2.0
"""The SSVM's role inside the agent: the control network and keys, and no other network."""
