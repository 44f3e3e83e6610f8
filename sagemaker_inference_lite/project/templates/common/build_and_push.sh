#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the image of this directory, or of another, and pushes it to ECR or to any other registry.
set -euo pipefail

usage() {
    cat <<'END'
Usage: build_and_push.sh [OPTIONS] NAME[:TAG] [-- DOCKER_BUILD_OPTIONS...]

Builds the image of this directory and pushes it to the repository NAME of ECR, in the account whose credentials the
aws program finds. A repository that is not there is made. TAG is "latest" unless it is given.

  --base-image IMAGE         what the image is built on; else the Dockerfile's own default
  --context DIR              build this directory instead
  --file FILE                a Dockerfile of another name, from the directory that is built
  --registry HOST[/PREFIX]   push there instead of to ECR. Nothing is asked of AWS, except for a base image in ECR that
                             the engine lacks, and docker's own logins are used.
  --region REGION            the region of ECR; else AWS_REGION, AWS_DEFAULT_REGION or that of aws configure
  --platform PLATFORM        linux/amd64 or linux/arm64; else the engine's own
  --help                     print this

In a checkout the package's wheel is built with PYTHON (else python3) and takes the place of one in wheels/. That is
done in a copy: the tree is left as it is. The pushed image, by its digest, is the only line on stdout.
END
}

# What to do where AWS refuses.
MAY="see to it that the caller's policy allows that"

# fail STATUS MESSAGE ends with one sentence.
fail() {
    printf 'build_and_push.sh: %s\n' "$2" >&2
    exit "$1"
}

misused() {
    fail 2 "$1; see build_and_push.sh --help"
}

# The last line that the last command wrote, which is where docker and aws say why.
reason() {
    local line
    line=$(sed '/^[[:space:]]*$/d' "$scratch/log" | tail -n 1 | tr -d '\r')
    printf '%s' "${line:-no reason was given}"
}

# Runs a command that is only heard of when it fails. What it prints on stdout is in $answer.
quietly() {
    answer=$("$@" 2>"$scratch/log")
}

# Runs a command that takes long, and shows what it writes.
shown() {
    "$@" 2>&1 | tee "$scratch/log"
}

read_arguments() {
    name="" base="" context="" file="Dockerfile" registry="" region="" platform="" build_options=()
    while [[ $# -gt 0 ]]; do
        case "$1" in
            --help | -h)
                usage >&3
                exit 0
                ;;
            --)
                shift
                build_options=("$@")
                break
                ;;
            --*=*)
                set -- "${1%%=*}" "${1#*=}" "${@:2}"
                continue
                ;;
            --base-image | --context | --file | --registry | --region | --platform)
                [[ -n ${2:-} && ${2:-} != "--" ]] || misused "$1 needs a value"
                set_option "$1" "$2"
                shift 2
                ;;
            -*) misused "there is no option $1, and those of docker build come after --" ;;
            *)
                [[ -z $name ]] || misused "one NAME is wanted, but there are $name and $1"
                name="$1"
                shift
                ;;
        esac
    done
    check_arguments
}

set_option() {
    case "$1" in
        --base-image) base="$2" ;;
        --context) context="$2" ;;
        --file) file="$2" ;;
        --registry) registry="${2%/}" ;;
        --region) region="$2" ;;
        --platform) platform="$2" ;;
    esac
}

