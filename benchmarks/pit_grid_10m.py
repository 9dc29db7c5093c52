"""Point-in-time joins with snapshot views of ten million rows: at most half of what raw ASOF joins take."""

from benchmarks.pit_grid import run
from benchmarks.pit_stores import MILLION

if __name__ == "__main__":
    run("pit_grid_10m", 10 * MILLION, 0.5)
