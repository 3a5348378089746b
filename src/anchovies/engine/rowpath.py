"""What a flow needs once there are rows. It loads pyarrow, so it is loaded late: a run that finds nothing never pays for it."""

from anchovies.engine.checks import ColumnCheck
from anchovies.engine.consumer import Consumer, end_all
from anchovies.engine.gather import Piece, gather
from anchovies.engine.shaping import Shaper
from anchovies.engine.spool import Later, spooled
from anchovies.engine.writer import TableWriter

__all__ = ["ColumnCheck", "Consumer", "Later", "Piece", "Shaper", "TableWriter", "end_all", "gather", "spooled"]
