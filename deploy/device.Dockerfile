# A device-class Linux: the updater, one embedder, no torch. Build from the repository's root:
#   docker build -f deploy/device.Dockerfile -t kinspace-device .
FROM python:3.11-slim
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY compat compat
COPY edge edge
COPY server_models server_models
COPY registry registry
RUN pip install --no-cache-dir '.[device]' && useradd --create-home kinspace
USER kinspace
VOLUME /home/kinspace/device
ENTRYPOINT ["kinspace", "device"]
CMD ["status", "--home", "/home/kinspace/device"]
