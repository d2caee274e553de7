"""The built-in model: its training text, its network and its file. See scripts/train/train_reader.py."""
