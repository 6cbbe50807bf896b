"""An adapted model as one program for other runtimes: ONNX and torch.export, checked before they are written."""
