# SPDX-License-Identifier: Apache-2.0
"""What is to be started, and how: found out and checked before anything is."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sagemaker_inference_lite.launch import preflight
from sagemaker_inference_lite.machine import sizing
from sagemaker_inference_lite.mms import cds_archive, command, hosts_file, java, native_library, properties
from sagemaker_inference_lite.requirements.wanted import Requirements, to_install
from sagemaker_inference_lite.settings import Settings

DEFAULT_HANDLER_SERVICE = "sagemaker_inference_lite.default_handler_service"

# The worker side is started by name: nothing of it is imported here.
_ZYGOTE_MODULE = "sagemaker_inference_lite.zygote"


@dataclass(frozen=True)
class LaunchPlan:
    """A server that can be started.

    Attributes:
        settings: As the environment has them.
        environ: The environment.
        directory: Private to this server: sockets, configuration, packages.
        handler: The handler service; the path of a file is absolute.
        requirements: What the one model asks for; None where there is nothing to install.
        java: The Java that runs the front end.
        server_jar: Multi Model Server's.
        archive: Of Java's classes; None where none fits.
        in_force: Its properties, with what the environment overrides.
        address: Where it answers: host and port, or the path of a socket.
        size: How large the server is made.
        library: Netty's native library, unpacked; None where Java unpacks it itself.
        most_workers: How many workers there may be, all models together.
    """

    settings: Settings
    environ: Mapping[str, str]
    directory: Path
    handler: str
    requirements: Requirements | None
    java: java.Java
    server_jar: Path
    archive: Path | None
    in_force: dict[str, str]
    address: properties.Address
    size: sizing.Sizing
    library: Path | None
    most_workers: int

    @property
    def packages(self) -> Path:
        """Where the one model's requirements are installed."""
        return self.directory / "packages"

    @property
    def url(self) -> str:
        """Where it answers; "localhost" stands for every address of this machine."""
        if isinstance(self.address, Path):
            return f"unix:{self.address}"
        host, port = self.address
        shown = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        return f"http://{shown}:{port}"

    def __str__(self) -> str:
        """For the log."""
        settings = self.settings
        return (
            f"{'several models' if settings.multi_model else f'the model in {settings.model_dir}'}, handler "
            f"{'the default' if self.handler == DEFAULT_HANDLER_SERVICE else self.handler}, "
            f"Java {self.java.version} ({self.java.source}){', its classes archived' if self.archive else ''}"
        )

    def front_end_command(self) -> list[str]:
        """The command line of Multi Model Server, which waits for its start before others can see anything of it."""
        return command.command(
            self.java,
            self.server_jar,
            self.directory / "mms.properties",
            self.settings,
            self.size,
            self.archive,
            self.library,
            self.most_workers,
        )

    def front_end_environ(self) -> dict[str, str]:
        """The environment of Multi Model Server."""
        return properties.environment_of_front_end(self.environ)

    def zygote_command(self, supervisor_fd: int, describes: bool, reloads_handler: bool) -> list[str]:
        """The command line of the process that imports the handler and forks the workers.

        Args:
            supervisor_fd: Its end of the socket to the supervisor.
            describes: Whether it tells what each model is.
            reloads_handler: Have each worker import the handler service by itself.
        """
        argv = [sys.executable, *(["-P"] if sys.version_info >= (3, 11) else []), "-m", _ZYGOTE_MODULE]
        argv += [f"--supervisor-fd={supervisor_fd}", f"--directory={self.directory}", f"--handler={self.handler}"]
        for name in ("max_request_size", "max_response_size"):
            argv += [f"--{name.replace('_', '-')}={self.in_force[name]}"]
        argv += ["--describe"] if describes else []
        argv += [f"--not-imported={self.handler}"] if reloads_handler else []
        argv += ["--decode-input"] if self.in_force["decode_input_request"].lower() == "true" else []
        argv += [] if self.requirements is None else [f"--packages={self.packages}"]
        # Where a relative handler may be.
        argv += [f"--look-in={Path.cwd()}"]
        return argv + ([] if self.settings.multi_model else [f"--look-in={self.settings.model_dir}"])

    def worker_environ(self) -> dict[str, str]:
        """What handlers see. Numeric libraries read their number of threads once, when they are imported."""
        environ = properties.environment_of_workers(self.environ, self.settings)
        environ = properties.without_blacklisted(environ, self.in_force)
        return {
            "OMP_NUM_THREADS": str(self.size.threads.value),
            # torch.cuda.is_available() would initialise CUDA in the zygote, which none of its forks could use then.
            "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
            **environ,
        }


def make_plan(
    settings: Settings, environ: Mapping[str, str], directory: Path, handler_service: str | None
) -> LaunchPlan:
    """Find out everything that can be found wrong without starting anything; writes MMS's configuration.

    Raises:
        PreflightError: Java, multi-model-server, the port or the model directory is not there to be used.
        RequirementsError: What the one model asks for may not be installed.
        SettingsError: Properties of MMS's have values that cannot be used.
    """
    found_java = java.find_java(environ)
    server_jar = command.find_model_server_jar()
    requirements = None
    if not settings.multi_model:
        preflight.check_model_directory(settings.model_dir)
        requirements = to_install(settings.model_dir, settings)
    handler = _absolute(handler_service or DEFAULT_HANDLER_SERVICE)
    size = sizing.sizing(settings, environ)
    written = properties.server_properties(settings, handler, size.workers.value, size.event_loops.value, directory)
    (directory / "mms.properties").write_text(properties.render(written), encoding="latin-1")
    (directory / command.HOSTS_FILE).write_text(hosts_file.text())
    in_force = properties.overridden(written, environ)
    address = properties.parse_address(in_force["inference_address"])
    size = properties.sizes_in_force(size, in_force, environ)
    preflight.check_address(address)
    library = native_library.find(server_jar)
    if library is None:
        native_library.check_directory(directory)
    most_workers = sizing.most_workers(preflight.raise_open_file_limit())
    return LaunchPlan(
        settings,
        environ,
        directory,
        handler,
        requirements,
        found_java,
        server_jar,
        cds_archive.find(found_java, command.class_path(server_jar)),
        in_force,
        address,
        size,
        library,
        most_workers,
    )


def _absolute(handler_service: str) -> str:
    """The handler with the path of its file absolute: the processes that import it work in other directories."""
    place, colon, name = handler_service.rpartition(":")
    if not colon:
        place, name = handler_service, ""
    return f"{Path(place).resolve()}{colon}{name}" if Path(place).is_file() else handler_service
