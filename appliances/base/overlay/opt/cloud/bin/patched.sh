#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# CloudStack's host runs this after a start to check that its scripts exist: it lists its arguments.
exec ls -lhd "$@"
