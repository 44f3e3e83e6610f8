# SPDX-License-Identifier: Apache-2.0
"""How the site is built: make docs."""

project = "sagemaker_inference_lite"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = project
myst_heading_anchors = 3
exclude_patterns = ["conf.py"]
nitpicky = True
suppress_warnings = ["myst.strikethrough"]
