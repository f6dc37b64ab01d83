"""nginx, one worker: a plain HTTP backend that serves a file, and before it a reverse proxy with client certificates.

`/b/1k` is 1 kB of JSON, through the proxy or straight from the backend; `/local` is answered by the proxy itself.
Both are one process, which is also the backend of the plain proxies and of the mesh where it has an HTTP source.
"""

import os
from pathlib import Path
from string import Template

from benchmarks.peers.body import body
from benchmarks.pki import Pki

BODY_PATH = "/b/1k"
LOCAL_PATH = "/local"

_CONF = Template("""
$user
worker_processes 1;
worker_rlimit_nofile 8192;
daemon off;
pid $folder/nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log off;
  default_type application/json;
  client_body_temp_path $folder/tmp; proxy_temp_path $folder/tmp;
  fastcgi_temp_path $folder/tmp; uwsgi_temp_path $folder/tmp; scgi_temp_path $folder/tmp;
  keepalive_requests 100000000; keepalive_timeout 300s;
  sendfile on; tcp_nopush on; tcp_nodelay on;
  upstream backend { server 127.0.0.1:$backend; keepalive 128; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:$backend backlog=1024;
    location /b/ { alias $folder/bodies/; }
  }
  server {
    listen 127.0.0.1:$edge ssl backlog=1024;
    ssl_certificate $server_cert; ssl_certificate_key $server_key;
    ssl_client_certificate $ca; ssl_verify_client on;
    ssl_protocols TLSv1.3; ssl_session_cache shared:tls:10m; ssl_session_tickets on;
    location = $local_path { return 200 '{"ok":true}'; }
    location / {
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_request_buffering off;
    }
  }
}
""")


def write_config(folder: Path, pki: Pki, *, edge: int, backend: int) -> Path:
    """Write configuration and body below `folder`; returns the configuration's path.

    Args:
        edge: Port of the reverse proxy.
        backend: Port of the backend.
    """
    bodies = folder / "bodies"
    bodies.mkdir(parents=True, exist_ok=True)
    (folder / "tmp").mkdir(exist_ok=True)
    (bodies / Path(BODY_PATH).name).write_bytes(body())
    conf = folder / "nginx.conf"
    conf.write_text(
        _CONF.substitute(
            # Started by root, a worker would otherwise become another user, who cannot read our folder.
            user="user root;" if os.geteuid() == 0 else "",
            folder=folder,
            edge=edge,
            backend=backend,
            server_cert=pki.server_cert,
            server_key=pki.server_key,
            ca=pki.ca,
            local_path=LOCAL_PATH,
        )
    )
    return conf
