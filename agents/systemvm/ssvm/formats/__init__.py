# SPDX-License-Identifier: Apache-2.0
"""Image formats, inspected as a stream: bytes pass once, and errors are found as early as possible."""
