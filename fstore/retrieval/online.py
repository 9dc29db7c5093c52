"""Online reads: the values that a point-in-time join at this moment would give, from the online store.

A read is prepared once per list of features (names, codecs, empty rows) and then costs one store read per view. A snapshot
view's key without a row reads as the view's empty row, as of the floor; what is older than ttl reads as null. Touches
neither the offline store nor the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fstore.errors import FloorMissing, RetrievalError
from fstore.interval import MICROSECOND, from_micros, to_micros
from fstore.plan.steps import EVENT_TIMESTAMP
from fstore.retrieval.entity_rows import key_columns
from fstore.retrieval.features import SelectedView, Selection, empty_values, refuse_taken
from fstore.retrieval.on_demand import OnDemandProgram
from fstore.stores.encoding import PRESENT, RowCodec, RowDecoder
from fstore.stores.row_layout import schema_id
from fstore.stores.online import OnlineStore, OnlineView
from fstore.types import Column

if TYPE_CHECKING:
    import pandas as pd

Status = Literal["value", "empty", "expired", "absent", "null_key", "computed"]
STATUSES: tuple[Status, ...] = ("value", "empty", "expired", "absent", "null_key", "computed")
"""What a value stands on: a stored row; the empty row, as the key has none; nothing, as what there is is older than ttl;
nothing, as nothing is known; nothing, as the key has a null; the request, as the feature is computed on demand."""

_VALUE, _EMPTY, _EXPIRED, _ABSENT, _NULL_KEY, _COMPUTED = range(6)


class OnlineResponse:
    """Feature values per entity, in the order asked for, with the given entity columns first."""

    def __init__(self, table: pa.Table, columns: Mapping[str, ViewValues]) -> None:
        self._table, self._columns = table, columns

    def to_arrow(self) -> pa.Table:
        """Return entity columns and features as an Arrow table."""
        return self._table

    def to_pandas(self) -> pd.DataFrame:
        """Return entity columns and features as a pandas DataFrame."""
        frame: pd.DataFrame = self._table.to_pandas(maps_as_pydicts="strict")
        return frame

    def to_dict(self) -> dict[str, list[object]]:
        """Return entity columns and features as lists by column; maps are dicts in the order of their keys."""
        return self._table.to_pydict(maps_as_pydicts="strict")  # type: ignore[no-any-return]

    @property
    def event_timestamps(self) -> dict[str, list[datetime | None]]:
        """The instant that each stored value describes, by feature column; None where there is none."""
        return {column: list(values.event_timestamps) for column, values in self._columns.items()}

    @property
    def statuses(self) -> dict[str, list[Status]]:
        """What each value stands on, by feature column; see :data:`STATUSES`."""
        return {column: list(values.statuses) for column, values in self._columns.items()}


class ViewValues:
    """One view's columns for all entities, and where they come from."""

    def __init__(self, arrays: Sequence[pa.Array], codes: npt.NDArray[np.int8], micros: npt.NDArray[np.int64]) -> None:
        self.arrays, self._codes, self._micros = arrays, codes, micros

    @property
    def statuses(self) -> list[Status]:
        """A status per entity."""
        return [STATUSES[code] for code in self._codes.tolist()]

    @property
    def event_timestamps(self) -> list[datetime | None]:
        """The instant per entity that its values describe."""
        pairs = zip(self._codes.tolist(), self._micros.tolist(), strict=True)
        return [from_micros(micros) if code <= _EMPTY else None for code, micros in pairs]


