"""Tables of the REST API: lists of dicts, which pandas takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fedmq.errors import ConfigError

if TYPE_CHECKING:
    import pandas

Row = dict[str, Any]


class Table(list[Row]):
    """Rows of one kind, as dicts. It is a plain list in all other respects."""

    def to_pandas(self) -> pandas.DataFrame:
        """Returns the rows as a DataFrame, each field as a column. Raises ConfigError without pandas."""
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise ConfigError("to_pandas needs pandas, which is not installed: pip install 'fedmq[pandas]'") from error
        return pandas.DataFrame(list(self))


def with_means(rows: Iterable[Row]) -> Table:
    """Returns rows in which the mean of each summary of `metrics` is a column, and its number of values: `NAME n`."""
    return Table(row | _means(row["metrics"]) for row in rows)


def metrics_row(model: Row, trained: Row) -> Row:
    """Returns the row of a model: means and spread of its `metrics`, and the means that its trainers reported."""
    row: Row = {"round": model["round"], "model": model["model"]}
    for name, summary in sorted(model["metrics"].items()):
        row |= _means({name: summary})
        if summary["n"] > 1:
            row |= {f"{name} {each}": summary[each] for each in ("min", "median", "max")}
    return row | _means({f"training/{name}": summary for name, summary in sorted(trained.items())})


def _means(summaries: Row) -> Row:
    row: Row = {}
    for name, summary in summaries.items():
        row |= {name: summary["mean"], f"{name} n": int(summary["n"])}
    return row
