"""Records a Qwen3's activations in other engines, for `cargo xtask verify --observed`."""

from .recording import Recording, record

__all__ = ["Recording", "record"]
