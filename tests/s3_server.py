"""An S3 API on this machine, in a process of its own, and the environment that leads to it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from s3fs import S3FileSystem

from presafe.storage.s3 import S3

SERVER = """
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
server.start()
print("http://{}:{}".format(*server.get_host_and_port()), flush=True)
sys.stdin.read()
"""


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """Environment variables with which clients talk to it; nothing else of theirs is needed."""
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        url = next(line.strip() for line in server.stdout if line.startswith("http://"))
        for client in (S3FileSystem, S3):
            client.clear_instance_cache()  # those that know another server
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        server.kill()