class PreparedView:
    """Everything about one view that a read needs and that does not depend on the entities."""

    def __init__(
        self, project: str, view: SelectedView, schemas: Sequence[Sequence[Column]], refill: Callable[[str], str]
    ) -> None:
        features = [Column(name=feature.name, type=feature.type or "") for feature in view.features]
        self.view, self.step, self._refill = view, view.step, refill
        self.name = OnlineView(project=project, view=view.step.view, generation=view.generation)
        self._codec = RowCodec(view.step.keys, features)
        self._decoder = RowDecoder(features, {schema_id(columns): columns for columns in schemas})
        self._empty = [column.combine_chunks() for column in empty_values(view).columns]

    def read(self, store: OnlineStore, entities: pa.Table, now: datetime) -> ViewValues:
        """Read the view's features of all entities as of ``now``."""
        keys = pa.table(key_columns(entities, self.view.keys, self.view.label), names=[key.name for key in self.step.keys])
        complete = np.ones(keys.num_rows, dtype=np.bool_)
        for column in keys.columns:
            complete &= column.is_valid().to_numpy()
        found = store.read_view(self.name, self._codec.encode_keys(keys if complete.all() else keys.filter(complete)))
        rows = found.rows
        if not complete.all():
            stored = iter(rows)
            rows = [next(stored) if whole else None for whole in complete.tolist()]
        floor = found.floor
        if floor is None:
            raise FloorMissing(
                f"the online store has nothing of view {self.name.view!r} (project {self.name.project!r}, "
                f"generation {self.name.generation}): it was never filled, it was flushed, or FSTORE_ONLINE_URL leads to "
                f"another store. {self._refill(self.name.view)}"
            )
        if self.step.kind == "event":
            return self._values(rows, complete, now, floor_sequence=0, floor_end=None)
        return self._values(rows, complete, now, floor_sequence=floor.sequence, floor_end=to_micros(floor.end))

    def _values(
        self, rows: Sequence[bytes | None], complete: npt.NDArray[np.bool_], now: datetime, *,
        floor_sequence: int, floor_end: int | None,
    ) -> ViewValues:  # fmt: skip
        """Judge the rows: a missing one is the floor's empty row (``floor_end`` None: nothing), then lag and ttl apply."""
        decoded = self._decoder.decode_rows(rows, floor_sequence)
        present = decoded[PRESENT].to_numpy()
        micros = decoded[EVENT_TIMESTAMP].cast(pa.int64()).fill_null(0 if floor_end is None else floor_end).to_numpy()
        known = present if floor_end is None else np.ones_like(present)
        codes = np.where(present, _VALUE, _EMPTY).astype(np.int8)
        codes[~known | (micros + self.step.lag // MICROSECOND > to_micros(now))] = _ABSENT
        if self.step.ttl is not None:
            measured = now if self.step.end is None else min(now, self.step.end)
            codes[(codes <= _EMPTY) & (micros < to_micros(measured - self.step.ttl))] = _EXPIRED
        codes[~complete] = _NULL_KEY
        arrays = [decoded[feature.name].combine_chunks() for feature in self.view.features]
        if codes.any():
            places = pa.array(np.where(codes == _VALUE, np.arange(len(codes)), len(codes)), mask=codes > _EMPTY)
            arrays = [
                pa.concat_arrays([array, empty]).take(places) for array, empty in zip(arrays, self._empty, strict=True)
            ]
        return ViewValues(arrays, codes, micros)


class PreparedRead:
    """A list of features, ready to be read for any entities."""

    def __init__(
        self,
        project: str,
        selection: Selection,
        schemas: Mapping[str, Sequence[Sequence[Column]]],
        refill: Callable[[str], str],
        on_demand: OnDemandProgram,
    ) -> None:
        """Prepare a selection.

        ``schemas`` are the feature columns, now and before, of the rows of each view; ``refill`` says how a view that is
        missing from the store gets there. Raises RetrievalError when a view is kept offline only.
        """
        for view in selection.views:
            if not view.step.online:
                raise RetrievalError(
                    f"view {view.step.view!r} is not kept online (online = False in {view.step.module}:{view.step.line}); "
                    "read it with get_historical_features, or leave its features out"
                )
        self.selection, self._on_demand = selection, on_demand
        self._views = [PreparedView(project, view, schemas[view.step.view], refill) for view in selection.views]

    def read(self, store: OnlineStore, entities: pa.Table, now: datetime) -> OnlineResponse:
        """Read the features for entities (a row each, with the request values) as of ``now``: one store read per join.

        Raises EntityColumnError, FeatureNameClash, FloorMissing, and what an on-demand feature raises.
        """
        refuse_taken(self.selection, entities.column_names)
        arrays: dict[str, pa.Array] = {}
        sources: dict[str, ViewValues] = {}
        for prepared in self._views:
            values = prepared.read(store, entities, now)
            for column, array in zip(prepared.view.columns, values.arrays, strict=True):
                arrays[column], sources[column] = array, values
        for name, values_on_demand in self._on_demand.evaluate(entities, arrays).items():
            computed = np.full(entities.num_rows, _COMPUTED, dtype=np.int8)
            arrays[name] = values_on_demand
            sources[name] = ViewValues([], computed, np.zeros(entities.num_rows, dtype=np.int64))
        table = entities
        for reference, column in zip(self.selection.references, self.selection.columns, strict=True):
            table = table.append_column(column, arrays[reference])
        return OnlineResponse(
            table,
            {c: sources[r] for r, c in zip(self.selection.references, self.selection.columns, strict=True)},
        )
