# Scoring, selecting, reports and `empathy serve` on a processor; examples/serving has it with Prometheus and Grafana:
#   docker build -t empathy-scorer .
#   docker run --rm --network none -v "$PWD:/data" --user "$(id -u):$(id -g)" empathy-scorer score dialogues.jsonl -o scores.parquet
FROM python:3.13-slim AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
COPY constraints.txt /tmp/
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --constraint /tmp/constraints.txt "$(ls /wheels/*.whl)[select,openvino,serve]" \
    && useradd --create-home scorer && mkdir /data && chown scorer /data
USER scorer
# Whoever runs it as another user has no home there; what was tried out is noted under /tmp then.
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1
WORKDIR /data
ENTRYPOINT ["empathy"]
CMD ["--help"]
