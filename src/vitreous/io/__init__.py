"""Files: every format is converted to the model's types here, once, and nothing inside knows it."""
