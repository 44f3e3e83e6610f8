# SPDX-License-Identifier: Apache-2.0
"""A server on a person's own machine: what it serves, where that lies, the server's process, and its clients.

Nothing here prints or reads the environment: the command does.
"""
