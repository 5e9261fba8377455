"""`deploy/compose/digests`, which a release runs: only a digest that a registry has stated is printed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "deploy" / "compose"
DIGEST = "sha256:" + "ab" * 32
ENGINE = """#!/bin/sh
case "$1" in
pull) echo "pulled $3" >> "$RECORD" ;;
image) test -n "$STATED" && printf '%s@%s\\n' "${5%:*}" "$STATED" || true ;;
esac
"""


def digests(folder: Path, stated: str, engine: str = ENGINE) -> subprocess.CompletedProcess[str]:
    """Runs the script with an engine that knows every image, and for each the digest `stated`."""
    docker = folder / "docker"
    docker.write_text(engine)
    docker.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "STATED": stated,
        "RECORD": str(folder / "record"),
    }
    return subprocess.run([FOLDER / "digests"], env=environment, capture_output=True, text=True)


def test_every_image_that_is_not_built_here_gets_the_digest_of_its_registry(tmp_path: Path) -> None:
    done = digests(tmp_path, DIGEST)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert set(lines) == {"RABBITMQ_IMAGE", "MINIO_IMAGE", "MONGO_IMAGE", "MONGO_EXPRESS_IMAGE", "PYTHON"}
    assert all(image.endswith(f"@{DIGEST}") for image in lines.values())
    assert lines["MONGO_IMAGE"].startswith("mongo:8@")
    assert len((tmp_path / "record").read_text().splitlines()) == len(lines)


def test_an_image_without_a_digest_fails_with_the_reason(tmp_path: Path) -> None:
    done = digests(tmp_path, "")
    assert done.returncode == 1
    assert "has no digest" in done.stderr


def test_an_image_that_no_registry_gives_fails_with_the_remedy(tmp_path: Path) -> None:
    done = digests(tmp_path, DIGEST, "#!/bin/sh\nexit 1\n")
    assert done.returncode == 1
    assert "no registry gives rabbitmq:" in done.stderr


def test_no_digest_is_committed_as_a_release_resolves_and_publishes_them() -> None:
    manifests = (FOLDER.parent / "kubernetes").glob("*.yaml")
    for path in (FOLDER / ".env.example", FOLDER / "Dockerfile", *FOLDER.glob("*.yaml"), *manifests):
        assert "@sha256:" not in path.read_text(), path
