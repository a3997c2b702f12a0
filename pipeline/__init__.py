"""Regallery's library: from images to features to figures."""

import sys

# OpenVINO reports to its maker, over the network, that it was imported and what it converted: each
# time from a copy of this process. It does not where this package of its own is missing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
