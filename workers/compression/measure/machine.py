"""Describes this machine: for the manifest, and what it can run, for the gateway."""

import os
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from app.domain.reports import Machine
from app.domain.targets import Device, OutputFormat, Target
from app.domain.workers import Capabilities

_INSTRUCTION_SETS = (
    "sse4_1", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni",
    "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16", "amx_tile", "asimd", "asimddp",
    "asimdhp", "i8mm", "sve", "bf16",
)  # fmt: skip
"""As Linux spells them in /proc/cpuinfo; the order of reports."""

_INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
_FLOAT16 = frozenset({"avx512_fp16", "asimdhp"})
_PACKAGES = ("numpy", "onnx", "onnx-ir", "onnxruntime", "openvino", "torch")


def default_threads() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def torch_device() -> str:
    """Return the torch device to compute on: the visible GPU, or the CPU."""
    return "cuda" if _cuda() else "cpu"


def compute_device() -> str:
    """Return the torch device to compute on, after making a GPU compute fast and repeatably.

    Products of matrices use TF32 as convolutions do: float32 whose factors are rounded to ten bits.
    By default a GPU adds numbers up in any order. Where torch has an operator in one fixed order
    only for the CPU, it warns in the log, and the last bits of a training may vary.
    """
    device = torch_device()
    if device != "cpu":
        import torch

        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # torch hides it
        torch.set_float32_matmul_precision("high")
    return device


def machine(device: str = "cpu") -> Machine:
    """Describe the machine that the engine runs on."""
    fields = _cpuinfo()
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=fields.get("model name", platform.machine()),
        cores=os.cpu_count() or 1,
        memory_bytes=pages,
        instruction_sets=[name for name in _INSTRUCTION_SETS if name in flags],
        device=device,
    )


def versions() -> dict[str, str]:
    """Return the versions of the libraries that compute."""
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in _PACKAGES if _installed(name)
    }


def capabilities(runtimes: Mapping[OutputFormat, tuple[str, str]]) -> Capabilities:
    """Describe the machine, its devices and the runtimes on them.

    Args:
        runtimes: name and version of the runtime of each available format.
    """
    described = machine()
    cpu = Device(
        name=described.processor,
        kind="cpu",
        instruction_sets=described.instruction_sets,
        threads=default_threads(),
    )
    targets = [
        Target(
            target=name,
            runtime=runtime,
            version=version,
            devices=[cpu, *(_cuda() if name == "onnx" else [])],
            accelerates=_accelerates(described.instruction_sets),
        )
        for name, (runtime, version) in runtimes.items()
    ]
    return Capabilities(machine=described, targets=targets, versions=versions())


def _accelerates(instruction_sets: Iterable[str]) -> list[str]:
    """Return the number formats that this processor computes faster than float32."""
    available = set(instruction_sets)
    return [name for name, sets in (("int8", _INT8), ("float16", _FLOAT16)) if available & sets]


def _cuda() -> list[Device]:
    """Return the GPUs that both torch and the driver see; no driver, no import of torch."""
    if not Path("/dev/nvidiactl").exists():
        return []
    import torch

    return [
        Device(
            name=torch.cuda.get_device_name(index),
            kind="cuda",
            instruction_sets=["sm_{}{}".format(*torch.cuda.get_device_capability(index))],
            threads=torch.cuda.get_device_properties(index).multi_processor_count,
        )
        for index in range(torch.cuda.device_count())
    ]


def _cpuinfo() -> dict[str, str]:
    """Return the fields of the first processor; empty where there is no /proc."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    lines = [line.partition(":") for line in text.split("\n\n")[0].splitlines()]
    return {key.strip(): value.strip() for key, _, value in lines}


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
