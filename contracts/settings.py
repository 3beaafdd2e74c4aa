"""Where things are and how big they may be, as values. Built from a mapping, never from os."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from contracts.errors import ContractViolation

DEFAULT_SPARK_PORT = 15002
DEFAULT_JDBC_PORT = 10000
DEFAULT_DAGSTER_PORT = 3000
DEFAULT_MLFLOW_PORT = 5000
_STORAGE_KEYS = (
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ALLOW_HTTP",
)


@attrs.frozen
class Settings:
    """One deployment. Every place is a URI.

    Attributes:
        home: Folder of the embedded deployment: catalogue, logs, keys, process ids.
        jars: Folder of the jars that set-up fetched.
        lake_uri: Root of the Delta tables: `file:///…` or `s3://bucket/prefix`.
        landing_uri: Where uploads arrive.
        artefacts_uri: Where bundles and compiled models go.
        truth_uri: Truth of simulated drives; read by tests and evaluation only.
        mlflow_uri: Tracking and registry.
        spark_remote: Spark Connect address.
        storage_options: delta-rs style keys (AWS_ENDPOINT_URL, AWS_REGION, …); empty on disk.
        samples_uri: Real recordings for tests and demo; None if there are none.
        sync_uri: The fleet's sync.yaml, a path or URI; None for the rules of this release.
        *_port: Ports on 127.0.0.1.
    """

    home: Path
    jars: Path
    lake_uri: str
    landing_uri: str
    artefacts_uri: str
    truth_uri: str
    mlflow_uri: str
    spark_remote: str
    storage_options: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    samples_uri: str | None = None
    sync_uri: str | None = None
    spark_port: int = DEFAULT_SPARK_PORT
    jdbc_port: int = DEFAULT_JDBC_PORT
    dagster_port: int = DEFAULT_DAGSTER_PORT
    mlflow_port: int = DEFAULT_MLFLOW_PORT


def settings_from(environment: Mapping[str, str], *, working_folder: Path) -> Settings:
    """Settings from variables named DRIVELAKE_…, SPARK_REMOTE, MLFLOW_TRACKING_URI and AWS_….

    Args:
        environment: Usually `os.environ`; passed in so that only the edges read it.
        working_folder: Absolute folder that relative defaults start from.

    Raises:
        ContractViolation: USAGE, a variable with a value that is none.
    """
    home = Path(environment.get("DRIVELAKE_HOME") or working_folder / ".drivelake").absolute()
    port = {
        name: _port(environment, f"DRIVELAKE_{name.upper()}_PORT", default=default)
        for name, default in (
            ("spark", DEFAULT_SPARK_PORT),
            ("jdbc", DEFAULT_JDBC_PORT),
            ("dagster", DEFAULT_DAGSTER_PORT),
            ("mlflow", DEFAULT_MLFLOW_PORT),
        )
    }

    def uri(name: str, folder: str) -> str:
        return environment.get(f"DRIVELAKE_{name}") or (home / folder).as_uri()

    return Settings(
        home=home,
        jars=Path(environment.get("DRIVELAKE_JARS") or working_folder / ".jars").absolute(),
        lake_uri=uri("LAKE", "lake"),
        landing_uri=uri("LANDING", "landing"),
        artefacts_uri=uri("ARTEFACTS", "artefacts"),
        truth_uri=uri("TRUTH", "truth"),
        mlflow_uri=environment.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home}/mlflow.db",
        spark_remote=environment.get("SPARK_REMOTE") or f"sc://127.0.0.1:{port['spark']}",
        storage_options={key: environment[key] for key in _STORAGE_KEYS if environment.get(key)},
        samples_uri=environment.get("DRIVELAKE_SAMPLES"),
        sync_uri=environment.get("DRIVELAKE_SYNC") or None,
        spark_port=port["spark"],
        jdbc_port=port["jdbc"],
        dagster_port=port["dagster"],
        mlflow_port=port["mlflow"],
    )


def _port(environment: Mapping[str, str], name: str, *, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise ContractViolation(f"{name} takes a port number; got '{text}'", code="USAGE")
    return int(text)
