"""gptlab: build, pretrain and finetune GPT-style language models."""
