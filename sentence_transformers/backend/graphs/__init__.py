"""Networks written to a file for another runtime (ONNX, OpenVINO): how they are made, found and run."""
