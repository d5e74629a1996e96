"""What a trained model does: arithmetic and pictures of its inside."""
