"""The prediction network: finding, checking and freezing a pretrained model, and knowing its classes."""
