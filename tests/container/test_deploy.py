# SPDX-License-Identifier: Apache-2.0
"""The deploy.py of a project that ``init`` makes, and the README's own lines, with real boto3 asking moto for AWS."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from documents import blocks
from running_server import eventually, free_port

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed; run make test-container")
pytest.importorskip("moto", reason="moto is not installed; run make test-container")

from botocore.exceptions import ClientError  # noqa: E402 # it comes with boto3
from botocore.stub import ANY, Stubber  # noqa: E402 # it comes with boto3

ROLE = "arn:aws:iam::123456789012:role/Endpoint"
IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/my-model:1"
REGION = "eu-west-1"


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Nothing here needs one."""


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables with which boto3 asks moto."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        str(Path(sys.executable).with_name("moto_server")),
        "--host",
        "127.0.0.1",
        "--port",
        url.rpartition(":")[2],
    ]
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        eventually(lambda: "Running on" in log.read_text(), 60)
        yield {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": REGION,
        }
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with two archives."""
    command = [sys.executable, "-m", "sagemaker_inference_lite", "init", str(tmp_path / "project")]
    subprocess.run(command, check=True, capture_output=True)
    for name in ("a.tar.gz", "b.tar.gz"):
        (tmp_path / "project" / name).write_bytes(b"x")
    return tmp_path / "project"


def deploy(project: Path, aws: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the script, with no inference components: moto does not know these."""
    program = "import sys, deploy; deploy.Deployment._components = lambda self: []; sys.exit(deploy.main())"
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=project, env=aws, capture_output=True, text=True, timeout=120)


def client(service: str, aws: dict[str, str]) -> Any:
    """boto3's own, asking moto."""
    return boto3.client(
        service,
        endpoint_url=aws["AWS_ENDPOINT_URL"],
        region_name=REGION,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_an_endpoint(project: Path, aws: dict[str, str], several: bool) -> None:
    """It is made, scaled, asked about, updated and deleted; the archives are where SageMaker looks for them."""
    bucket = f"models-{several}".lower()
    client("s3", aws).create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    name, more = ("many", ["--multi-model"]) if several else ("one", [])
    archives = ["a.tar.gz", "b.tar.gz"] if several else ["a.tar.gz"]
    up = deploy(
        project, aws, "--name", name, "up", IMAGE, ROLE, f"{bucket}/here", *archives, *more, "--most-instances", "3"
    )
    assert up.returncode == 0, up.stderr
    status = deploy(project, aws, "--name", name, "status")
    assert json.loads(status.stdout)["status"] == "InService"
    sagemaker = client("sagemaker", aws)
    (model,) = [each["ModelName"] for each in sagemaker.list_models()["Models"] if each["ModelName"].startswith(name)]
    container = sagemaker.describe_model(ModelName=model)["PrimaryContainer"]
    assert (container["Image"], container.get("Mode", "SingleModel")) == (
        IMAGE,
        "MultiModel" if several else "SingleModel",
    )
    keys = [
        each["Key"] for each in client("s3", aws).list_objects_v2(Bucket=bucket, Prefix=f"here/{model}")["Contents"]
    ]
    assert [f"s3://{bucket}/{key}".removeprefix(container["ModelDataUrl"]) for key in keys] == (
        archives if several else [""]
    )
    (target,) = client("application-autoscaling", aws).describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[f"endpoint/{name}/variant/all"]
    )["ScalableTargets"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 3)
    others = [f"another-{name}", f"{name}-prod", f"x{name}-20260101-000000", f"{name}-20260101-000000-b"]
    for other in others:
        sagemaker.create_model(ModelName=other, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE})
        variant = {"VariantName": "v", "ModelName": other, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(EndpointConfigName=other, ProductionVariants=[variant])
    deleted = deploy(project, aws, "--name", name, "delete")
    assert deleted.returncode == 0, deleted.stderr
    assert not client("application-autoscaling", aws).describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[f"endpoint/{name}/variant/all"]
    )["ScalableTargets"]
    left = sagemaker.list_endpoint_configs(NameContains=name)["EndpointConfigs"]
    assert sorted(each["EndpointConfigName"] for each in left) == sorted(others), "what others made is left alone"
    left = sagemaker.list_models(NameContains=name)["Models"]
    # moto lists all models, whatever their names are to contain.
    assert sorted(each["ModelName"] for each in left if name in each["ModelName"]) == sorted(others)
    assert not [each for each in sagemaker.list_endpoints()["Endpoints"] if each["EndpointName"] == name]
    assert deploy(project, aws, "--name", name, "delete").returncode == 0, "what is not there is passed over"


