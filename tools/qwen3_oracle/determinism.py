"""Makes the same command write the same bytes, also on another x86 CPU.

PyTorch, MKL and glibc choose code paths, and with them roundings, by the CPU they find. The choices are
read from the environment when a process starts, so `restart` has to run before torch is imported.
"""

from __future__ import annotations

import os
import sys

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MKL_CBWR": "COMPATIBLE",
    "ATEN_CPU_CAPABILITY": "default",
    # glibc's exp, sin and cos have FMA variants that round differently; both spellings of the names are in use.
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-FMA_Usable,-FMA4,-FMA4_Usable,-AVX2,-AVX2_Usable",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONHASHSEED": "0",
}


def restart() -> None:
    """Starts the script again under `ENVIRONMENT` unless it already runs under it, then sets PyTorch up."""
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.environ.update(ENVIRONMENT)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    set_up_torch()


def set_up_torch() -> None:
    """One thread, deterministic algorithms, no oneDNN and no gradients."""
    import torch
    import transformers

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    torch.backends.mkldnn.enabled = False
    torch.use_deterministic_algorithms(True)
    torch.set_grad_enabled(False)
    transformers.logging.disable_progress_bar()
