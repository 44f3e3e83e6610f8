# SPDX-License-Identifier: Apache-2.0
"""Owning child processes: to start them, to notice their end, to pass on what they print, to end them."""
