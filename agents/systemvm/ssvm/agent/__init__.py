# SPDX-License-Identifier: Apache-2.0
"""The SSVM's role in the agent: it has the keys and the control network, and no other network."""
