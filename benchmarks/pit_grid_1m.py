"""Point-in-time joins with snapshot views of a million rows: at most four fifths of what raw ASOF joins take."""

from benchmarks.pit_grid import run
from benchmarks.pit_stores import MILLION

if __name__ == "__main__":
    run("pit_grid_1m", MILLION, 0.8)
