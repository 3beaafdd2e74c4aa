"""What assets get from outside: the deployment's settings, a Spark session, the landing area.

The only module of this folder that reads the environment. The resources differ by deployment; the
assets do not ask which one it is.
"""

import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import dagster as dg
from pydantic import Field, PrivateAttr

from contracts.settings import Settings, settings_from

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PROJECT = Path(__file__).resolve().parent.parent


class Deployment(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where everything is.

    Attributes:
        variables: Settings that stand in front of the environment's, by the same names.
    """

    variables: dict[str, str] = Field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """The settings of this deployment."""
        return settings_from({**os.environ, **self.variables}, working_folder=PROJECT)

    @property
    def code_commit(self) -> str:
        """Commit of this code: `DRIVELAKE_COMMIT`, else what git says, else `unknown`."""
        named = {**os.environ, **self.variables}.get("DRIVELAKE_COMMIT")
        if named:
            return named
        try:
            command = ["git", "-C", str(PROJECT), "rev-parse", "HEAD"]
            return subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return "unknown"


class Spark(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A session on the Spark server, opened when an asset first has work for it."""

    deployment: dg.ResourceDependency[Deployment]
    _session: Any = PrivateAttr(default=None)

    @property
    def session(self) -> "SparkSession":
        """The session of this run."""
        if self._session is None:
            from spark_jobs.session import deferred

            self._session = deferred(self._opened)
        return self._session

    def _opened(self) -> "SparkSession":
        from spark_jobs.session import connect
        from spark_jobs.tables import register_existing

        session = connect(self.deployment.settings)
        # The server's catalogue may be younger than the lake.
        register_existing(session, self.deployment.settings)
        return session

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Close the session; the server goes on."""
        del context
        if self._session is not None:
            self._session.stop()
            self._session = None


class Landing(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The area where uploads arrive."""

    deployment: dg.ResourceDependency[Deployment]

    def listing(self) -> list[tuple[int, str, int]]:
        """Every object as (modified_ns, key, size_bytes), sorted. Storage failures raise."""
        raise NotImplementedError


class LandingFolder(Landing):
    """Landing on a disk."""

    def listing(self) -> list[tuple[int, str, int]]:
        """As in `Landing`; the folder is made if it is not there yet."""
        root = Path(unquote(urlsplit(self.deployment.settings.landing_uri).path))
        root.mkdir(parents=True, exist_ok=True)
        found = []
        for path in root.rglob("*"):
            with suppress(FileNotFoundError):  # an upload is renamed when it is whole
                if path.is_file():
                    found.append((path.stat(), path))
        return sorted((stat.st_mtime_ns, str(path), stat.st_size) for stat, path in found)


class LandingBucket(Landing):
    """Landing under a prefix of an S3 bucket."""

    def listing(self) -> list[tuple[int, str, int]]:
        """As in `Landing`."""
        from dagster_aws.s3.sensor import get_objects

        place = urlsplit(self.deployment.settings.landing_uri)
        objects = get_objects(place.netloc, place.path.lstrip("/"), client=self._client())
        return sorted(
            (int(item["LastModified"].timestamp()) * 1_000_000_000, item["Key"], item["Size"])
            for item in objects
        )

    def _client(self) -> object:
        from dagster_aws.s3 import S3Resource

        options = self.deployment.settings.storage_options
        return S3Resource(
            endpoint_url=options.get("AWS_ENDPOINT_URL"),
            region_name=options.get("AWS_REGION"),
            aws_access_key_id=options.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=options.get("AWS_SECRET_ACCESS_KEY"),
            aws_session_token=options.get("AWS_SESSION_TOKEN"),
        ).get_client()


def resources_for(
    variables: Mapping[str, str] | None = None, *, release: Mapping[str, Any] | None = None
) -> dict[str, object]:
    """The resources of a deployment.

    Args:
        variables: Settings that stand in front of the environment's.
        release: What is built, where it differs from the defaults of `Release`.
    """
    deployment = Deployment(variables=dict(variables or {}))
    on_s3 = urlsplit(deployment.settings.landing_uri).scheme in ("s3", "s3a")
    landing = LandingBucket if on_s3 else LandingFolder
    from assets.release import Release

    return {
        "deployment": deployment,
        "spark": Spark(deployment=deployment),
        "landing": landing(deployment=deployment),
        "release": Release(deployment=deployment, **dict(release or {})),
    }
