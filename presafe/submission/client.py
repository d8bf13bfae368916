"""The cluster's dashboard, over which jobs are submitted."""

import logging
import os

import ray
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from presafe.errors import user_error


def jobs_client(address: str | None) -> JobSubmissionClient:
    """The Jobs API at `address`, by default that of RAY_API_SERVER_ADDRESS, RAY_ADDRESS, or a cluster on this machine.

    Raises UserError where none answers, or where it runs another Ray.
    """
    logging.getLogger("ray").setLevel(logging.WARNING)
    if address is not None:
        os.environ["RAY_API_SERVER_ADDRESS"] = address  # Ray lets the environment win over what it is given
    named = os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS") or "this machine"
    try:
        client = JobSubmissionClient()
        version: str = client._do_request("GET", "/api/version").json()["ray_version"]
    except AuthenticationError as error:
        raise user_error(
            found=f"a Ray dashboard at {named} that does not let this process in",
            needed="the cluster's token",
            change="set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to a file with it",
        ) from error
    except (OSError, RuntimeError, ValueError, KeyError) as error:  # what answers may be no dashboard at all
        raise user_error(
            found=f"no Ray dashboard at {named} ({str(error).splitlines()[0]})",
            needed="that of a cluster that takes jobs, http://HOST:8265",
            change="correct --address or RAY_API_SERVER_ADDRESS; `ray dashboard cluster.yaml` forwards its port",
        ) from error
    if version != ray.__version__:
        raise user_error(
            found=f"Ray {version} at {named}, and {ray.__version__} here",
            needed="the same version",
            change=f"install ray=={version}, or submit from an environment like the cluster's",
        )
    return client


UNREACHABLE = (requests.ConnectionError, requests.Timeout, ConnectionError, RuntimeError)
"""What the client raises while the dashboard, or the agent of a job's node, does not answer."""
