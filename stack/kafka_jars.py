"""What a machine needs to run Apache Kafka without a container: Java, and the broker's jars, which Maven fetches."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
POM = ROOT / "deploy" / "kafka-jars" / "pom.xml"
JARS = ROOT / "var" / "kafka-jars"


class KafkaNotAvailable(RuntimeError):
    """This machine cannot run Apache Kafka; the message says what to do about it."""


def java_command() -> str:
    """The java to run the broker with: JAVA_HOME's if that is set, else the one on the PATH."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if found is None:
        where = "JAVA_HOME" if home else "the PATH"
        raise KafkaNotAvailable(f"Java 17 not found in {where}: install a JDK 17 or newer (Debian: openjdk-17-jdk-headless).")
    version = _java_version(found)
    if version < 17:
        raise KafkaNotAvailable(f"Java 17 not found: {found} is Java {version}; install a JDK 17 or newer, or point JAVA_HOME at one.")
    return found


def _java_version(java: str) -> int:
    said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    match = re.search(r'version "(\d+)', said)
    if match is None:
        raise KafkaNotAvailable(f"Java 17 not found: {java} does not say its version.")
    return int(match.group(1))


def maven_command() -> str:
    found = shutil.which("mvn")
    if found is None:
        raise KafkaNotAvailable("Maven not found: install it (Debian: maven) to fetch the broker's jars.")
    return found


def missing() -> list[str]:
    """What keeps this machine from running Apache Kafka, one sentence each; empty when nothing does."""
    problems = []
    for command in (java_command, maven_command):
        try:
            command()
        except KafkaNotAvailable as problem:
            problems.append(str(problem))
    return problems


def fetch_jars(folder: Path = JARS) -> Path:
    """The folder with the broker's jars, fetched the first time and again whenever the list of them changes."""
    jars = folder / hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    if jars.is_dir():
        return jars
    folder.mkdir(parents=True, exist_ok=True)
    # Fetched beside and renamed, so that an interrupted or a concurrent fetch leaves no half-filled folder behind.
    with tempfile.TemporaryDirectory(dir=folder, prefix="fetching-") as fetched:
        _run_maven(Path(fetched) / "jars")
        with suppress(OSError):
            (Path(fetched) / "jars").rename(jars)
    if not jars.is_dir():
        raise KafkaNotAvailable(f"Apache Kafka's jars could not be kept in {jars}.")
    return jars


def _run_maven(destination: Path) -> None:
    command = [maven_command(), "-B", "-ntp", "-q", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={destination}"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except subprocess.TimeoutExpired:
        raise KafkaNotAvailable("Apache Kafka's jars could not be fetched within 10 minutes: is Maven's repository reachable?") from None
    if ran.returncode != 0 or not destination.is_dir():
        reason = next((line for line in ran.stdout.splitlines() if "ERROR" in line), ran.stderr.strip() or "no reason given")
        raise KafkaNotAvailable(f"Apache Kafka's jars could not be fetched. Maven says: {reason}")
