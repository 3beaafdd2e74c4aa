"""Sets up the platform from a bare Python 3.11 and Java 17. Uses the standard library only.

Makes `.venv` from a lock with hashes, fetches the jars of `locks/jars.lock` by name and pinned
checksum into `.jars`, and compiles what is in Java, and the kernels in C. Each part is skipped
when it is current.
Every failure is one sentence that says what to install or free, and exit code 1.
"""

import gzip
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
JARS = ROOT / ".jars"
LOCKS = ROOT / "locks"
PYTHON = VENV / "bin" / "python"
SPARK_JARS = VENV / "lib/python3.11/site-packages/pyspark/jars"
NEEDED_GIB = 12
JAVA_MINIMUM = 17


class SetupError(Exception):
    """What is missing and what to do, in one sentence."""


def check_python():
    """Refuse any Python but 3.11: the lock is for that one."""
    if sys.version_info[:2] != (3, 11):
        found = ".".join(str(part) for part in sys.version_info[:3])
        raise SetupError(
            "drivelake needs Python 3.11, but this is Python %s. "
            "Install python3.11 (with venv) and run again with `make PYTHON=python3.11`." % found
        )


def check_java():
    """Refuse a machine without a Java 17 or newer, or without its compiler."""
    for program in ("java", "javac"):
        if shutil.which(program) is None:
            raise SetupError(
                "drivelake needs Java %d for Spark, but there is no `%s` on the PATH. "
                "Install a JDK, e.g. openjdk-17-jdk-headless." % (JAVA_MINIMUM, program)
            )
    text = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    match = re.search(r'version "(\d+)', text)
    if not match or int(match.group(1)) < JAVA_MINIMUM:
        raise SetupError(
            "drivelake needs Java %d or newer, but `java -version` says: %s. "
            "Install openjdk-17-jdk-headless and put it first on the PATH."
            % (JAVA_MINIMUM, text.strip().splitlines()[0] if text.strip() else "nothing")
        )


def check_disk():
    """Refuse to start an installation that would fill the disk."""
    free = shutil.disk_usage(str(ROOT)).free / 2**30
    if free < NEEDED_GIB and not (VENV / "complete").exists():
        raise SetupError(
            "The environment needs %d GiB of disk, but only %.1f GiB are free under %s. "
            "Free some space and run again." % (NEEDED_GIB, free, ROOT)
        )


# What pip, uv and Ivy say when they reach nobody, and anything when the disk is full.
CAUSES = {
    r"dns error|name resolution|resolve host|host \S+ not found|name or service not known"
    r"|connection (refused|reset|timeout|timed out|error)|connect error|new connection"
    r"|operation timed out|read timed out|is unreachable|error sending request|connect to proxy"
    r"|server access error": "The package registry can't be reached: check the network or the "
    "proxy settings.",
    r"no space left|disk quota": "The disk is full: free some space and run again.",
}


def run(command, what, **options):
    """Run a step; a failure is a sentence, with the step's own last words where it names none."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )
    if done.returncode == 0:
        return
    words = "\n".join(part.strip() for part in (done.stdout, done.stderr) if part.strip())
    for cause, hint in CAUSES.items():
        for line in words.splitlines():
            if re.search(cause, line, re.IGNORECASE):
                raise SetupError("%s failed. %s It says: %s" % (what, hint, line.strip()[:200]))
    sys.stderr.write(words[-3000:] + "\n")
    raise SetupError("%s failed. See the message above." % what)


def current(folder, stamp):
    """Whether the folder was completed from the very inputs of the stamp."""
    marker = folder / "complete"
    return marker.exists() and marker.read_text() == stamp


def digest_of(*paths):
    """SHA-256 over the contents of files."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()


def begin_environment():
    """`.venv` with its installer and Spark; one made from other locks is made anew."""
    stamp = environment_stamp()
    if current(VENV, stamp):
        return False
    shutil.rmtree(str(VENV), ignore_errors=True)
    run([sys.executable, "-m", "venv", VENV], "Making the virtual environment")
    say("installing the packages of locks/requirements.lock (about 8 GB) …")
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--require-hashes", "-r", LOCKS / "bootstrap.lock"], "Installing the installer")
    # Spark comes first: its classes are archived while the rest is installed.
    lock = (LOCKS / "requirements.lock").read_text()
    spark = VENV / "spark.lock"
    spark.write_text(re.search(r"^pyspark(\[\w+\])?==(.*\\\n)+.*\n", lock, re.MULTILINE).group())
    run([*uv_install(), "--no-deps", "--require-hashes", "-r", spark], "Installing Spark")
    return True


