"""Networks: recipes, checkpoints, backends, preprocessing and views."""
