"""Runs one Python peer on uvicorn with client certificates required, as lean as uvicorn goes.

python -m benchmarks.peers.serve {httpx,aiohttp,streaming,faststream,bare} --port PORT --pki FOLDER [--behind URL]
"""

import argparse
import ssl
from pathlib import Path
from typing import Any

import uvicorn

from benchmarks.peers.bare import bare_app
from benchmarks.peers.faststream_rpc import faststream_gateway
from benchmarks.peers.proxies import aiohttp_proxy, httpx_proxy, streaming_proxy
from benchmarks.pki import Pki

_WITH_BACKEND = {
    "httpx": httpx_proxy,
    "aiohttp": aiohttp_proxy,
    "streaming": streaming_proxy,
    "faststream": faststream_gateway,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Run one peer.")
    parser.add_argument("peer", choices=[*_WITH_BACKEND, "bare"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pki", type=Path, required=True)
    parser.add_argument("--behind", default="", help="URL of the backend or of the NATS server")
    options = parser.parse_args()
    pki = Pki(folder=options.pki)
    app: Any = bare_app if options.peer == "bare" else _WITH_BACKEND[options.peer](options.behind)
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=options.port,
        http="httptools",
        loop="uvloop",
        ws="none",
        backlog=1024,
        # "auto" would swallow a failing start-up and serve an application that is not ready.
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        access_log=False,
        log_level="warning",
        timeout_keep_alive=60,
        timeout_graceful_shutdown=2,
        ssl_certfile=str(pki.server_cert),
        ssl_keyfile=str(pki.server_key),
        ssl_ca_certs=str(pki.ca),
        ssl_cert_reqs=ssl.CERT_REQUIRED,
    )


if __name__ == "__main__":
    main()
