"""What happens before any part runs: options checked, ports chosen, the repository staged; then one run of them all."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from contextlib import ExitStack

from rich.console import Console

from ganvas_core.cli import UserError
from serving.gateway.process import check_tls
from serving.keys.store import read_keys
from serving.options import ServeOptions
from serving.repository.pins import read_pins
from serving.repository.reader import (
    ModelVersion,
    Rejected,
    Repository,
    check_config_name,
    list_versions,
)
from serving.service.logs import logfmt, set_up_logging
from serving.supervise.gateway_part import tls_of
from serving.supervise.output import TextOutput, console_output, log_output
from serving.supervise.ready import claimed_ready_file, print_start
from serving.supervise.run_folder import open_run_folder
from serving.supervise.staging import Staging
from serving.supervise.supervisor import Supervisor
from serving.triton.ports import choose_ports

__all__ = ["NothingStagedError", "supervise"]

logger = logging.getLogger("ganvas.supervisor")


class NothingStagedError(UserError):
    """No version of the repository may be served; the message says why of each."""


def supervise(options: ServeOptions, console: Console) -> int:
    """Serve until SIGINT or SIGTERM, then drain.

    Returns:
        0 after a drain; 130 or 143 when stopped before anything was ready.
    Raises:
        UserError: a part could not start.
    """
    with ExitStack() as stack:
        read_pins(options.repository)  # what is unreadable must not become the newest version
        check_config_name(options.repository, options.config_name)
        if (tls := tls_of(options)) is not None:
            check_tls(tls)
        if options.keys_file is not None:
            read_keys(options.keys_file)
        stack.enter_context(claimed_ready_file(options.ready_file))
        ports = choose_ports(options.addresses())
        log = stack.enter_context(log_output(options.log_dir))
        console = stack.enter_context(console_output(console))
        run = stack.enter_context(open_run_folder())
        set_up_logging(options.log_level, TextOutput(log, terminal=False))  # type: ignore[arg-type]
        if run.note:
            logger.warning(run.note)
        print_start(console, options, sorted({name for name, _ in list_versions(options.repository)}))
        staging = Staging(options.repository.resolve(), run.path, options.config_name)
        repository = _stage(staging, options)
        resolved = dataclasses.replace(
            options,
            repository=staging.models,
            port=ports["--port"],
            triton_grpc_port=ports["--triton-grpc-port"],
            triton_http_port=ports["--triton-http-port"],
            metrics_port=ports["--metrics-port"],
            http=ports.get("--http"),
        )
        source = options.repository.resolve()
        return asyncio.run(Supervisor(resolved, console, source, staging, repository, run, log).run())


def _stage(staging: Staging, options: ServeOptions) -> Repository:
    """Copy every version.

    Raises:
        NothingStagedError: none of them may be served.
    """
    outcomes = [staging.add(name, version) for name, version in list_versions(options.repository)]
    versions = tuple(outcome for outcome in outcomes if isinstance(outcome, ModelVersion))
    rejected = tuple(outcome for outcome in outcomes if isinstance(outcome, Rejected))
    if not versions:
        reasons = "\n".join(f"{entry.name} version {entry.version}: {entry.reason}" for entry in rejected)
        raise NothingStagedError(f"no version in {options.repository} matches its certificate.\n{reasons}")
    for entry in rejected:
        logger.error(logfmt(event="rejected", model=entry.name, version=entry.version, reason=entry.reason))
    return Repository(folder=staging.models, versions=versions, rejected=rejected)
