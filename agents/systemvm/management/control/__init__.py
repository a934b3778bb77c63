# SPDX-License-Identifier: Apache-2.0
"""The daemon's end of the control channel: who may come in, who is there, and who has fallen silent."""
