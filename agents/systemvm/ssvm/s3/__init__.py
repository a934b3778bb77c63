# SPDX-License-Identifier: Apache-2.0
"""S3: signatures, requests and answers without I/O, and what is done over a connection that fetch has opened.

Written here because no library fits: botocore is 80 MiB of service descriptions around blocking calls,
aws-sdk-signers needs a later Python than the host's lock, and others sign for one HTTP client only.
"""
