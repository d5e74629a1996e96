"""GPUs by name: what a run would have there."""

from typing import NamedTuple

from gptlab.hardware.peak import FORMATS, PEAKS, Peak


class Gpu(NamedTuple):
    """A GPU as its vendor describes it."""

    name: str
    memory_bytes: int
    peak: Peak

    def precision(self, precision: str) -> str:
        """Return Lightning's name of a run's precision there, see `choose_precision`."""
        if precision == "auto":
            return "bf16-mixed" if self.peak.bfloat16 else "32-true"
        return precision

    def peak_flops(self, precision: str) -> float:
        """Return the peak FLOP/s in a precision; 0 if the GPU has no units for its format.

        Args:
            precision: not `auto`.
        """
        name = precision.split("-")[0]
        return getattr(self.peak, "tf32" if name == "tf32" else str(FORMATS[name]).removeprefix("torch."), 0.0)


def _gpu(name: str, gigabytes: int, torch_name: str) -> Gpu:
    return Gpu(name, gigabytes * 10**9, PEAKS[torch_name])


# Memory from NVIDIA's data sheets. What torch reports differs by a few percent.
GPUS = (
    _gpu("T4", 16, "Tesla T4"),
    _gpu("V100 16GB", 16, "Tesla V100-SXM2-16GB"),
    _gpu("RTX 3090", 24, "NVIDIA GeForce RTX 3090"),
    _gpu("RTX 4090", 24, "NVIDIA GeForce RTX 4090"),
    _gpu("RTX 5090", 32, "NVIDIA GeForce RTX 5090"),
    _gpu("A10G", 24, "NVIDIA A10G"),
    _gpu("L4", 24, "NVIDIA L4"),
    _gpu("L40S", 48, "NVIDIA L40S"),
    _gpu("A100 40GB", 40, "NVIDIA A100-SXM4-40GB"),
    _gpu("A100 80GB", 80, "NVIDIA A100-SXM4-80GB"),
    _gpu("H100 80GB", 80, "NVIDIA H100 80GB HBM3"),
    _gpu("H200 141GB", 141, "NVIDIA H200"),
    _gpu("B200 180GB", 180, "NVIDIA B200"),
)
