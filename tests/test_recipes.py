"""Test that nginx accepts the configuration that docs/access.md recommends."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import trustme

from serverpy.bench.measure.targets.base import find_command, free_port

PAGE = Path(__file__).parents[1] / "docs" / "access.md"
DIRECTORIES = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def test_nginx_accepts_the_configuration_in_docs_access_md(tmp_path: Path) -> None:
    (recipe,) = re.findall(r"```nginx\n(server \{.*?)```", PAGE.read_text(), re.DOTALL)
    issued = trustme.CA().issue_cert("media.example")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "media.pem")
    issued.private_key_pem.write_to_path(tmp_path / "media.key")
    assert "listen 443 ssl" in recipe
    recipe = recipe.replace("/etc/ssl", str(tmp_path)).replace("listen 443", f"listen 127.0.0.1:{free_port()}")
    own = "".join(f"{name}_temp_path {tmp_path}/{name};\n" for name in DIRECTORIES)
    user = "user root;" if os.geteuid() == 0 else ""
    path = tmp_path / "nginx.conf"
    path.write_text(f"{user}\npid {tmp_path}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{own}{recipe}}}\n")
    nginx = find_command("nginx")
    assert nginx, "nginx is not installed (Debian: apt install nginx-light)"
    command: list[str | Path] = [nginx, "-t", "-p", tmp_path, "-c", path, "-e", "stderr"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "[emerg]" in done.stderr) == (0, False), done.stderr
