# SPDX-License-Identifier: Apache-2.0
"""The process that imports the handler once and forks the workers."""
