"""What a person sees of a history: a figure, a table, a notebook's box. They read decisions and know no tuner."""

from autotunenet.views.frame import to_frame
from autotunenet.views.notebook import to_html, to_line
from autotunenet.views.plotting import plot
from autotunenet.views.viewed import Viewed

__all__ = ["Viewed", "plot", "to_frame", "to_html", "to_line"]
