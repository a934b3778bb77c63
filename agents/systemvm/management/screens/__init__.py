# SPDX-License-Identifier: Apache-2.0
"""A VM's screen and keyboard for programs: pictures, typed text, keys, and waiting for a picture."""
