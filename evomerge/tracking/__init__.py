"""Loggers: a search's progress in TensorBoard, Weights & Biases or MLflow."""
