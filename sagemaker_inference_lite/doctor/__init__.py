# SPDX-License-Identifier: Apache-2.0
"""What may keep a server from working, found before one is started: on this machine, in a project, in an image."""
