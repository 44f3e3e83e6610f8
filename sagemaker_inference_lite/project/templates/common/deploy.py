"""Puts the image and the models behind a SageMaker endpoint, and takes them down again. python deploy.py --help

Credentials and the region are those that boto3 finds. Everything has the name that --name gives.
"""

import argparse
import json
import re
import sys
import time
from pathlib import Path

import boto3
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError, WaiterError


def parser():
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--name", default="my-model", help="the name of everything; default: my-model")
    commands = made.add_subparsers(dest="command", required=True)
    for name, about in (("up", "make the endpoint"), ("update", "give it another image or other models")):
        command = commands.add_parser(name, help=about)
        command.add_argument("image", help="the image, as build_and_push.sh prints it")
        command.add_argument("role", help="the ARN of the role that the endpoint runs under")
        command.add_argument("bucket", help="where the archives go: BUCKET or BUCKET/PREFIX")
        command.add_argument("archives", nargs="+", type=Path, help="model.tar.gz, or several with --multi-model")
        command.add_argument("--multi-model", action="store_true", help="load models as they are asked for (TargetModel)")
        command.add_argument("--instance-type", default="ml.m5.large")
        command.add_argument("--instances", type=int, default=1, help="how many at first; default: 1")
        command.add_argument("--most-instances", type=int, help="scale up to so many as requests come")
        command.add_argument("--inference-component", action="store_true", help="scale to no instance at all while idle")
        command.add_argument("--memory-mb", type=int, default=1024, help="of an inference component's copy")
    invoke = commands.add_parser("invoke", help="ask the endpoint")
    invoke.add_argument("body")
    invoke.add_argument("--model", help="with several models: the archive's name, such as iris.tar.gz")
    invoke.add_argument("--content-type", default="application/json")
    commands.add_parser("status", help="say how the endpoint is")
    commands.add_parser("delete", help="delete what was made under that name")
    return made


