# SPDX-License-Identifier: Apache-2.0
# An image that has Python, pip and scikit-learn, and that then serves models saved as model.joblib.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
LABEL com.amazonaws.sagemaker.capabilities.multi-models=true \
      com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true
ARG PIP_INDEX_URL
ARG PIP_NO_INDEX
COPY dockerd-entrypoint.py wheel[s] /tmp/build/
RUN PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir --find-links /tmp/build 'sagemaker_inference_lite[jre]' \
    && sagemaker-inference-lite prepare \
    && mv /tmp/build/dockerd-entrypoint.py /usr/local/bin/ \
    && rm -r /tmp/build
ENV SAGEMAKER_HANDLER=sagemaker_inference_lite.default_handler_service
# Imported once, before the first model, and shared by the workers of all models.
ENV SAGEMAKER_MODEL_SERVER_PRELOAD=joblib,sklearn.ensemble,sklearn.linear_model,sklearn.pipeline
ENTRYPOINT ["python3", "/usr/local/bin/dockerd-entrypoint.py"]
CMD ["serve"]
