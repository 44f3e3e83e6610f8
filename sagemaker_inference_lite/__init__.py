# SPDX-License-Identifier: Apache-2.0
"""Serve Python models behind SageMaker endpoints, on Multi Model Server.

README.md and docs/ document the public surface: ``model_server``, ``default_handler_service``, ``codecs``,
``content_types``, ``errors`` and ``settings``. Importing this package imports none of them, so that a
worker, a supervisor or a command each pays for what it uses.
"""

__version__ = "0.1.0"
