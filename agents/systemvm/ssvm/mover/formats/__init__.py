# SPDX-License-Identifier: Apache-2.0
"""Image formats, inspected as a stream: bytes pass once, and what is wrong is known as early as possible."""
