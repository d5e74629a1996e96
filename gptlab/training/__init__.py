"""A batch -> one step of learning: the LightningModule, what optimises it, and what watches it."""
