"""Training: the LightningModule, optimizers, schedules, tuning and callbacks."""
