#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Where CloudStack's operators and tests look for the checks of a system VM.
exec /opt/systemvm/current/bin/systemvm-check "$@"
