"""Unpacks the parts of PyTorch's wheels that a CPU libtorch needs: unpack_libtorch.py WHEELS DESTINATION"""

import pathlib
import shutil
import sys
import zipfile

LIBRARIES = {
    "torch/lib/libtorch_cpu.so",
    "torch/lib/libc10.so",
    "torch/lib/libgomp.so.1",
    "nvidia/cuda_cupti/lib/libcupti.so.12",
    "nvidia/cuda_runtime/lib/libcudart.so.12",
}
HEADERS = "torch/include/"


def main(wheels: pathlib.Path, destination: pathlib.Path) -> None:
    (destination / "lib").mkdir(parents=True)
    missing = set(LIBRARIES)
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                name = entry.filename
                if name in LIBRARIES:
                    target = destination / "lib" / pathlib.PurePosixPath(name).name
                    missing.discard(name)
                elif name.startswith(HEADERS) and not entry.is_dir() and ".." not in name:
                    target = destination / "include" / name[len(HEADERS) :]
                else:
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, open(target, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
    if missing:
        sys.exit(f"not in the wheels: {', '.join(sorted(missing))}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
