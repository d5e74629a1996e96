"""ids -> ids -> text: sampling, the cached loop, streaming.  The loop knows a step function and no text."""
