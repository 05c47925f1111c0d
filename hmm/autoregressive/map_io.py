"""A map's model and a scale as arrays, for `hmm.npz`, and back."""

from collections.abc import Mapping

import numpy as np

from seedmap.errors import UserError
from seedmap.hmm.autoregressive.map_model import MapModel
from seedmap.hmm.autoregressive.model import Parameters
from seedmap.hmm.features import Scale

_EMISSION = ("motion", "noise", "location", "spread")
_SCALE = ("mean", "std", "loadings", "covariance")


def model_arrays(model: MapModel) -> dict[str, np.ndarray]:
    """Returns the arrays of a model, without `initial` and `transition`, by name.

    Returns:
        `tempering` []; `motion`, `noise`, `location` and `spread` of each state; and `refit_...` of
        these four and of `initial` and `transition` of the refits, a leading axis [refit].
    """
    parameters = model.parameters
    own = {name: getattr(parameters, name) for name in _EMISSION}
    refits = {
        f"refit_{name}": np.stack([getattr(refit, name) for refit in model.refits])
        if model.refits
        else np.zeros((0, *array.shape))
        for name, array in parameters._asdict().items()
    }
    return {"tempering": np.array(model.tempering), **own, **refits}


def scale_arrays(scale: Scale) -> dict[str, np.ndarray]:
    """Returns the arrays of a scale by name.

    Returns:
        `scale_mean`, `scale_std` [metric], `scale_loadings` [metric, component] and
        `scale_covariance` [metric, metric].
    """
    return {f"scale_{name}": getattr(scale, name) for name in _SCALE}


def scale_from_arrays(
    arrays: Mapping[str, np.ndarray], metrics: tuple[str, ...], where: str
) -> Scale | None:
    """Returns the scale that `scale_arrays` took apart; None where there is none.

    Args:
        arrays: those of a saved HMM.
        metrics: names of the metrics.
        where: the file, for messages.

    Raises:
        UserError: an array is missing or of another shape, or holds what is not finite.
    """
    if not any(name.startswith("scale_") for name in arrays):
        return None
    num_metrics = len(metrics)
    loadings = arrays.get("scale_loadings", np.zeros(0))
    shapes = {
        "scale_mean": (num_metrics,),
        "scale_std": (num_metrics,),
        "scale_loadings": (num_metrics, *loadings.shape[1:2]),
        "scale_covariance": (num_metrics, num_metrics),
    }
    _check(arrays, shapes, where)
    return Scale(metrics, *(arrays[f"scale_{name}"] for name in _SCALE))


def model_from_arrays(
    arrays: Mapping[str, np.ndarray], scale: Scale | None, where: str
) -> MapModel | None:
    """Returns the model that `model_arrays` took apart; None where there is none.

    Args:
        arrays: those of a saved HMM, `initial` and `transition` among them.
        scale: of the same file.
        where: the file, for messages.

    Raises:
        UserError: an array or the scale is missing, or of another shape, or holds what is not
            finite.
    """
    if "tempering" not in arrays:
        return None
    if scale is None:
        raise UserError(f"{where} has no scale_mean: fit again or restore it")
    _check(arrays, _shapes(len(arrays["initial"]), scale.num_components), where)
    emission = (arrays[name] for name in _EMISSION)
    own = Parameters(arrays["initial"], arrays["transition"], *emission)
    stacks = [arrays[f"refit_{name}"] for name in Parameters._fields]
    refits = tuple(Parameters(*each) for each in zip(*stacks, strict=True))
    return MapModel(scale, float(arrays["tempering"]), own, refits)


def _check(
    arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], where: str
) -> None:
    """Raises UserError unless the arrays are there, of these shapes and finite."""
    for name, shape in shapes.items():
        array = arrays.get(name)
        if (
            array is None
            or array.dtype.kind != "f"
            or array.shape[array.ndim - len(shape) :] != shape
        ):
            raise UserError(f"{where}: {name} must be float {list(shape)}: fit again or restore it")
        if not np.isfinite(array).all():
            raise UserError(f"{where}: {name} holds numbers that are not finite")


def _shapes(num_states: int, size: int) -> dict[str, tuple[int, ...]]:
    """Shape of every array of a model, the leading axis of the refits left out."""
    of_state = {
        "initial": (num_states,),
        "transition": (num_states, num_states),
        "motion": (num_states, 1 + size, size),
        "noise": (num_states, size, size),
        "location": (num_states, size),
        "spread": (num_states, size, size),
    }
    return {
        "tempering": (),
        **of_state,
        **{f"refit_{name}": shape for name, shape in of_state.items()},
    }
