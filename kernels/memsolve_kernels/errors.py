"""Errors for people: each says what was given, what was expected, and what to do."""


class InputError(ValueError):
    """An argument that cannot be used; the base of every error that memsolve raises on purpose."""


class ShapeError(InputError):
    """Shapes that do not fit each other, or a wrong number of dimensions."""


class DtypeError(InputError, TypeError):
    """A type, layout or dtype that the function does not take, or dtypes that differ."""


class DeviceError(InputError):
    """Tensors on different devices, or a device that the backend cannot use."""


class RangeError(InputError):
    """A number outside the range in which it means something."""


class NonFiniteError(InputError):
    """NaN or infinity where it would silently spoil the result."""


class BackendError(InputError):
    """An explicit choice of backend or precision that cannot be honoured here."""
