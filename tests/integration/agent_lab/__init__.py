# SPDX-License-Identifier: Apache-2.0
"""An agent as a process, with a fake daemon behind a real listener."""
