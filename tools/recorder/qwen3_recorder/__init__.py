"""Records a Qwen3's activations in other engines, for `cargo xtask verify --observed`."""

from .files import Written
from .llama import record_llama_cpp
from .onnx_run import record_onnx
from .recording import Recording, record

__all__ = ["Recording", "Written", "record", "record_llama_cpp", "record_onnx"]
