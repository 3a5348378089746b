"""For plugins: places at which a test can kill the process or make the call fail. See `anchovies.core.faultpoint`."""

from anchovies.core.faultpoint import fault

__all__ = ["fault"]
