# SPDX-License-Identifier: Apache-2.0
"""Compile the front end's Java sources and pack them into the jar that the package ships.

Equal sources and an equal javac give an equal jar, byte for byte, so that a test can compare the
shipped one with a fresh one: no debug information, sorted entries, fixed times, no compression.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
DEFAULT_OUTPUT = SOURCES.parent / "sagemaker_inference_lite" / "mms" / "front_end.jar"
# log4j's processor lists the classes that extend it, which log4j would otherwise look for at each start.
PROCESSOR = "org.apache.logging.log4j.core.config.plugins.processor.PluginProcessor"
JAVAC_OPTIONS = ("--release", "8", "-g:source,lines", "-processor", PROCESSOR, "-encoding", "UTF-8", "-Xlint:-options")
MANIFEST = b"Manifest-Version: 1.0\r\n\r\n"


def find_javac() -> str:
    """Return the compiler of JAVA_HOME, else the one on PATH; exit with a message if there is none."""
    java_home = os.environ.get("JAVA_HOME")
    path = os.pathsep.join(filter(None, [java_home and f"{java_home}/bin", os.environ.get("PATH")]))
    javac = shutil.which("javac", path=path)
    if javac is None:
        sys.exit("No javac in JAVA_HOME/bin or on PATH: install a JDK (17 made the shipped jar).")
    return javac


def find_mms_jar() -> Path | None:
    """Return the jar of the installed multi-model-server, without importing that package."""
    spec = importlib.util.find_spec("mms")
    for location in (spec and spec.submodule_search_locations) or ():
        jar = Path(location, "frontend", "model-server.jar")
        if jar.is_file():
            return jar
    return None


def compile_sources(mms_jar: Path, classes: Path) -> None:
    """Compile every source into the directory ``classes``; exit with javac's status if it fails."""
    sources = sorted(map(str, SOURCES.glob("sagemakerinferencelite/*.java")))
    command = [find_javac(), *JAVAC_OPTIONS, "-cp", str(mms_jar), "-d", str(classes), *sources]
    status = subprocess.run(command, check=False).returncode
    if status:
        sys.exit(status)


def entries(classes: Path) -> dict[str, bytes]:
    """Return the jar's contents by name, the manifest first as the jar format advises."""
    files = {file.relative_to(SOURCES).as_posix(): file for file in SOURCES.glob("META-INF/services/*")}
    files.update((file.relative_to(classes).as_posix(), file) for file in classes.rglob("*.*") if file.is_file())
    contents = {name: files[name].read_bytes() for name in sorted(files)}
    return {"META-INF/MANIFEST.MF": MANIFEST, **contents}


def write_jar(output: Path, contents: dict[str, bytes]) -> None:
    """Write ``contents``, in their order, as a jar that depends on nothing else."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as jar:
        for name, content in contents.items():
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # ZipInfo's default is the platform's.
            info.external_attr = 0o644 << 16
            jar.writestr(info, content)


def main() -> None:
    """Build the jar as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--mms-jar",
        type=Path,
        default=find_mms_jar(),
        help="model-server.jar to compile against (default: the installed multi-model-server's)",
    )
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="default: %(default)s")
    arguments = parser.parse_args()
    if arguments.mms_jar is None:
        parser.error("multi-model-server is not installed here: give --mms-jar")
    if not arguments.mms_jar.is_file():
        parser.error(f"--mms-jar {arguments.mms_jar}: no such file")
    with tempfile.TemporaryDirectory() as classes:
        compile_sources(arguments.mms_jar, Path(classes))
        write_jar(arguments.output, entries(Path(classes)))


if __name__ == "__main__":
    main()
