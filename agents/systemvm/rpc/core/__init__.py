# SPDX-License-Identifier: Apache-2.0
"""The sans-IO core of the JSON-RPC peer: frames, messages, methods and calls."""
