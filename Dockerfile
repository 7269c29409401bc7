# Three images from one file: `--target gateway` (no torch, no onnx), `worker` (CPU), `worker-gpu`.

FROM python:3.11-slim-bookworm AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN groupadd --gid 10001 planish \
    && useradd --uid 10001 --gid planish --create-home --shell /usr/sbin/nologin planish \
    && install --directory --owner planish --group planish /data
WORKDIR /home/planish
COPY constraints.txt /etc/planish/constraints.txt

FROM base AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY planish planish
COPY app app
COPY workers workers
COPY migrations migrations
RUN pip wheel --no-deps --constraint constraints.txt --wheel-dir /wheels .

FROM base AS gateway-packages
COPY --from=wheel /wheels /wheels
RUN python -m venv /opt/planish \
    && /opt/planish/bin/pip install --constraint /etc/planish/constraints.txt \
       "$(echo /wheels/planish-*.whl)[gateway]"

FROM gateway-packages AS worker-packages
RUN /opt/planish/bin/pip install --constraint /etc/planish/constraints.txt \
       --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu \
    && /opt/planish/bin/pip install --constraint /etc/planish/constraints.txt \
       "$(echo /wheels/planish-*.whl)[worker,openvino]"
# Such as `--build-arg TOOLS="litert executorch"`: converters with a Python of their own.
ARG TOOLS=""
RUN for tool in $TOOLS; do \
        PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu /opt/planish/bin/planish tools install "$tool" \
        || exit 1; done

# torch from PyPI brings its CUDA libraries; the host needs the driver and the NVIDIA container toolkit.
FROM gateway-packages AS worker-gpu-packages
RUN /opt/planish/bin/pip install --constraint /etc/planish/constraints.txt \
       "$(echo /wheels/planish-*.whl)[worker]"

FROM base AS run
ENV PATH=/opt/planish/bin:$PATH
USER 10001:10001
STOPSIGNAL SIGTERM

FROM run AS worker
COPY --from=worker-packages /opt/planish /opt/planish
CMD ["planish", "worker"]

FROM run AS worker-gpu
COPY --from=worker-gpu-packages /opt/planish /opt/planish
CMD ["planish", "worker"]

FROM run AS gateway
COPY --from=gateway-packages /opt/planish /opt/planish
ENV SERVER_HOST=0.0.0.0 SERVER_PORT=8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
CMD ["planish", "serve"]