def test_what_goes_wrong_is_one_sentence(project: Path, aws: dict[str, str]) -> None:
    """No traceback: an archive that is not there, several without the mode for it, a bucket that is not there."""
    for arguments, status in (
        (["nowhere.tar.gz"], 2),
        (["a.tar.gz", "b.tar.gz"], 2),
        (["a.tar.gz"], 1),
    ):
        done = deploy(project, aws, "up", IMAGE, ROLE, "no-such-bucket", *arguments)
        assert done.returncode == status
        assert "Traceback" not in done.stderr


def test_the_calls_that_moto_does_not_know(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An inference component that scales to nothing, and an update: requests as boto3's own description has them."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    scope: dict[str, Any] = {"__name__": "deploy", "__doc__": "x"}
    exec((project / "deploy.py").read_text(), scope)
    deployment = scope["Deployment"]("mine")
    monkeypatch.setattr(deployment, "_create_model", lambda options: "model")
    arguments = ["up", IMAGE, ROLE, "models", "a.tar.gz", "--inference-component", "--most-instances", "2"]
    options = scope["parser"]().parse_args(arguments)
    cloudwatch = boto3.client("cloudwatch")
    monkeypatch.setattr(scope["boto3"], "client", lambda service: cloudwatch)
    with (
        Stubber(deployment.sagemaker) as sagemaker,
        Stubber(deployment.scaling) as scaling,
        Stubber(cloudwatch) as alarms,
    ):
        arn = "arn:aws:sagemaker:eu-west-1:123456789012:x/mine"
        sagemaker.add_response("create_endpoint_config", {"EndpointConfigArn": arn})
        sagemaker.add_response("create_endpoint", {"EndpointArn": arn})
        sagemaker.add_response("describe_endpoint", _endpoint(arn))
        sagemaker.add_response("create_inference_component", {"InferenceComponentArn": arn})
        scaling.add_response("register_scalable_target", {})
        scaling.add_response("put_scaling_policy", {"PolicyARN": arn})
        scaling.add_response("put_scaling_policy", {"PolicyARN": arn})
        alarms.add_response("put_metric_alarm", {}, {**_ALARM, "AlarmActions": [arn]})
        deployment.up(options)
        sagemaker.add_response("update_inference_component", {"InferenceComponentArn": arn})
        deployment.update(options)
        components = {"InferenceComponents": [_component(arn, name) for name in ("mine", "other")]}
        scaling.add_response("deregister_scalable_target", {})
        scaling.add_client_error("deregister_scalable_target", "ObjectNotFoundException", "No scalable target found")
        alarms.add_response("delete_alarms", {}, {"AlarmNames": ["mine-no-copy"]})
        sagemaker.add_response("list_inference_components", components)
        sagemaker.add_response("delete_inference_component", {}, {"InferenceComponentName": "mine"})
        sagemaker.add_response("list_inference_components", {"InferenceComponents": []})
        sagemaker.add_client_error("delete_endpoint", "ValidationException", "Cannot delete: mine is updating")
        with pytest.raises(ClientError, match="is updating"):
            deployment.delete(options)
        sagemaker.assert_no_pending_responses()
        scaling.assert_no_pending_responses()
        alarms.assert_no_pending_responses()


_ALARM = {
    "AlarmName": "mine-no-copy",
    "Namespace": "AWS/SageMaker",
    "MetricName": "NoCapacityInvocationFailures",
    "Dimensions": [{"Name": "InferenceComponentName", "Value": "mine"}],
    **dict.fromkeys("Statistic Period EvaluationPeriods Threshold ComparisonOperator TreatMissingData".split(), ANY),
}


def _endpoint(arn: str) -> dict[str, Any]:
    return {
        "EndpointName": "mine",
        "EndpointArn": arn,
        "EndpointStatus": "InService",
        "CreationTime": 0,
        "LastModifiedTime": 0,
    }


def _component(arn: str, name: str) -> dict[str, Any]:
    return {
        "InferenceComponentName": name,
        "InferenceComponentArn": arn,
        "EndpointName": "mine",
        "EndpointArn": arn,
        "VariantName": "all",
        "CreationTime": 0,
        "LastModifiedTime": 0,
    }


def test_the_readme_s_lines(aws: dict[str, str]) -> None:
    """They make an endpoint and ask it."""
    (block,) = [each for each in blocks("python", "README.md") if each.startswith("# deploy.py")]
    program = f"IMAGE, ROLE, BODY = {IMAGE!r}, {ROLE!r}, b'[[1]]'\n{block}"
    done = subprocess.run([sys.executable, "-c", program], env=aws, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert re.search("Traceback", done.stderr) is None
