"""On-demand features: computed when they are read, from request values and stored features.

The same expression or function runs over the rows of a training frame and over an online request. Nothing of it is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from fstore.definitions.feature_view import PythonFunction
from fstore.definitions.location import Location, Named
from fstore.definitions.references import FeatureName


class OnDemand(Named, frozen=True, kw_only=True):
    """A feature computed when it is read, as its author wrote it: any value may be in any field.

    ``how`` is a SQL scalar expression or a function of the module; the names that it uses are request values and features.
    """

    how: object
    request: Mapping[str, str] = {}
    type: str | None = None
    features: Mapping[str, object] = {}
    description: str = ""
    pii: bool = False


class OnDemandFeature(msgspec.Struct, frozen=True, kw_only=True):
    """An on-demand feature as declared, its references by name: exactly one of ``sql`` and ``function`` computes it.

    ``request`` maps request values to types, ``features`` the other names to stored features. ``type`` is None where the
    type of the SQL decides.
    """

    name: str
    location: Location
    sql: str | None = None
    function: PythonFunction | None = None
    request: dict[str, str] = {}
    type: str | None = None
    features: dict[str, FeatureName] = {}
    description: str = ""
    pii: bool = False


def on_demand(
    name: str, how: str | Callable[..., object], /, *, request: Mapping[str, str] | None = None, type: str | None = None,
    description: str = "", pii: bool = False, **features: object,
) -> OnDemand:  # fmt: skip
    """Declare a feature that is computed when it is read.

    ``how`` is a SQL scalar expression (division by zero is null) or a module-level function that takes whole columns, as
    Arrow arrays, pandas or Polars Series by the annotation of its parameters, and returns one of the same length.
    ``request`` gives the names and types of values that a request brings; all other names are stored features, such as
    ``home_lat=UserHome.lat``. ``type`` is the type of the result; a function must have one.
    """
    return OnDemand(name=name, how=how, request=request or {}, type=type, features=features, description=description,
                    pii=pii)  # fmt: skip
