"""Which logical types may become which others without a decision that only the author can take.

Pure: takes types as text and gives a truth value. What is refused here is for users to write as a CAST.
"""

from __future__ import annotations

from fstore.types import parse_type

_RANGES: dict[str, tuple[int, int]] = {
    f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)
} | {f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)}


def converts_exactly(found: str, wanted: str) -> bool:
    """Whether values of one logical type may become another without a decision that only the author can take.

    True where every value either keeps its meaning or is caught as not fitting (an integer out of range, a list of the wrong
    length). Floats may become narrower and integers floats. False where rounding, cutting off or parsing would be needed.
    """
    if found == wanted or "NULL" in found:
        return True
    if not is_type(found):
        return False
    source, target = parse_type(found), parse_type(wanted)
    if target.is_float:
        return bool(source.is_numeric or source.name == "bool")
    if target.is_integer:
        return source.is_integer or source.name == "bool" or (source.name == "decimal" and source.scale == 0)
    if target.name == "decimal":
        return source.is_integer or (source.name == "decimal" and source.scale <= target.scale)
    if target.name == "timestamp":
        return source.name in ("date", "timestamp")
    if target.item is not None and source.item is not None and (target.name == "map") == (source.name == "map"):
        return converts_exactly(str(source.item), str(target.item))
    return False


def widens(found: str, wanted: str) -> bool:
    """Whether every value of one logical type is a value of another, so that no conversion can fail or round."""
    if found == wanted:
        return True
    if not is_type(found):
        return False
    source, target = parse_type(found), parse_type(wanted)
    if source.is_integer and target.is_integer:
        (low, high), (least, most) = _RANGES[source.name], _RANGES[target.name]
        return bool(least <= low and high <= most)
    if source.is_integer and target.name == "float64":
        return source.name not in ("int64", "uint64")
    if source.is_integer and target.name == "decimal":
        return bool(10 ** (target.precision - target.scale) > max(-_RANGES[source.name][0], _RANGES[source.name][1]))
    if source.name == "decimal" and target.name == "decimal":
        return source.scale <= target.scale and source.precision - source.scale <= target.precision - target.scale
    return (found, wanted) == ("float32", "float64")


def is_type(text: str) -> bool:
    """Whether a text names a logical type."""
    try:
        parse_type(text)
    except ValueError:
        return False
    return True
