"""What a device can do: precision, memory, compile, peak throughput."""
