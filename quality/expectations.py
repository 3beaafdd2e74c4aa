"""Great Expectations suites made of the contracts: the promises of a table, for people to read.

They take Arrow rows (through pandas) or a Spark Connect DataFrame. The library asks once for each
expectation, so on Spark a suite costs as many jobs as it has lines; `quality.evaluate` judges a
table in one query and is what guards the pipeline.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import attrs
import pyarrow as pa

from contracts.limits import RANGES, value_set
from contracts.tables import SILVER_KINDS, TableContract

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@attrs.frozen
class Expectation:
    """An expectation by the name that Great Expectations gives its type, with its arguments."""

    type: str
    arguments: dict[str, Any]


@attrs.frozen
class Outcome:
    """How one expectation fared; `observed` is what was found instead."""

    expectation: Expectation
    passed: bool
    observed: str


@attrs.frozen
class SuiteResult:
    """How a table fared against its suite."""

    table: str
    rows: int
    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """Whether every expectation was met."""
        return all(outcome.passed for outcome in self.outcomes)

    def markdown(self) -> str:
        """A table of the expectations, for a page."""
        lines = ["| expectation | on | met | observed |", "| --- | --- | --- | --- |"]
        for outcome in self.outcomes:
            arguments = outcome.expectation.arguments
            on = arguments.get("column") or ", ".join(arguments["column_list"])
            met = "yes" if outcome.passed else "**no**"
            kind = outcome.expectation.type.removeprefix("expect_")
            lines.append(f"| {kind} | {on} | {met} | {outcome.observed} |")
        return "\n".join(lines)


def suite_of(table: TableContract) -> tuple[Expectation, ...]:
    """The suite of a table: its columns in order, required ones, keys, closed sets and ranges."""
    columns = {"column_list": table.schema.names}
    suite = [Expectation("expect_table_columns_to_match_ordered_list", columns)]
    suite += [
        Expectation("expect_column_values_to_not_be_null", {"column": name})
        for name in table.required
    ]
    # Messages are kept as recorded, repeats included.
    if table.table not in SILVER_KINDS:
        suite.append(_unique(table.keys))
    for name in table.schema.names:
        if values := value_set(table.name, name):
            arguments = {"column": name, "value_set": list(values)}
            suite.append(Expectation("expect_column_values_to_be_in_set", arguments))
        if limits := RANGES.get(name):
            arguments = {"column": name, "min_value": limits[0], "max_value": limits[1]}
            suite.append(Expectation("expect_column_values_to_be_between", arguments))
    return tuple(suite)


def _unique(keys: tuple[str, ...]) -> Expectation:
    if len(keys) == 1:
        return Expectation("expect_column_values_to_be_unique", {"column": keys[0]})
    arguments = {"column_list": list(keys), "ignore_row_if": "never"}
    return Expectation("expect_compound_columns_to_be_unique", arguments)


def validate(rows: pa.Table | DataFrame, *, table: TableContract) -> SuiteResult:
    """Run the suite of a table over rows of it, offline.

    Args:
        rows: The table or a part of it, with any columns: wrong ones are what the suite finds.
        table: The contract.
    """
    with warnings.catch_warnings():
        # The library imports modules that Python 3.11 deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig
        from great_expectations.expectations.expectation_configuration import (
            ExpectationConfiguration,
        )

        suite = suite_of(table)
        context = gx.get_context(mode="ephemeral")
        context.enable_analytics(enable=False)
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        sources = context.data_sources
        asset: Any
        if isinstance(rows, pa.Table):
            import pandas as pd

            # Arrow-backed columns: nullable nanoseconds must not pass through float64.
            frame = rows.to_pandas(types_mapper=pd.ArrowDtype)
            asset = sources.add_pandas("arrow").add_dataframe_asset(table.table)
        else:
            frame = rows
            asset = sources.add_spark("spark").add_dataframe_asset(table.table)
        batch = asset.add_batch_definition_whole_dataframe("rows").get_batch({"dataframe": frame})
        found = [
            batch.validate(
                ExpectationConfiguration(
                    type=expectation.type, kwargs=expectation.arguments
                ).to_domain_obj()
            )
            for expectation in suite
        ]
    outcomes = zip(suite, found, strict=True)
    return SuiteResult(
        table=table.name,
        rows=rows.num_rows if isinstance(rows, pa.Table) else rows.count(),
        outcomes=tuple(
            Outcome(one, bool(result.success), _observed(result)) for one, result in outcomes
        ),
    )


def _observed(result: Any) -> str:
    found = result.result
    if result.exception_info and result.exception_info.get("raised_exception"):
        return str(result.exception_info.get("exception_message"))
    if result.success:
        return ""
    if "unexpected_count" in found:
        return f"{found['unexpected_count']} of {found['element_count']} rows"
    return str(found.get("observed_value", ""))
