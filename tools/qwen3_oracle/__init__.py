"""Parity fixtures for Qwen3, computed with Hugging Face Transformers on the CPU."""
