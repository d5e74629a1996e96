"""What training does to the weights, for TensorBoard."""
