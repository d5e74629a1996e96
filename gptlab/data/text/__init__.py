"""Running text: cleaned documents, tokenised corpora, windows."""
