"""Reading, building and editing .tflite models."""
