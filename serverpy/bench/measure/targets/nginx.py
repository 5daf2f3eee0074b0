"""nginx's `proxy_pass`, without and with buffering, in one worker: the cost of a relay that does nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from serverpy.bench.measure.origin import Origin, Scheme
from serverpy.bench.measure.targets.base import Launch, Target, find_command, free_port

MAX_CONNECTIONS = 8192

# `{directory}` is the child's own, so that nginx does not use its system directories. The certificate is also issued to
# localhost, because nginx does not compare IP addresses (ngx_ssl_check_host).
CONFIGURATION = """
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile {files};
pid {{directory}}/pid;
error_log stderr warn;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    default_type application/octet-stream;
    client_body_temp_path {{directory}}/body;
    proxy_temp_path {{directory}}/proxy;
    fastcgi_temp_path {{directory}}/fastcgi;
    uwsgi_temp_path {{directory}}/uwsgi;
    scgi_temp_path {{directory}}/scgi;
    proxy_buffering {buffering};
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_ssl_trusted_certificate {ca_file};
    proxy_ssl_verify on;
    proxy_ssl_name localhost;
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        location = /ready {{ return 200; }}
        location /http/ {{ proxy_pass {http}/media/; }}
        location /https/ {{ proxy_pass {https}/media/; }}
    }}
}}
"""


@dataclass(frozen=True, repr=False)
class Nginx(Target):
    name: str
    title: str
    buffering: bool

    def missing(self) -> str | None:
        return None if find_command("nginx") else "nginx is not installed (Debian: apt install nginx-light)"

    def launch(self, origin: Origin, settings: Mapping[str, str]) -> Launch:
        port = free_port()
        options = ("-p", "{directory}", "-c", "{directory}/nginx.conf", "-e", "stderr")
        files = {"nginx.conf": self._configuration(origin, port)}
        return Launch([find_command("nginx") or "nginx", *options], _path, files=files, port=port)

    def _configuration(self, origin: Origin, port: int) -> str:
        return CONFIGURATION.format(
            # Without this line, nginx's worker would be unprivileged and could not use the directory.
            user="user root;" if os.geteuid() == 0 else "",
            files=4 * MAX_CONNECTIONS,
            connections=2 * MAX_CONNECTIONS,
            buffering="on" if self.buffering else "off",
            ca_file=origin.ca_file,
            port=port,
            http=origin.http,
            https=origin.https,
        )


def _path(media: str, scheme: Scheme, _fresh: str) -> str:
    return f"/{scheme}/{quote(media)}"


NGINX = Nginx("nginx", "nginx, proxy_buffering off", buffering=False)
NGINX_BUFFERED = Nginx("nginx-buffered", "nginx, proxy_buffering on", buffering=True)
