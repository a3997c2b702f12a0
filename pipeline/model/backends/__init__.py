"""Network files run by ONNX Runtime, OpenVINO and torch."""