check_arguments() {
    local part='[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*'
    [[ -n $name ]] || misused "the NAME of the image is missing"
    [[ $name =~ ^$part(/$part)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$ ]] ||
        misused "$name is no NAME[:TAG] of lower-case letters, digits and . _ - /"
    tag=latest
    if [[ $name == *:* ]]; then
        tag="${name##*:}"
        name="${name%:*}"
    fi
    [[ $platform =~ ^(linux/(amd64|arm64))?$ ]] ||
        misused "--platform is linux/amd64 or linux/arm64, one only, not $platform"
    [[ $registry != *://* ]] || misused "--registry is HOST[/PREFIX] without a scheme, not $registry"
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    context="${context:-$here}"
    [[ -f $context/$file ]] || misused "there is no file $context/$file to build from"
    find_base
}

# A Dockerfile that has no ARG BASE_IMAGE has a base of its own, which is left to the build.
find_base() {
    [[ -z $base ]] || return 0
    base=$(sed -n '/^ARG BASE_IMAGE=/{s/^ARG BASE_IMAGE=//p;q;}' "$context/$file" | tr -d "\"' \r")
    if [[ -z $base ]] && grep -q '^ARG BASE_IMAGE' "$context/$file"; then
        misused "$context/$file names no base image, so --base-image IMAGE is needed"
    fi
}

check_engine() {
    command -v docker >/dev/null || fail 1 "there is no docker program on PATH; install Docker"
    quietly docker version --format '{{.Server.Version}}' ||
        fail 1 "no Docker engine answers; start one, or set DOCKER_HOST to its address ($(reason))"
}

check_aws_program() {
    command -v aws >/dev/null ||
        fail 1 "there is no aws program on PATH to reach ECR with; install AWS's CLI, or name another --registry"
}

find_region() {
    region="${region:-${AWS_REGION:-${AWS_DEFAULT_REGION:-}}}"
    [[ -z $region ]] || return 0
    quietly aws configure get region || answer=""
    region="$answer"
    [[ -n $region ]] || fail 1 "no AWS region is known; give --region REGION, or set AWS_REGION"
}

# Finds the repository in ECR, or makes it. Its address is $target: ECR alone knows the domain that the region has.
find_repository() {
    check_aws_program
    find_region
    quietly aws sts get-caller-identity --region "$region" --output text ||
        fail 1 "there are no credentials that AWS accepts in $region; set them with aws configure ($(reason))"
    if ! quietly aws ecr describe-repositories --region "$region" --repository-names "$name" \
        --query 'repositories[0].repositoryUri' --output text; then
        grep -q RepositoryNotFoundException "$scratch/log" ||
            fail 1 "ECR in $region does not say whether it has the repository $name; $MAY ($(reason))"
        quietly aws ecr create-repository --region "$region" --repository-name "$name" \
            --query 'repository.repositoryUri' --output text ||
            fail 1 "ECR in $region makes no repository $name; make it, or $MAY ($(reason))"
        printf 'The repository %s has been made.\n' "$answer"
    fi
    target="$answer"
    log_in "${target%%/*}" "$region"
}

# log_in HOST REGION lets the engine read and write in a registry of ECR.
log_in() {
    quietly aws ecr get-login-password --region "$2" ||
        fail 1 "ECR in $2 gives no password for $1; $MAY ($(reason))"
    # On stdin: arguments can be seen by everybody on the machine.
    printf '%s' "$answer" | quietly docker login --username AWS --password-stdin "$1" ||
        fail 1 "the registry $1 refuses the password that ECR in $2 gave; $MAY ($(reason))"
}

has_base() {
    quietly docker image inspect --format '{{.Os}}/{{.Architecture}}' "$base" || return 1
    [[ -z $platform || $answer == "$platform" ]]
}

get_base() {
    [[ -n $base && $base != scratch ]] || return 0
    ! has_base || return 0
    local ecr='^[0-9]{12}\.dkr[.-]ecr(-fips)?\.([a-z0-9-]+)\.(amazonaws\.[a-z.]+|on\.aws)/'
    if [[ $base =~ $ecr ]]; then
        local its_region="${BASH_REMATCH[2]}"
        check_aws_program
        log_in "${base%%/*}" "$its_region"
    fi
    shown docker pull ${platform:+--platform "$platform"} "$base" ||
        fail 1 "the base image $base is not in the engine and cannot be pulled; name another --base-image ($(reason))"
    has_base || fail 1 "the base image $base is not made for ${platform:-this engine}; name another --base-image"
}

# Copies what is built, so that the tree is left as it is, and puts the checkout's wheel into it.
copy_context() {
    local checkout="${here%/*}" python="${PYTHON:-python3}"
    mkdir "$scratch/context"
    cp -R "$context/." "$scratch/context" ||
        fail 1 "the directory $context cannot be copied to $scratch; see that it can be read, and make room"
    [[ -f $checkout/setup.py && -d $checkout/sagemaker_inference_lite ]] || return 0
    mkdir "$scratch/checkout"
    (cd "$checkout" && cp -R setup.py pyproject.toml README.md LICENSE sagemaker_inference_lite "$scratch/checkout") ||
        fail 1 "the checkout $checkout lacks files that its wheel is built from; restore them"
    mkdir -p "$scratch/context/wheels"
    rm -f "$scratch/context/wheels/sagemaker_inference_lite-"*.whl
    # One date for all files, so that an unchanged checkout makes the same wheel and docker's cache is of use.
    SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-315532800}" shown "$python" -m pip --disable-pip-version-check wheel \
        --quiet --no-deps --wheel-dir "$scratch/context/wheels" "$scratch/checkout" ||
        fail 1 "$python builds no wheel of $checkout; mend what pip says, or name a PYTHON that has pip ($(reason))"
}

build() {
    local arguments=(--tag "$target:$tag" --file "$scratch/context/$file")
    [[ -z $base ]] || arguments+=(--build-arg "BASE_IMAGE=$base")
    [[ -z $platform ]] || arguments+=(--platform "$platform")
    # Where a bash older than 4.4 meets an empty array, ${array[@]} alone is an error.
    arguments+=(${build_options[@]+"${build_options[@]}"} "$scratch/context")
    local builder=(docker build)
    if docker buildx version >/dev/null 2>&1; then
        # SageMaker takes Docker's manifests only. Left alone, buildx attests and writes an OCI index.
        builder=(docker buildx build --provenance=false --sbom=false --output type=docker,oci-mediatypes=false)
    else
        export DOCKER_BUILDKIT=0
    fi
    shown "${builder[@]}" "${arguments[@]}" ||
        fail 1 "the build of $context failed and nothing was pushed to $target:$tag; mend what it says ($(reason))"
}

push() {
    shown docker push "$target:$tag" ||
        fail 1 "the registry does not take $target:$tag; see that it runs and that docker is logged in ($(reason))"
    local digest
    digest=$(sed -n 's/^.*digest: \(sha256:[0-9a-f]\{64\}\) size: .*$/\1/p' "$scratch/log" | tail -n 1)
    [[ -n $digest ]] || fail 1 "docker pushed $target:$tag but told no digest; look it up in the registry ($(reason))"
    printf '%s@%s\n' "$target" "$digest" >&3
}

main() {
    # Only what is meant for the caller reaches stdout: the line at the very end, and help that was asked for.
    exec 3>&1 1>&2
    read_arguments "$@"
    scratch=$(mktemp -d) || fail 1 "no temporary directory can be made; see to TMPDIR"
    trap 'rm -rf "$scratch"' EXIT
    check_engine
    if [[ -n $registry ]]; then
        target="$registry/$name"
    else
        find_repository
    fi
    get_base
    copy_context
    build
    push
}

main "$@"
