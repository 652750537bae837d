"""The deploy files say what the code says: lanes, ports, names of settings, file names."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from mailer.message.email import Lane
from mailer.message.sender import Sender
from mailer.settings import DEFAULT_CONFIG, LogFormat, Settings, load_settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
EXAMPLE = (ROOT / "deploy/mailer.toml.example").read_text()
PORT = Settings.model_fields["http_port"].default


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    loaded = YAML(typ="safe", pure=True).load((ROOT / "deploy/compose.yaml").read_text())
    found: dict[str, Any] = loaded["services"]
    return found


@pytest.fixture(scope="module")
def workers(services: dict[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in services.items() if name != "valkey"}


def field_of(variable: str) -> str:
    return variable.removeprefix("MAILER_").lower()


def final_stage() -> str:
    return DOCKERFILE.rpartition("\nFROM ")[2]


# ---- compose -------------------------------------------------------------------------------------------------------


def test_each_lane_has_one_service_of_its_own_name(workers: dict[str, Any]) -> None:
    assert {name: service["environment"]["MAILER_LANES"] for name, service in workers.items()} == {
        lane.value: lane.value for lane in Lane
    }


def test_the_variables_of_a_worker_are_settings_and_have_values_that_load(
    workers: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for service in workers.values():
        ours = {name: str(value) for name, value in service["environment"].items() if not name.startswith("AWS_")}
        assert {field_of(name) for name in ours} <= set(Settings.model_fields)
        assert all(service["environment"][name] is None for name in service["environment"] if name.startswith("AWS_"))
        for name, value in ours.items():
            monkeypatch.setenv(name, value)
        settings = load_settings()
        assert (settings.http_host, settings.http_port) == ("0.0.0.0", PORT)
        assert service["expose"] == [str(PORT)]


def test_a_worker_runs_with_no_more_rights_than_it_needs_and_has_time_to_end(workers: dict[str, Any]) -> None:
    for service in workers.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["stop_grace_period"] == "40s"
        assert service["depends_on"] == {"valkey": {"condition": "service_healthy"}}
        assert "ports" not in service  # nothing here asks who is calling


def test_the_folders_of_a_worker_are_where_it_looks_for_them(workers: dict[str, Any]) -> None:
    [workdir] = re.findall(r"^WORKDIR (\S+)$", final_stage(), re.MULTILINE)
    expected = {f"{workdir}/{DEFAULT_CONFIG}", f"{workdir}/{Settings.model_fields['templates_dir'].default}"}
    for service in workers.values():
        assert {volume["target"] for volume in service["volumes"]} == expected
        assert all(volume["read_only"] for volume in service["volumes"])


def test_the_store_writes_everything_down_and_evicts_nothing(services: dict[str, Any], workers: dict[str, Any]) -> None:
    valkey = services["valkey"]
    options = dict(zip(valkey["command"][1::2], valkey["command"][2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert valkey["volumes"] == ["valkey:/data"]
    assert valkey["healthcheck"]["test"] == ["CMD", "valkey-cli", "ping"]
    assert {service["environment"]["MAILER_REDIS_URL"] for service in workers.values()} == {"redis://valkey:6379/0"}


# ---- the image -----------------------------------------------------------------------------------------------------


def test_the_image_serves_the_port_that_it_exposes_and_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stage = final_stage()
    variables = dict(re.findall(r"(MAILER_[A-Z_]+)=(\S+)", stage))
    assert {field_of(name) for name in variables} <= set(Settings.model_fields)
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert (settings.http_host, settings.http_port, settings.log_format) == ("0.0.0.0", PORT, LogFormat.JSON)
    assert re.findall(r"^EXPOSE (\d+)$", stage, re.MULTILINE) == [str(PORT)]


def test_the_health_check_of_the_image_is_a_program_that_asks_healthz() -> None:
    [command] = re.findall(r"HEALTHCHECK .*\\\n\s+CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    python, flag, program = json.loads(command)
    assert (python, flag) == ("python", "-c")
    compile(program, "HEALTHCHECK", "exec")
    assert "os.environ['MAILER_HTTP_PORT'] + '/healthz'" in program


def test_the_image_runs_the_worker_as_nobody_in_particular() -> None:
    stage = final_stage()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [entrypoint] = json.loads(re.findall(r"^ENTRYPOINT (.*)$", stage, re.MULTILINE)[0])
    assert entrypoint in project["scripts"]
    assert json.loads(re.findall(r"^CMD (.*)$", stage, re.MULTILINE)[0]) == ["worker"]
    [user] = re.findall(r"^USER (\d+):\d+$", stage, re.MULTILINE)
    assert int(user) > 0
    assert "STOPSIGNAL SIGTERM\n" in stage


def test_what_is_installed_is_locked_and_what_is_copied_reaches_the_build() -> None:
    assert "--require-hashes --only-binary :all: -r requirements.lock" in DOCKERFILE
    allowed = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = [name for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()]
    assert sorted(copied) == sorted(allowed)
    assert all((ROOT / name).exists() for name in allowed)


# ---- the example of the settings -----------------------------------------------------------------------------------

COMMENTED = re.compile(r"^# (?=[a-z_0-9]+ = )", re.MULTILINE)


@pytest.mark.parametrize("text", [EXAMPLE, COMMENTED.sub("", EXAMPLE)], ids=["as it is", "with every line that is commented out"])
def test_the_example_loads(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "mailer.toml"
    path.write_text(text)
    monkeypatch.setenv("MAILER_CONFIG", str(path))
    settings = load_settings()
    assert settings.sender("news").from_ == "Example News <news@example.com>"
    assert settings.sender("accounts").tags == {}


def test_the_example_shows_every_setting_and_its_default() -> None:
    shown = tomllib.loads(COMMENTED.sub("", EXAMPLE))
    assert set(shown) == set(Settings.model_fields)
    assert set(shown["senders"]["news"]) == {field.alias or name for name, field in Sender.model_fields.items()}
    for name, field in Settings.model_fields.items():
        if name not in ("senders", "max_send_rate", "secret_key", "log_format", "events_sqs_url", "events_topic_arns"):
            default = list(field.default) if name == "lanes" else field.default
            assert shown[name] == (str(default) if isinstance(default, Path) else default), name
