# SPDX-License-Identifier: Apache-2.0
# An image that has the Hugging Face inference toolkit, whose handler service then runs on this server, unmodified.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
LABEL com.amazonaws.sagemaker.capabilities.multi-models=true \
      com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true
# AWS's images have a Java. Where there is none: EXTRAS=jre
ARG EXTRAS=
ARG PIP_INDEX_URL
ARG PIP_NO_INDEX
COPY dockerd-entrypoint.py wheel[s] /tmp/build/
RUN PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir --find-links /tmp/build "sagemaker_inference_lite[${EXTRAS}]" \
    && sagemaker-inference-lite prepare \
    && mv /tmp/build/dockerd-entrypoint.py /usr/local/bin/ \
    && rm -r /tmp/build
ENV SAGEMAKER_HANDLER=sagemaker_huggingface_inference_toolkit.handler_service
ENTRYPOINT ["python3", "/usr/local/bin/dockerd-entrypoint.py"]
CMD ["serve"]
