"""Known mistakes in Qwen3 implementations, each with how to plant it into Transformers and where it has to show."""
