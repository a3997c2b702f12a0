"""What networks are trained with: batches, augmentation, losses, schedules."""