def finish_environment():
    """The other packages, exactly as the lock says."""
    stamp = environment_stamp()
    if current(VENV, stamp):
        return False
    lock = LOCKS / "requirements.lock"
    run([*uv_install(), "--require-hashes", "-r", lock], "Installing the packages")
    (VENV / "complete").write_text(stamp)
    return True


def environment_stamp():
    """What `.venv` is made from."""
    return digest_of(LOCKS / "requirements.lock", LOCKS / "bootstrap.lock")


def uv_install():
    """The command that installs into `.venv`."""
    return [VENV / "bin" / "uv", "pip", "install", "--quiet", "--python", PYTHON]


def install_project():
    """The project itself, editable, into `.venv`."""
    marker, stamp = VENV / "project", digest_of(ROOT / "pyproject.toml")
    if marker.exists() and marker.read_text() == stamp:
        return False
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--editable", ROOT]
    run([*uv_install(), *options], "Installing drivelake itself")
    marker.write_text(stamp)
    return True


def read_jar_lock():
    """Rows (folder, group, artifact, version, sha256) of the jar lock."""
    lines = (LOCKS / "jars.lock").read_text().splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def fetch_jars():
    """`.jars/<folder>/*.jar` by name through Ivy, which Spark brings, checked by SHA-256."""
    stamp = digest_of(LOCKS / "jars.lock")
    if current(JARS, stamp):
        return False
    say("fetching the jars of locks/jars.lock (28 MB) …")
    rows = read_jar_lock()
    ivy = next(SPARK_JARS.glob("ivy-*.jar"))
    work = JARS / "work"
    shutil.rmtree(str(JARS), ignore_errors=True)
    work.mkdir(parents=True)
    dependencies = "\n".join(
        '<dependency org="%s" name="%s" rev="%s" transitive="false" conf="default->*"/>'
        % (group, artifact, version)
        for _, group, artifact, version, _ in rows
    )
    (work / "ivy.xml").write_text(
        '<ivy-module version="2.0"><info organisation="drivelake" module="jars"/>'
        '<configurations><conf name="default"/></configurations>'
        "<dependencies>%s</dependencies></ivy-module>" % dependencies
    )
    run(
        ["java", "-jar", ivy, "-ivy", work / "ivy.xml", "-cache", work / "cache", "-types", "jar",
         "bundle", "-retrieve", str(work / "out" / "[artifact]-[revision].[ext]"), "-warn"],
        "Fetching the jars",
    )  # fmt: skip
    for folder, _, artifact, version, sha256 in rows:
        jar = work / "out" / ("%s-%s.jar" % (artifact, version))
        if not jar.exists():
            raise SetupError("The jar %s was not found in the registry." % jar.name)
        if digest_of(jar) != sha256:
            raise SetupError(
                "The jar %s is not the one that was pinned: its SHA-256 is %s, expected %s. "
                "Do not use it; report it." % (jar.name, digest_of(jar), sha256)
            )
        (JARS / folder).mkdir(exist_ok=True)
        shutil.move(str(jar), str(JARS / folder / jar.name))
    shutil.rmtree(str(work))
    (JARS / "complete").write_text(stamp)
    return True


def compile_java():
    """What is in Java, compiled against Spark's and Delta's jars: commits on S3 and more."""
    sources = sorted((ROOT / "deploy" / "spark").glob("*.java"))
    target = JARS / "drivelake"
    stamp = digest_of(*sources)
    if not sources or current(target, stamp):
        return False
    path = os.pathsep.join(
        [str(SPARK_JARS / "*"), str(JARS / "delta" / "*"), str(JARS / "s3a" / "*")]
    )
    shutil.rmtree(str(target), ignore_errors=True)
    classes = target / "classes"
    classes.mkdir(parents=True)
    run(
        ["javac", "-nowarn", "--release", "17", "-cp", path, "-d", classes, *sources],
        "Compiling deploy/spark",
    )
    with zipfile.ZipFile(str(target / "drivelake.jar"), "w") as jar:
        for one in sorted(classes.rglob("*.class")):
            jar.write(str(one), str(one.relative_to(classes)))
    shutil.rmtree(str(classes))
    (target / "complete").write_text(stamp)
    return True


