# SPDX-License-Identifier: Apache-2.0
"""A VM's serial port in the operator's own terminal."""
