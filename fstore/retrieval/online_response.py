"""What an online read gives: the features of each entity, in the form that is asked for.

Takes the judged rows of each view and what was computed on demand; converts nothing before it is asked for. Says of every
value what it stands on, which instant it describes, and how long ago it was read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fstore.retrieval.online_entities import OnlineEntities
from fstore.retrieval.online_values import Status, ViewValues
from fstore.retrieval.uneven_rows import without_marks
from fstore.stores.row_values import objects

if TYPE_CHECKING:
    import pandas as pd

Result = TypeVar("Result")

_NOW = timedelta()


class Place(NamedTuple):
    """Where an output column comes from: of a view's features (``view`` is its number) or computed (None); its type."""

    column: str
    reference: str
    view: int | None
    feature: int
    type: str


class Outputs:
    """Where all output columns come from, and their types; made once per list of features.

    ``straight`` are the names of the columns where they are the features of the only view.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = tuple(places)
        self.types = {place.column: place.type for place in self.places}
        own = [(place.view, place.feature) for place in self.places]
        straight = own == [(0, feature) for feature in range(len(own))]
        self.straight = tuple(place.column for place in self.places) if straight else None


class NumpyFeatures(NamedTuple):
    """Features as numpy arrays by column, each with an item per entity, and where they are null.

    ``values`` have the feature's own dtype; instants are ``datetime64[us]`` in UTC, dates ``datetime64[D]``, vectors have a
    column per item, and strings, decimals, lists and maps are objects. Where ``nulls`` has True there is no value: NaN in
    floats, NaT in instants and dates, None in objects, and 0 or False in integers and bools. A NaN may also be a value.
    """

    values: dict[str, npt.NDArray[np.generic]]
    nulls: dict[str, npt.NDArray[np.bool_]]


class OnlineResponse:
    """Feature values per entity, in the order asked for, with the given entity columns first."""

    def __init__(
        self, entities: OnlineEntities, outputs: Outputs, views: Sequence[ViewValues],
        computed: Mapping[str, pa.ChunkedArray],
        offline: Mapping[str, pa.ChunkedArray] | None = None,
    ) -> None:  # fmt: skip
        self.outputs, self._entities, self._places, self._views = outputs, entities, outputs.places, views
        self._offline = offline or {}
        self._computed = {**computed, **self._offline} if offline else computed
        self._straight = outputs.straight

    def __len__(self) -> int:
        return self._entities.count

    def to_dict(self) -> dict[str, list[object]]:
        """Return entity columns and features as lists by column; maps are dicts in the order of their keys."""
        lists = [values.rows.lists() for values in self._views]
        found = self._entities.lists()
        if self._straight is not None:
            found.update(zip(self._straight, lists[0], strict=True))
            return found
        for column, reference, view, feature, _ in self._places:
            if view is None:
                found[column] = self._computed[reference].to_pylist(maps_as_pydicts="strict")
            else:
                found[column] = lists[view][feature]
        return found

    def to_numpy(self) -> NumpyFeatures:
        """Return the features, without the entities, as numpy arrays and masks; see :class:`NumpyFeatures`."""
        parts = [values.rows.arrays() for values in self._views]
        if self._straight is not None:
            (arrays, null_rows), names = parts[0], self._straight
            return NumpyFeatures(dict(zip(names, arrays, strict=True)), dict(zip(names, null_rows, strict=True)))
        found: dict[str, npt.NDArray[np.generic]] = {}
        nulls: dict[str, npt.NDArray[np.bool_]] = {}
        masks = [list(part[1]) for part in parts]
        for column, reference, view, feature, _ in self._places:
            if view is None:
                found[column], nulls[column] = _as_numpy(self._computed[reference])
            else:
                found[column], nulls[column] = parts[view][0][feature], masks[view][feature]
        return NumpyFeatures(found, nulls)

    def to_arrow(self) -> pa.Table:
        """Return entity columns and features as an Arrow table."""
        table = without_marks(self._entities.table)
        for column, reference, view, feature, _ in self._places:
            array = self._computed[reference] if view is None else self._views[view].rows.arrow(feature)
            table = table.append_column(column, array)
        return table

    def to_pandas(self) -> pd.DataFrame:
        """Return entity columns and features as a pandas DataFrame."""
        frame: pd.DataFrame = self.to_arrow().to_pandas(maps_as_pydicts="strict")
        return frame

    @property
    def types(self) -> dict[str, str]:
        """The logical type of each feature column, as definitions write it."""
        return dict(self.outputs.types)

    @property
    def statuses(self) -> dict[str, list[Status]]:
        """What each value stands on, by feature column; see :data:`~fstore.retrieval.online_values.STATUSES`."""
        computed: Status = "computed"
        found = self._by_column(ViewValues.statuses, computed)
        for place in self._places:
            if place.reference in self._offline:
                found[place.column] = ["offline"] * len(self)
        return found

    @property
    def event_timestamps(self) -> dict[str, list[datetime | None]]:
        """The instant that each stored value describes, by feature column; None where there is none."""
        return self._by_column(ViewValues.event_timestamps, None)

    @property
    def ages(self) -> dict[str, list[timedelta]]:
        """How long before this response each value was read from the store, by feature column.

        Zero unless it comes from a cache, or is the last known one of a store that is away.
        """
        return self._by_column(ViewValues.ages, _NOW)

    @property
    def cache_hits(self) -> dict[str, list[bool]]:
        """Which values come from the client's cache, by feature column."""
        return self._by_column(ViewValues.cache_hits, False)

    def _by_column(self, read: Callable[[ViewValues], list[Result]], computed: Result) -> dict[str, list[Result]]:
        parts = [read(values) for values in self._views]
        return {
            place.column: [computed] * len(self) if place.view is None else list(parts[place.view]) for place in self._places
        }


def _as_numpy(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.bool_]]:
    """Return what is computed on demand by the same rules as stored features."""
    nulls = column.is_null().to_numpy()
    kind = column.type
    if pa.types.is_boolean(kind):
        return column.fill_null(False).to_numpy(), nulls
    if pa.types.is_integer(kind):
        return column.fill_null(0).to_numpy(), nulls
    if pa.types.is_floating(kind):
        return column.to_numpy(), nulls
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        unit = "us" if pa.types.is_timestamp(kind) else "D"
        whole = column.cast(pa.int64() if unit == "us" else pa.int32())
        values = whole.fill_null(0).to_numpy().astype("int64").view(f"<M8[{unit}]")
        values[nulls] = np.datetime64("NaT")
        return values, nulls
    if pa.types.is_fixed_size_list(kind):
        vectors = np.full((len(column), kind.list_size), np.nan, dtype=kind.value_type.to_pandas_dtype())
        items = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]  # those of nulls are left out
        vectors[~nulls] = np.concatenate([vectors[:0].ravel(), *items]).reshape(-1, kind.list_size)
        return vectors, nulls
    return objects(column.to_pylist(maps_as_pydicts="strict")), nulls