@contextmanager
def archived_classes():
    """Beside the block, make an archive of the Java classes of a Spark server, loaded and verified.

    A server spends half of its start on them. Java compares the archive with its own version and
    with names, times and sizes of the jars, and goes without where they differ.
    """
    listed, archive = LOCKS / "classes.txt.gz", JARS / "archive"
    (JARS / "conf").mkdir(exist_ok=True)  # Spark's folder of configuration: empty, see server.py
    jars = sorted([*SPARK_JARS.glob("*.jar"), *JARS.glob("*/*.jar")])
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    seen = ["%s %d %d" % (jar, jar.stat().st_size, jar.stat().st_mtime_ns) for jar in jars]
    inputs = "\n".join([java, digest_of(listed), *seen])
    stamp = hashlib.sha256(inputs.encode()).hexdigest()
    if current(archive, stamp):
        yield False
        return
    shutil.rmtree(str(archive), ignore_errors=True)
    archive.mkdir()
    classes = archive / "classes.txt"
    classes.write_bytes(gzip.decompress(listed.read_bytes()))
    # The class path as Spark's launcher makes it of `spark_jobs.server.server_configuration`.
    own = [JARS / folder / "*" for folder in ("drivelake", "delta", "s3a")]
    path = [*own, "%s/" % (JARS / "conf"), *SPARK_JARS.glob("slf4j-api-*.jar"), SPARK_JARS / "*"]
    command = [
        "java", "-XX:ArchiveClassesAtExit=%s" % (archive / "classes.jsa"), "-XX:+UseG1GC",
        "-XX:TieredStopAtLevel=1", "-cp", os.pathsep.join(str(place) for place in path),
        "drivelake.LoadClasses", str(classes),
    ]  # fmt: skip
    with (archive / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield True
    except BaseException:
        process.kill()
        raise
    if process.wait() != 0:
        say("this Java archives no classes, so Spark starts slower; %s/log says why" % archive)
    (archive / "complete").write_text(stamp)


def compile_native():
    """The kernels of udfs/native, with the C compiler that the lock brings."""
    folder = ROOT / "udfs" / "native"
    sources = sorted(folder.glob("*.c"))
    target, stamp = (
        folder / "build",
        digest_of(*sources, *sorted(folder.glob("*.h")), Path(__file__)),
    )
    if current(target, stamp):
        return False
    shutil.rmtree(str(target), ignore_errors=True)
    target.mkdir(parents=True)
    # AVX2 and BMI2: what Polars needs of the machine, too.
    processor = ["-mcpu=x86_64_v3"] if platform.machine() == "x86_64" else []
    run(
        [PYTHON, "-m", "ziglang", "cc", *processor, "-std=c11", "-O3", "-fPIC", "-shared",
         "-fno-strict-aliasing", "-fno-math-errno", "-Wall", "-Wextra", "-Werror", *sources,
         "-o", target / "kernels.so"],
        "Compiling udfs/native",
        env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(VENV / "zig")},
    )  # fmt: skip
    (target / "complete").write_text(stamp)
    return True


def say(text):
    """Tell the person what is being waited for."""
    sys.stdout.write("set-up: %s\n" % text)
    sys.stdout.flush()


def main():
    """Set up what is missing; 0 when everything is there, 1 with a sentence when it can't be."""
    started = time.monotonic()
    try:
        check_python()
        check_java()
        check_disk()
        made = [begin_environment(), fetch_jars(), compile_java()]
        with archived_classes() as archived:
            made += [archived, finish_environment(), install_project(), compile_native()]
    except SetupError as error:
        sys.stderr.write("set-up: %s\n" % error)
        return 1
    except OSError as error:
        sys.stderr.write(
            "set-up: %s. Free the disk or fix the permissions, then run again.\n" % error
        )
        return 1
    if any(made):
        say("complete in %.0f s" % (time.monotonic() - started))
    return 0


if __name__ == "__main__":
    sys.exit(main())
