"""Asset checks made of the quality rules: one rule on one table is one check.

The checks of tables that are made together run in one step, with one query a table.
"""

import datetime as dt
from collections.abc import Iterator, Sequence

import dagster as dg

from assets.bronze import INGESTED
from assets.failures import stated_failures
from assets.resources import Deployment, Spark
from assets.table_state import table_state
from assets.tables import RETRIES, SPARK_POOL, key_of
from contracts.settings import Settings
from contracts.tables import TABLES, TableContract
from quality.evaluate import Query, evaluate, failing_sql, rules_for
from quality.expectations import SuiteResult
from quality.rule import RuleResult, Severity

SMALL_BYTES = 1 << 30
"""Tables of up to this size are judged in this process."""
SUITE_TABLES = ("bronze.recordings", "silver.clocks", "silver.frames", "gold.datasets")
SUITE_CHECK = "expectations"


def check_specs(name: str) -> list[dg.AssetCheckSpec]:
    """The checks of a table: one a rule, blocking if the rule is an ERROR."""
    table = TABLES[name]
    return [
        dg.AssetCheckSpec(
            rule.check_name,
            asset=key_of(name),
            description=rule.description,
            blocking=rule.severity is Severity.ERROR,
            additional_deps=[key_of(other) for other in failing.reads if other != name],
            metadata={"rule": rule.id, "severity": rule.severity.value},
        )
        for rule, failing in rules_for(table)
    ]


def _day(context: dg.AssetCheckExecutionContext) -> dt.date | None:
    """Ingest day of the run; None where the run has no partition: the whole table is judged."""
    run = context.op_execution_context
    return dt.date.fromisoformat(run.partition_key) if run.has_partition_key else None


def check_result(result: RuleResult, *, sql: str) -> dg.AssetCheckResult:
    """The verdict of a rule, with the SQL that shows the rows that break it."""
    return dg.AssetCheckResult(
        passed=result.passed,
        asset_key=key_of(result.table),
        check_name=result.rule.check_name,
        severity=dg.AssetCheckSeverity[result.rule.severity.value],
        metadata={
            "rows_checked": result.rows_checked,
            "rows_failed": result.rows_failed,
            "share_failed": result.measured,
            "share_allowed": result.threshold,
            "failing_rows": dg.MetadataValue.md(f"```sql\n{sql.strip()}\n```"),
        },
    )


def rule_checks(group: str, names: Sequence[str]) -> dg.AssetChecksDefinition:
    """One step that judges every rule of some tables.

    Args:
        group: Names the step: `check_<group>`.
        names: Its tables.
    """

    @dg.multi_asset_check(
        name=f"check_{group}",
        specs=[spec for name in names for spec in check_specs(name)],
        retry_policy=RETRIES,
        pool=SPARK_POOL,
    )
    def check(
        context: dg.AssetCheckExecutionContext, deployment: Deployment, spark: Spark
    ) -> Iterator[dg.AssetCheckResult]:
        """Judge the rules on the tables as they are, empty ones too."""
        day = _day(context)
        with stated_failures():
            query = _query(names, settings=deployment.settings, spark=spark)
            for name in names:
                yield from _judge(TABLES[name], query=query, day=day)

    return check


def _judge(
    table: TableContract, *, query: Query, day: dt.date | None
) -> Iterator[dg.AssetCheckResult]:
    failing = {rule.id: rows for rule, rows in rules_for(table)}
    for result in evaluate(table, query=query, day=day):
        sql = failing_sql(failing[result.rule.id], table=table, day=day)
        yield check_result(result, sql=sql)


def _query(names: Sequence[str], *, settings: Settings, spark: Spark) -> Query:
    """The engine for some tables and what their rules read: Spark, unless they are small."""
    from quality.engines import duckdb_query, spark_query
    from spark_jobs.tables import create_table, ensure_table

    reads = {other for name in names for _, rows in rules_for(TABLES[name]) for other in rows.reads}
    opened = {name: create_table(settings, TABLES[name]) for name in sorted({*names, *reads})}
    if sum(table_state(settings, name).size_bytes for name in opened) <= SMALL_BYTES:
        return duckdb_query({name: table.to_pyarrow_dataset() for name, table in opened.items()})
    for name in opened:
        ensure_table(spark.session, settings, TABLES[name])
    return spark_query(spark.session)


def suite_check(name: str) -> dg.AssetChecksDefinition:
    """The Great Expectations suite of a table as one check, on the rows of the ingest day."""

    @dg.multi_asset_check(
        name=f"{SUITE_CHECK}_{name.replace('.', '_')}",
        specs=[
            dg.AssetCheckSpec(
                SUITE_CHECK,
                asset=key_of(name),
                description="The Great Expectations suite that is made of the contract.",
            )
        ],
        retry_policy=RETRIES,
    )
    def check(
        context: dg.AssetCheckExecutionContext, deployment: Deployment
    ) -> dg.AssetCheckResult:
        """Run the suite over the rows, read without Spark."""
        from quality.expectations import validate
        from spark_jobs.tables import read_arrow

        day = _day(context)
        filters = [("ingest_date", "=", day)] if day else None
        rows = read_arrow(deployment.settings, name, filters=filters)
        return _suite_result(validate(rows, table=TABLES[name]))

    return check


def _suite_result(result: SuiteResult) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=result.passed,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "rows_checked": result.rows,
            "expectations": len(result.outcomes),
            "expectations_met": sum(outcome.passed for outcome in result.outcomes),
            "suite": dg.MetadataValue.md(result.markdown()),
        },
    )


def all_checks() -> list[dg.AssetChecksDefinition]:
    """Every check of the platform."""
    groups = {
        "ingest": INGESTED,
        "clocks": ("silver.clocks",),
        "frames": ("silver.frames", "silver.frame_versions"),
        "scenarios": ("gold.scenarios", "gold.scenario_versions"),
        "labels": ("gold.labels", "gold.label_versions"),
        "dataset": ("gold.datasets", "gold.dataset_samples"),
        "evaluations": ("gold.evaluations",),
        "releases": ("gold.releases",),
    }
    return [
        *(rule_checks(group, names) for group, names in groups.items()),
        *(suite_check(name) for name in SUITE_TABLES),
    ]
