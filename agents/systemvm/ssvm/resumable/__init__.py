# SPDX-License-Identifier: Apache-2.0
"""What a transfer leaves on its store to continue there: the part file, and the journal that describes it."""