class Deployment:
    """Everything of one name."""

    def __init__(self, name):
        self.name = name
        self.sagemaker = boto3.client("sagemaker")
        self.scaling = boto3.client("application-autoscaling")

    def up(self, options):
        """Makes the model, the endpoint's configuration and the endpoint, and waits until it is in service."""
        config = self._configure(options)
        self.sagemaker.create_endpoint(EndpointName=self.name, EndpointConfigName=config)
        self._wait("endpoint_in_service")
        if options.inference_component:
            self._create_component(options)
        elif options.most_instances:
            self._scale_variant(options)

    def update(self, options):
        """Gives the endpoint another configuration; it answers all the while."""
        if options.inference_component:
            model = self._create_model(options)
            self.sagemaker.update_inference_component(
                InferenceComponentName=self.name, Specification=self._specification(model, options)
            )
            return
        before = self.sagemaker.describe_endpoint(EndpointName=self.name)["EndpointConfigName"]
        self.sagemaker.update_endpoint(EndpointName=self.name, EndpointConfigName=self._configure(options))
        self._wait("endpoint_in_service")
        self._quietly(self.sagemaker.delete_endpoint_config, EndpointConfigName=before)

    def invoke(self, options):
        """Asks the endpoint, and prints what it answers."""
        more = {"TargetModel": options.model} if options.model else {}
        if not more and self._components():
            more = {"InferenceComponentName": self.name}
        answer = boto3.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=self.name, ContentType=options.content_type, Body=options.body.encode(), **more
        )
        print(answer["Body"].read().decode())

    def status(self, options):
        """Prints how the endpoint is."""
        found = self.sagemaker.describe_endpoint(EndpointName=self.name)
        print(json.dumps({"status": found["EndpointStatus"], "reason": found.get("FailureReason")}))

    def delete(self, options):
        """Deletes what this script has made under the name, and nothing else, in the order in which AWS lets it go."""
        self._stop_scaling(*self._variant_target())
        # Passes over an alarm that is not there by itself.
        boto3.client("cloudwatch").delete_alarms(AlarmNames=[f"{self.name}-no-copy"])
        if self.name in self._components():
            self._stop_scaling(*self._component_target())
            self._quietly(self.sagemaker.delete_inference_component, InferenceComponentName=self.name)
            print("waiting for the inference component to go", file=sys.stderr)
            while self.name in self._components():
                time.sleep(5)
        self._quietly(self.sagemaker.delete_endpoint, EndpointName=self.name)
        self.sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=self.name)
        pages = self.sagemaker.get_paginator("list_endpoint_configs").paginate(NameContains=self.name)
        for config in self._versions(each["EndpointConfigName"] for page in pages for each in page["EndpointConfigs"]):
            self._quietly(self.sagemaker.delete_endpoint_config, EndpointConfigName=config)
        pages = self.sagemaker.get_paginator("list_models").paginate(NameContains=self.name)
        for model in self._versions(each["ModelName"] for page in pages for each in page["Models"]):
            self._quietly(self.sagemaker.delete_model, ModelName=model)

    def _stop_scaling(self, resource, dimension):
        target = {"ServiceNamespace": "sagemaker", "ResourceId": resource, "ScalableDimension": dimension}
        self._quietly(self.scaling.deregister_scalable_target, **target)

    def _new_version(self):
        return f"{self.name}-{time.strftime('%Y%m%d-%H%M%S')}"

    def _versions(self, names):
        """Those that :meth:`_new_version` made for this name: others' may contain it."""
        return [name for name in names if re.fullmatch(re.escape(self.name) + r"-\d{8}-\d{6}", name)]

    def _create_model(self, options):
        bucket, _, prefix = options.bucket.partition("/")
        version = self._new_version()
        place = "/".join(filter(None, [prefix, version]))
        for archive in options.archives:
            print(f"{archive} -> s3://{bucket}/{place}/{archive.name}", file=sys.stderr)
            boto3.client("s3").upload_file(str(archive), bucket, f"{place}/{archive.name}")
        if options.multi_model:
            data = {"Mode": "MultiModel", "ModelDataUrl": f"s3://{bucket}/{place}/"}
        else:
            data = {"ModelDataUrl": f"s3://{bucket}/{place}/{options.archives[0].name}"}
        self.sagemaker.create_model(
            ModelName=version, ExecutionRoleArn=options.role, PrimaryContainer={"Image": options.image, **data}
        )
        return version

    def _configure(self, options):
        variant = {
            "VariantName": "all",
            "InstanceType": options.instance_type,
            "InitialInstanceCount": options.instances,
        }
        config = self._new_version()
        more = {}
        if options.inference_component:
            most = options.most_instances or options.instances
            variant["ManagedInstanceScaling"] = {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": most}
            variant["RoutingConfig"] = {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}
            more["ExecutionRoleArn"] = options.role
        else:
            config = variant["ModelName"] = self._create_model(options)
        self.sagemaker.create_endpoint_config(EndpointConfigName=config, ProductionVariants=[variant], **more)
        return config

    def _specification(self, model, options):
        needs = {"NumberOfCpuCoresRequired": 1, "MinMemoryRequiredInMb": options.memory_mb}
        return {"ModelName": model, "ComputeResourceRequirements": needs}

    def _create_component(self, options):
        model = self._create_model(options)
        self.sagemaker.create_inference_component(
            InferenceComponentName=self.name,
            EndpointName=self.name,
            VariantName="all",
            Specification=self._specification(model, options),
            RuntimeConfig={"CopyCount": 1},
        )
        metric = "SageMakerInferenceComponentInvocationsPerCopy"
        self._scale(*self._component_target(), metric, 0, options.most_instances or options.instances)

    def _component_target(self):
        return f"inference-component/{self.name}", "sagemaker:inference-component:DesiredCopyCount"

    def _variant_target(self):
        return f"endpoint/{self.name}/variant/all", "sagemaker:variant:DesiredInstanceCount"

    def _scale_variant(self, options):
        metric = "SageMakerVariantInvocationsPerInstance"
        self._scale(*self._variant_target(), metric, options.instances, options.most_instances)

    def _scale(self, resource, dimension, metric, least, most):
        about = {"ServiceNamespace": "sagemaker", "ResourceId": resource, "ScalableDimension": dimension}
        self.scaling.register_scalable_target(**about, MinCapacity=least, MaxCapacity=most)
        self.scaling.put_scaling_policy(
            **about,
            PolicyName=f"{self.name}-requests",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": 1000.0,  # requests a minute, for each
                "PredefinedMetricSpecification": {"PredefinedMetricType": metric},
            },
        )
        if least == 0:
            # Target tracking cannot begin from nothing: the first request that finds no copy brings one.
            policy = self.scaling.put_scaling_policy(
                **about,
                PolicyName=f"{self.name}-from-nothing",
                PolicyType="StepScaling",
                StepScalingPolicyConfiguration={
                    "AdjustmentType": "ChangeInCapacity",
                    "MetricAggregationType": "Maximum",
                    "Cooldown": 60,
                    "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
                },
            )
            boto3.client("cloudwatch").put_metric_alarm(
                AlarmName=f"{self.name}-no-copy",
                AlarmActions=[policy["PolicyARN"]],
                Namespace="AWS/SageMaker",
                MetricName="NoCapacityInvocationFailures",
                Dimensions=[{"Name": "InferenceComponentName", "Value": self.name}],
                Statistic="Maximum",
                Period=60,
                EvaluationPeriods=1,
                Threshold=1,
                ComparisonOperator="GreaterThanOrEqualToThreshold",
                TreatMissingData="missing",
            )

    def _components(self):
        found = self.sagemaker.list_inference_components(EndpointNameEquals=self.name)["InferenceComponents"]
        return [each["InferenceComponentName"] for each in found]

    def _wait(self, what):
        print(f"waiting for {self.name}, which takes some minutes", file=sys.stderr)
        self.sagemaker.get_waiter(what).wait(EndpointName=self.name)

    def _quietly(self, call, **arguments):
        """Passes over what is not there."""
        try:
            call(**arguments)
        except ClientError as error:
            code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
            is_missing = code == "ValidationException" and re.search("could not find|no scalable target", message, re.I)
            if not is_missing and code not in ("ResourceNotFound", "ObjectNotFoundException"):
                raise


def main():
    """Does what the command line says; the exit status."""
    options = parser().parse_args()
    if options.command in ("up", "update"):
        missing = [str(each) for each in options.archives if not each.is_file()]
        if missing:
            print(f"{', '.join(missing)}: no such file", file=sys.stderr)
            return 2
        if len(options.archives) > 1 and not options.multi_model:
            print("Several archives need --multi-model.", file=sys.stderr)
            return 2
    try:
        getattr(Deployment(options.name), options.command)(options)
    except (Boto3Error, BotoCoreError, ClientError, WaiterError) as error:
        print(f"{options.command} failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
