"""Run network files in ONNX Runtime, OpenVINO and torch."""

__all__ = [
    "onnx_network",
    "openvino_network",
    "openvino_opening",
    "signature",
    "torch_files",
    "torch_network",
    "torch_opening",
]
